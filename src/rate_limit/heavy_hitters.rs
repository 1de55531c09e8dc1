//! Who calls most, by policy, for operators: counted by this process, in bounded memory however many callers there are.
//!
//! The counts are Space-Saving sketches (Metwally, Agrawal, El Abbadi 2005): a caller without a place takes the one of
//! whoever has the least, and that count with it. So nobody is counted too low, by how much too high is known, and who
//! makes more than one in `PLACES` of a policy's requests has a place.

use std::{
    collections::HashMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Charge, Origin, RateLimiter, Verdict, policy::RouteGroup};
use crate::auth::Caller;
use parking_lot::Mutex;

/// What is told is of the last one to two spans.
const SPAN: Duration = Duration::from_mins(5);
const PLACES: usize = 64;

/// Whose request it is.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) caller: Option<&'a Caller>,
    pub(crate) origin: &'a Origin,
    pub(crate) group: RouteGroup,
}

/// A caller and its count.
#[derive(Clone, Debug)]
pub(crate) struct Busy {
    pub(crate) who: Name,
    pub(crate) route: Option<RouteGroup>,
    /// What was spent.
    pub(crate) admitted: u64,
    /// What would have been spent over the limit.
    pub(crate) refused: u64,
    /// As much of the two may be of callers that had this place before.
    pub(crate) uncertain: u64,
}

/// How operators are told who it is: never by the key, nor by its whole hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Key { name: Arc<str>, hash: Box<str> },
    Address(Arc<str>),
}

pub(crate) struct Busiest(Mutex<Spans>);

struct Spans {
    began: Instant,
    /// One a policy, in the order of the settings.
    now: Vec<Sketch>,
    before: Vec<Sketch>,
    before_lasted: Duration,
}

/// By the count's key.
#[derive(Default)]
struct Sketch(HashMap<String, Busy>);

impl Busiest {
    pub(crate) fn new(n_policies: usize, now: Instant) -> Self {
        Self(Mutex::new(Spans {
            began: now,
            now: sketches(n_policies),
            before: sketches(n_policies),
            before_lasted: Duration::ZERO,
        }))
    }

    /// What is known, by policy in the order of the settings, the busiest first; and of how long.
    pub(crate) fn report(&self, at_most: usize, now: Instant) -> (Duration, Vec<Vec<Busy>>) {
        let mut spans = self.0.lock();
        spans.turn(now);
        let of_policies = spans.now.iter().zip(&spans.before).map(|(now, before)| {
            let mut all = now.joined(before);
            all.sort_by_key(|it| std::cmp::Reverse(it.total()));
            all.truncate(at_most);
            all
        });
        let lasted = now - spans.began + spans.before_lasted;
        (lasted, of_policies.collect())
    }
}

impl RateLimiter {
    /// Counts a request where it was charged, or else where it was refused.
    pub(crate) fn note_busy(&self, charges: &[Charge<'_>], verdict: &Verdict, who: Who<'_>) {
        let refusing = match verdict {
            Verdict::Admitted(_) => None,
            Verdict::Refused(standings) => Some(standings),
            Verdict::Unlimited | Verdict::Undecided(_) => return,
        };
        let refuses = |charge: &Charge<'_>| {
            let mut of = refusing.into_iter().flat_map(|it| &it.of);
            of.any(|it| it.is_refused && it.policy == charge.policy.name)
        };
        let mut spans = self.0.busiest.0.lock();
        spans.turn(Instant::now());
        for (index, policy) in self.0.config.policies.iter().enumerate() {
            let Some(charge) = charges.iter().find(|it| it.policy.name == policy.name) else {
                continue;
            };
            match (refusing.is_some(), refuses(charge)) {
                (false, _) => spans.now[index].add(charge, who, charge.cost, 0),
                (true, true) => spans.now[index].add(charge, who, 0, charge.cost),
                (true, false) => (),
            }
        }
    }
}

impl Spans {
    fn turn(&mut self, now: Instant) {
        let lasted = now.saturating_duration_since(self.began);
        if lasted < SPAN {
            return;
        }
        let fresh = sketches(self.now.len());
        self.before = mem::replace(&mut self.now, fresh);
        self.before_lasted = lasted;
        self.began = now;
    }
}

