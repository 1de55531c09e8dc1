//! Protection against guessed keys and tickets: failed attempts are counted per address, in Redis for all processes.
//!
//! Once an address exceeds the limit, every key is rejected, including valid ones; otherwise the response would reveal
//! a correct guess. Since one address may serve many clients, a key that succeeded from it recently keeps working.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Charge, RateLimitStatus, RateLimiter, RouteGroup, Verdict,
    policy::{Algorithm, Cost, OnRedisFailure, Policy, Scope},
};
use crate::ids::Sha256Hex;

/// The name of the built-in policy. Configured policies cannot use it.
pub(super) const NAME: &str = "failed_keys";
/// How long a successful key is remembered after its last request.
const SUCCESS_TTL: Duration = Duration::from_hours(1);
const MAX_SUCCESSES: usize = 20_000;

pub(super) struct BruteForceGuard {
    policy: Policy,
    /// The last success of each pair of address and key, by a hash that clients cannot predict.
    successes: Mutex<HashMap<u64, Instant>>,
    hasher: RandomState,
}

impl BruteForceGuard {
    /// Allows `limit` failures per address within `window`.
    pub(super) fn new(limit: NonZeroU32, window: Duration) -> Self {
        let policy = Policy {
            name: NAME.to_owned(),
            scope: Scope::Ip,
            routes: Vec::new(),
            limit,
            window,
            algorithm: Algorithm::SlidingWindow,
            cost: Cost::Request,
            on_redis_failure: OnRedisFailure::Local,
        };
        Self { policy, successes: Mutex::default(), hasher: RandomState::new() }
    }

    fn remember_success(&self, address: &str, key: &Sha256Hex) {
        let now = Instant::now();
        let mut successes = self.successes.lock();
        if successes.len() >= MAX_SUCCESSES {
            successes.retain(|_, last| now - *last < SUCCESS_TTL);
            if successes.len() >= MAX_SUCCESSES {
                // Every entry is recent. Clearing them only means that valid keys are rejected, too, if their address
                // is blocked before their next request.
                successes.clear();
            }
        }
        successes.insert(self.hasher.hash_one((address, key)), now);
    }

    fn succeeded_recently(&self, address: &str, key: &Sha256Hex) -> bool {
        let successes = self.successes.lock();
        let last = successes.get(&self.hasher.hash_one((address, key)));
        last.is_some_and(|last| last.elapsed() < SUCCESS_TTL)
    }
}

/// The credential of a request.
#[derive(Clone, Copy)]
pub(crate) enum Credential<'a> {
    /// A valid key, by its hash.
    Valid(&'a Sha256Hex),
    /// An invalid key, or a ticket, which only the handler of its route can verify.
    Invalid,
}

impl RateLimiter {
    /// The charge of one failure from `address`.
    pub(crate) fn failure_charge(&self, address: &str) -> Charge<'_> {
        let policy = &self.0.brute_force.policy;
        let limit = u64::from(policy.limit.get());
        Charge {
            policy,
            // The scope `Ip` ignores the group.
            key: policy.key(RouteGroup::Read, address),
            partition: self.0.redis.partition_for_name(address),
            limit,
            cost: 1,
        }
    }

    /// The denial, if `address` is known to have failed too often. Does not call Redis.
    pub(crate) fn blocked(&self, address: &str, shown: Credential<'_>) -> Option<RateLimitStatus> {
        let guard = &self.0.brute_force;
        let denied = self.cached_denials(&[self.failure_charge(address)]);
        match shown {
            Credential::Valid(key) if denied.is_none() => {
                guard.remember_success(address, key);
                None
            }
            Credential::Valid(key) if guard.succeeded_recently(address, key) => None,
            _ => denied,
        }
    }

    /// Counts a failed attempt and returns the denial if the limit is exceeded. While Redis is unavailable, this
    /// process counts alone.
    pub(crate) async fn record_failure(&self, charge: &Charge<'_>) -> Option<RateLimitStatus> {
        match self.decide(std::slice::from_ref(charge)).await {
            Verdict::Refused(statuses) => Some(statuses),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_is_remembered_for_its_key_and_address_only() {
        let guard = BruteForceGuard::new(NonZeroU32::MIN, Duration::from_secs(1));
        let (key, other) = (Sha256Hex::digest("a"), Sha256Hex::digest("b"));
        guard.remember_success("10.0.0.1", &key);
        assert!(guard.succeeded_recently("10.0.0.1", &key));
        assert!(!guard.succeeded_recently("10.0.0.2", &key));
        assert!(!guard.succeeded_recently("10.0.0.1", &other));
    }
}
