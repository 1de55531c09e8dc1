//! The status of a caller in each policy after a request, as reported in headers and by `/api/v1/rate-limits`.

use std::time::Duration;

use super::{Charge, store};

/// The status of a caller in one policy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyStatus {
    pub(crate) policy: String,
    pub(crate) limit: u64,
    pub(crate) window: Duration,
    pub(crate) remaining: u64,
    /// The time until the whole limit is available again; for a rejected request, until it would be admitted.
    pub(crate) wait: Duration,
    /// When `wait` ends, in Unix seconds.
    pub(crate) reset_at: u64,
    pub(crate) is_refused: bool,
}

#[derive(Default)]
pub(crate) struct RateLimitStatus {
    pub(crate) policies: Vec<PolicyStatus>,
    /// The decision was made without Redis.
    pub(crate) is_degraded: bool,
}

impl RateLimitStatus {
    /// The most restrictive policy: of those that reject the request the one with the longest wait, else the one with
    /// the lowest remaining amount.
    pub(crate) fn most_restrictive(&self) -> Option<&PolicyStatus> {
        let rejecting = self.policies.iter().filter(|status| status.is_refused);
        rejecting
            .max_by_key(|status| status.wait)
            .or_else(|| self.policies.iter().min_by_key(|status| status.remaining))
    }
}

impl Charge<'_> {
    /// The status of this policy with its whole limit available.
    pub(super) fn full(&self) -> PolicyStatus {
        PolicyStatus {
            policy: self.policy.name.clone(),
            limit: self.limit,
            window: self.policy.window,
            remaining: self.limit,
            wait: Duration::ZERO,
            reset_at: 0,
            is_refused: false,
        }
    }
}

pub(super) fn statuses(charges: &[Charge<'_>], reply: &store::ChargeReply) -> RateLimitStatus {
    let policies = charges.iter().zip(&reply.counts).map(|(charge, count)| {
        let is_refused = !count.retry.is_zero();
        let wait = if is_refused { count.retry } else { count.reset };
        PolicyStatus {
            remaining: count.remaining,
            wait,
            reset_at: unix_secs(reply.now_ms, wait),
            is_refused,
            ..charge.full()
        }
    });
    RateLimitStatus { policies: policies.collect(), is_degraded: false }
}

/// The end of `wait` in Unix seconds, rounded up.
pub(super) fn unix_secs(now_ms: u64, wait: Duration) -> u64 {
    (now_ms + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 2)).div_ceil(1000)
}

/// Whole seconds, rounded up.
pub(crate) fn ceil_secs(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