impl Sketch {
    fn add(&mut self, charge: &Charge<'_>, who: Who<'_>, admitted: u64, refused: u64) {
        if let Some(busy) = self.0.get_mut(&charge.key) {
            busy.admitted += admitted;
            busy.refused += refused;
            return;
        }
        let inherited = if self.0.len() < PLACES { 0 } else { self.make_place() };
        let busy = Busy {
            who: Name::of(charge, who),
            route: charge.policy.scope.is_of_routes().then_some(who.group),
            admitted: admitted + inherited,
            refused,
            uncertain: inherited,
        };
        self.0.insert(charge.key.clone(), busy);
    }

    /// Takes the place of whoever has the least; what that was.
    fn make_place(&mut self) -> u64 {
        let least = self.0.iter().min_by_key(|(_, it)| it.total());
        let Some((key, total)) = least.map(|(key, it)| (key.clone(), it.total())) else { return 0 };
        self.0.remove(&key);
        total
    }

    /// What somebody without a place may have spent at the most.
    fn unseen(&self) -> u64 {
        if self.0.len() < PLACES {
            return 0;
        }
        self.0.values().map(Busy::total).min().unwrap_or(0)
    }

    /// Both as one: who has a place in one alone may have been missed by the other.
    fn joined(&self, other: &Self) -> Vec<Busy> {
        let mine = self.0.iter().map(|(key, it)| match other.0.get(key) {
            Some(others) => it.plus(others.admitted, others.refused, others.uncertain),
            None => it.plus(other.unseen(), 0, other.unseen()),
        });
        let others = other.0.iter().filter(|(key, _)| !self.0.contains_key(*key));
        mine.chain(others.map(|(_, it)| it.plus(self.unseen(), 0, self.unseen()))).collect()
    }
}

impl Busy {
    fn total(&self) -> u64 {
        self.admitted + self.refused
    }

    fn plus(&self, admitted: u64, refused: u64, uncertain: u64) -> Self {
        Self {
            admitted: self.admitted + admitted,
            refused: self.refused + refused,
            uncertain: self.uncertain + uncertain,
            ..self.clone()
        }
    }
}

impl Name {
    fn of(charge: &Charge<'_>, who: Who<'_>) -> Self {
        match who.caller.filter(|_| charge.policy.scope.is_of_keys()) {
            Some(caller) => {
                Self::Key { name: caller.name.clone(), hash: caller.hash.short().into() }
            }
            None => Self::Address(who.origin.counted_as.clone()),
        }
    }
}

fn sketches(n: usize) -> Vec<Sketch> {
    (0..n).map(|_| Sketch::default()).collect()
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

    fn add(sketch: &mut Sketch, address: &str, times: u64) {
        let origin =
            Origin { address: IpAddr::from([127, 0, 0, 1]), counted_as: Arc::from(address) };
        let who = Who { caller: None, origin: &origin, group: RouteGroup::Read };
        let policy = policy();
        for _ in 0..times {
            let charge = Charge {
                policy: &policy,
                key: format!("rl:ip:{address}"),
                partition: Partition::SHARED,
                limit: 1,
                cost: 1,
            };
            sketch.add(&charge, who, 1, 0);
        }
    }

    #[test]
    fn who_calls_most_is_found_in_a_flood_of_others_and_never_counted_too_low() {
        let mut sketch = Sketch::default();
        for i in 0..5_000 {
            add(&mut sketch, &format!("10.{}.{}.1", i / 250, i % 250), 1);
            if i % 20 == 0 {
                add(&mut sketch, "192.0.2.7", 1);
            }
        }
        assert_eq!(sketch.0.len(), PLACES);
        let busy = &sketch.0["rl:ip:192.0.2.7"];
        assert_eq!(busy.who, Name::Address("192.0.2.7".into()));
        assert!((250..=250 + busy.uncertain).contains(&busy.admitted), "{busy:?}");
        assert!(busy.uncertain <= 5_250 / PLACES as u64, "{busy:?}");
    }

    #[test]
    fn two_spans_are_told_as_one_and_then_forgotten() {
        let begin = Instant::now();
        let busiest = Busiest::new(1, begin);
        let note = |address, times| add(&mut busiest.0.lock().now[0], address, times);
        note("a", 3);
        note("b", 1);
        let (_, told) = busiest.report(9, begin + SPAN);
        assert_eq!(told[0].len(), 2);
        note("b", 4);
        let (lasted, told) = busiest.report(1, begin + SPAN + Duration::from_secs(7));
        assert_eq!((told[0][0].admitted, told[0][0].uncertain), (5, 0));
        assert_eq!(lasted, SPAN + Duration::from_secs(7));
        let (_, told) = busiest.report(9, begin + SPAN * 2);
        assert_eq!(told[0].iter().map(|it| it.admitted).collect::<Vec<_>>(), [4]);
    }
}
