//! The callers with the most requests per policy, for operators: counted per process, in bounded memory for any number
//! of callers.
//!
//! The counts are Space-Saving sketches (Metwally, Agrawal, El Abbadi 2005). When the sketch is full, a new caller
//! replaces the one with the lowest count and inherits that count. A count is therefore never too low, the bound of its
//! error is known, and every caller with more than one in [`CAPACITY`] of a policy's requests is in the sketch.

use std::{
    collections::HashMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Charge, RateLimiter, Requester, Verdict, policy::RouteGroup};
use crate::auth::Caller;

/// A report covers one to two windows.
const WINDOW: Duration = Duration::from_mins(5);
/// Callers per sketch.
const CAPACITY: usize = 64;

/// The requester of a request, and the group of its route.
#[derive(Clone, Copy)]
pub(crate) struct RequestContext<'a> {
    pub(crate) caller: Option<&'a Caller>,
    pub(crate) origin: &'a Requester,
    pub(crate) group: RouteGroup,
}

/// A caller and its counts.
#[derive(Clone, Debug)]
pub(crate) struct TopCaller {
    pub(crate) caller: CallerId,
    pub(crate) route: Option<RouteGroup>,
    /// The cost of admitted requests.
    pub(crate) admitted: u64,
    /// The cost of rejected requests.
    pub(crate) refused: u64,
    /// The part of the two counts that may belong to replaced callers.
    pub(crate) error_bound: u64,
}

/// The name of a caller for operators. It contains neither the key nor its whole hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallerId {
    Key { name: Arc<str>, hash: Box<str> },
    Address(Arc<str>),
}

pub(super) struct HeavyHitters(Mutex<Windows>);

struct Windows {
    current_started: Instant,
    /// One sketch per policy, in the order of the settings.
    current: Vec<SpaceSaving>,
    previous: Vec<SpaceSaving>,
    previous_length: Duration,
}

/// Counts by the Redis key of the charge.
#[derive(Default)]
struct SpaceSaving(HashMap<String, TopCaller>);

impl HeavyHitters {
    pub(super) fn new(policy_count: usize, now: Instant) -> Self {
        Self(Mutex::new(Windows {
            current_started: now,
            current: empty_sketches(policy_count),
            previous: empty_sketches(policy_count),
            previous_length: Duration::ZERO,
        }))
    }

    /// The period that the report covers, and up to `max_callers` callers per policy, highest count first. Policies are
    /// in the order of the settings.
    pub(super) fn report(
        &self,
        max_callers: usize,
        now: Instant,
    ) -> (Duration, Vec<Vec<TopCaller>>) {
        let mut windows = self.0.lock();
        windows.rotate(now);
        let sketches = windows.current.iter().zip(&windows.previous);
        let callers = sketches.map(|(current, previous)| {
            let mut callers = current.merge(previous);
            callers.sort_by_key(|caller| std::cmp::Reverse(caller.total()));
            callers.truncate(max_callers);
            callers
        });
        let period = now - windows.current_started + windows.previous_length;
        (period, callers.collect())
    }
}

impl RateLimiter {
    /// Adds an admitted request to the counts of all its charges, and a rejected one to those of the charges that
    /// rejected it.
    pub(super) fn record_usage(
        &self,
        charges: &[Charge<'_>],
        verdict: &Verdict,
        requester: RequestContext<'_>,
    ) {
        let rejecting = match verdict {
            Verdict::Admitted(_) => None,
            Verdict::Refused(statuses) => Some(statuses),
            Verdict::Unlimited | Verdict::Unavailable(_) => return,
        };
        let rejects = |charge: &Charge<'_>| {
            let mut statuses = rejecting.into_iter().flat_map(|statuses| &statuses.policies);
            statuses.any(|status| status.is_refused && status.policy == charge.policy.name)
        };
        let mut windows = self.0.heavy_hitters.0.lock();
        windows.rotate(Instant::now());
        for (index, policy) in self.0.config.policies.iter().enumerate() {
            let Some(charge) = charges.iter().find(|charge| charge.policy.name == policy.name)
            else {
                continue;
            };
            let sketch = &mut windows.current[index];
            if rejecting.is_none() {
                sketch.record(charge, requester, charge.cost, 0);
            } else if rejects(charge) {
                sketch.record(charge, requester, 0, charge.cost);
            }
        }
    }
}

impl Windows {
    fn rotate(&mut self, now: Instant) {
        let length = now.saturating_duration_since(self.current_started);
        if length < WINDOW {
            return;
        }
        let empty = empty_sketches(self.current.len());
        self.previous = mem::replace(&mut self.current, empty);
        self.previous_length = length;
        self.current_started = now;
    }
}

impl SpaceSaving {
    fn record(
        &mut self,
        charge: &Charge<'_>,
        requester: RequestContext<'_>,
        admitted: u64,
        refused: u64,
    ) {
        if let Some(caller) = self.0.get_mut(&charge.key) {
            caller.admitted += admitted;
            caller.refused += refused;
            return;
        }
        let inherited = if self.0.len() < CAPACITY { 0 } else { self.evict_min() };
        let caller = TopCaller {
            caller: CallerId::for_charge(charge, requester),
            route: charge.policy.scope.is_per_route().then_some(requester.group),
            admitted: admitted + inherited,
            refused,
            error_bound: inherited,
        };
        self.0.insert(charge.key.clone(), caller);
    }

