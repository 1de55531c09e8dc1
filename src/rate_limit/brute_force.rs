//! Whoever tries keys is stopped: failed attempts are counted by address, in Redis for all processes together.
//!
//! An address that failed too often gets no answer to any key, else the answer to the right one would tell it. But one
//! address may be many callers, so whose key was let in from there before it began to fail goes on.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::{
    Charge, RateLimiter, Standings, Verdict,
    policy::{Algorithm, Cost, OnRedisFailure, Policy, Scope},
};
use crate::ids::Sha256Hex;
use parking_lot::Mutex;

/// The name of its limit, which no other may have.
pub(super) const NAME: &str = "failed_keys";
/// A caller is remembered for this long after it called last.
const REMEMBERED: Duration = Duration::from_hours(1);
const MAX_REMEMBERED: usize = 20_000;

pub(super) struct Guessing {
    policy: Policy,
    /// Callers at their addresses, by a hash that nobody can foresee.
    good: Mutex<HashMap<u64, Instant>>,
    hasher: RandomState,
}

impl Guessing {
    /// Lets one address fail `limit` times within `window`.
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
        Self { policy, good: Mutex::default(), hasher: RandomState::new() }
    }

    /// Remembers that `key` was let in from `address`.
    fn let_in(&self, address: &str, key: &Sha256Hex) {
        let now = Instant::now();
        let mut good = self.good.lock();
        if good.len() >= MAX_REMEMBERED {
            good.retain(|_, last| now - *last < REMEMBERED);
            if good.len() >= MAX_REMEMBERED {
                // Full of real callers. Then some of them wait with their address, should that be attacked.
                good.clear();
            }
        }
        good.insert(self.hasher.hash_one((address, key)), now);
    }

    fn is_good(&self, address: &str, key: &Sha256Hex) -> bool {
        let good = self.good.lock();
        let last = good.get(&self.hasher.hash_one((address, key)));
        last.is_some_and(|it| it.elapsed() < REMEMBERED)
    }
}

/// What somebody shows to be let in.
#[derive(Clone, Copy)]
pub(crate) enum Shown<'a> {
    /// A key that is right, by its hash.
    Good(&'a Sha256Hex),
    /// A wrong key, or a ticket, of which only its route can tell.
    Unknown,
}

impl RateLimiter {
    /// The failures of `address`, counted once more.
    pub(crate) fn failure(&self, address: &str) -> Charge<'_> {
        let policy = &self.0.guessing.policy;
        let group = crate::rate_limit::RouteGroup::Read;
        let limit = u64::from(policy.limit.get());
        Charge {
            policy,
            key: policy.key(group, address),
            partition: self.0.redis.partition_for_name(address),
            limit,
            cost: 1,
        }
    }

    /// The refusal of an address that is known to have failed too often. Asks no Redis.
    pub(crate) fn known_guesser(&self, address: &str, shown: Shown<'_>) -> Option<Standings> {
        let guessing = &self.0.guessing;
        let refusal = self.known_refusal(&[self.failure(address)]);
        match shown {
            Shown::Good(key) if refusal.is_none() => {
                guessing.let_in(address, key);
                None
            }
            Shown::Good(key) if guessing.is_good(address, key) => None,
            _ => refusal,
        }
    }

    /// Counts a failed attempt; the refusal, if there were too many. Local counts stand in for an absent Redis.
    pub(crate) async fn note_failure(&self, charge: &Charge<'_>) -> Option<Standings> {
        match self.decide(std::slice::from_ref(charge)).await {
            Verdict::Refused(standings) => Some(standings),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_known_at_its_address_only() {
        let guessing = Guessing::new(NonZeroU32::MIN, Duration::from_secs(1));
        let (key, other) = (Sha256Hex::of("a"), Sha256Hex::of("b"));
        guessing.let_in("10.0.0.1", &key);
        assert!(guessing.is_good("10.0.0.1", &key));
        assert!(!guessing.is_good("10.0.0.2", &key) && !guessing.is_good("10.0.0.1", &other));
    }
}
