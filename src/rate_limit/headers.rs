//! What an answer says of the limits: the `X-RateLimit-*` that everybody knows, and `RateLimit` and
//! `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers-10.

use std::fmt::Write as _;

use super::{Charge, Standings, ceil_secs};

/// Names and values. The tightest policy speaks for all, as the draft demands.
pub(crate) fn of(charges: &[Charge<'_>], standings: &Standings) -> Vec<(&'static str, String)> {
    let mut headers = Vec::with_capacity(6);
    if let Some(it) = standings.tightest() {
        headers.push(("x-ratelimit-limit", it.limit.to_string()));
        headers.push(("x-ratelimit-remaining", it.remaining.to_string()));
        headers.push(("x-ratelimit-reset", it.reset_at.to_string()));
        let rate_limit = format!("\"{}\";r={};t={}", it.policy, it.remaining, ceil_secs(it.wait));
        headers.push(("ratelimit", rate_limit));
    }
    headers.push(("ratelimit-policy", policies(charges)));
    if standings.is_degraded {
        headers.push(("x-ratelimit-degraded", "true".to_owned()));
    }
    headers
}

/// Names need no escapes: they have none of the characters that would.
fn policies(charges: &[Charge<'_>]) -> String {
    charges.iter().fold(String::new(), |mut text, it| {
        let comma = if text.is_empty() { "" } else { ", " };
        let window = ceil_secs(it.policy.window);
        _ = write!(text, "{comma}\"{}\";q={};w={window}", it.policy.name, it.limit);
        text
    })
}