    /// Removes the caller with the lowest count and returns that count.
    fn evict_min(&mut self) -> u64 {
        let min = self.0.iter().min_by_key(|(_, caller)| caller.total());
        let Some((key, total)) = min.map(|(key, caller)| (key.clone(), caller.total())) else {
            return 0;
        };
        self.0.remove(&key);
        total
    }

    /// The highest count that a caller outside the sketch can have.
    fn min_count(&self) -> u64 {
        if self.0.len() < CAPACITY {
            return 0;
        }
        self.0.values().map(TopCaller::total).min().unwrap_or(0)
    }

    /// The sum of both sketches. A caller that is in one sketch only may have been evicted from the other, so the
    /// other's lowest count is added to it as uncertain.
    fn merge(&self, other: &Self) -> Vec<TopCaller> {
        let own = self.0.iter().map(|(key, caller)| match other.0.get(key) {
            Some(same) => caller.plus(same.admitted, same.refused, same.error_bound),
            None => caller.plus(other.min_count(), 0, other.min_count()),
        });
        let missing = other.0.iter().filter(|(key, _)| !self.0.contains_key(*key));
        let missing = missing.map(|(_, caller)| caller.plus(self.min_count(), 0, self.min_count()));
        own.chain(missing).collect()
    }
}

impl TopCaller {
    fn total(&self) -> u64 {
        self.admitted + self.refused
    }

    fn plus(&self, admitted: u64, refused: u64, uncertain: u64) -> Self {
        Self {
            admitted: self.admitted + admitted,
            refused: self.refused + refused,
            error_bound: self.error_bound + uncertain,
            ..self.clone()
        }
    }
}

impl CallerId {
    fn for_charge(charge: &Charge<'_>, requester: RequestContext<'_>) -> Self {
        match requester.caller.filter(|_| charge.policy.scope.is_per_key()) {
            Some(caller) => {
                Self::Key { name: caller.name.clone(), hash: caller.hash.prefix().into() }
            }
            None => Self::Address(requester.origin.counted_as.clone()),
        }
    }
}

fn empty_sketches(count: usize) -> Vec<SpaceSaving> {
    (0..count).map(|_| SpaceSaving::default()).collect()
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, num::NonZeroU32};

    use super::*;
    use crate::{
        rate_limit::policy::{Algorithm, Cost, OnRedisFailure, Policy, Scope},
        store::Partition,
    };

    fn policy() -> Policy {
        Policy {
            name: "ip".to_owned(),
            scope: Scope::Ip,
            routes: Vec::new(),
            limit: NonZeroU32::MIN,
            window: Duration::from_secs(1),
            algorithm: Algorithm::FixedWindow,
            cost: Cost::Request,
            on_redis_failure: OnRedisFailure::Open,
        }
    }

    fn record(sketch: &mut SpaceSaving, address: &str, count: u64) {
        let origin =
            Requester { address: IpAddr::from([127, 0, 0, 1]), counted_as: Arc::from(address) };
        let requester = RequestContext { caller: None, origin: &origin, group: RouteGroup::Read };
        let policy = policy();
        for _ in 0..count {
            let charge = Charge {
                policy: &policy,
                key: format!("rl:ip:{address}"),
                partition: Partition::SHARED,
                limit: 1,
                cost: 1,
            };
            sketch.record(&charge, requester, 1, 0);
        }
    }

    #[test]
    fn a_heavy_hitter_is_found_among_many_callers_and_its_count_is_never_too_low() {
        let mut sketch = SpaceSaving::default();
        for i in 0..5_000 {
            record(&mut sketch, &format!("10.{}.{}.1", i / 250, i % 250), 1);
            if i % 20 == 0 {
                record(&mut sketch, "192.0.2.7", 1);
            }
        }
        assert_eq!(sketch.0.len(), CAPACITY);
        let caller = &sketch.0["rl:ip:192.0.2.7"];
        assert_eq!(caller.caller, CallerId::Address("192.0.2.7".into()));
        assert!((250..=250 + caller.error_bound).contains(&caller.admitted), "{caller:?}");
        assert!(caller.error_bound <= 5_250 / CAPACITY as u64, "{caller:?}");
    }

    #[test]
    fn a_report_covers_two_windows() {
        let start = Instant::now();
        let heavy_hitters = HeavyHitters::new(1, start);
        let record =
            |address, count| record(&mut heavy_hitters.0.lock().current[0], address, count);
        record("a", 3);
        record("b", 1);
        let (_, report) = heavy_hitters.report(9, start + WINDOW);
        assert_eq!(report[0].len(), 2);
        record("b", 4);
        let (period, report) = heavy_hitters.report(1, start + WINDOW + Duration::from_secs(7));
        assert_eq!((report[0][0].admitted, report[0][0].error_bound), (5, 0));
        assert_eq!(period, WINDOW + Duration::from_secs(7));
        let (_, report) = heavy_hitters.report(9, start + WINDOW * 2);
        assert_eq!(report[0].iter().map(|caller| caller.admitted).collect::<Vec<_>>(), [4]);
    }
}
