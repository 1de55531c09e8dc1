//! Rate-limit headers of a response: the de facto standard `X-RateLimit-*`, and `RateLimit` and `RateLimit-Policy` of
//! draft-ietf-httpapi-ratelimit-headers-10.

use std::fmt::Write as _;

use super::{Charge, RateLimitStatus, ceil_secs};

/// Names and values. The values are those of the most restrictive policy, as the draft requires.
pub(crate) fn rate_limit_headers(
    charges: &[Charge<'_>],
    statuses: &RateLimitStatus,
) -> Vec<(&'static str, String)> {
    let mut headers = Vec::with_capacity(6);
    if let Some(status) = statuses.most_restrictive() {
        headers.push(("x-ratelimit-limit", status.limit.to_string()));
        headers.push(("x-ratelimit-remaining", status.remaining.to_string()));
        headers.push(("x-ratelimit-reset", status.reset_at.to_string()));
        let wait_secs = ceil_secs(status.wait);
        let rate_limit = format!("\"{}\";r={};t={wait_secs}", status.policy, status.remaining);
        headers.push(("ratelimit", rate_limit));
    }
    headers.push(("ratelimit-policy", policies(charges)));
    if statuses.is_degraded {
        headers.push(("x-ratelimit-degraded", "true".to_owned()));
    }
    headers
}

/// The value of `RateLimit-Policy`. Policy names contain no characters that need escapes.
fn policies(charges: &[Charge<'_>]) -> String {
    charges.iter().fold(String::new(), |mut text, charge| {
        let comma = if text.is_empty() { "" } else { ", " };
        let window = ceil_secs(charge.policy.window);
        _ = write!(text, "{comma}\"{}\";q={};w={window}", charge.policy.name, charge.limit);
        text
    })
}
