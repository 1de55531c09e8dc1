//! Callers known to be over a limit, so that refusing them again costs Redis nothing.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
/// A limit that was changed, or a count that was removed, is noticed after this long.
const REMEMBERED: Duration = Duration::from_mins(1);
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A bounded table. A caller that finds no room in it is refused by Redis, as before.
pub(super) struct DenyTable {
    size: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    entries: HashMap<String, Refusal>,
    swept: Option<Instant>,
}

/// What is known of one count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// When as much as was refused will be admitted.
    pub(super) until: Instant,
    /// The same by Redis' clock, in Unix seconds.
    pub(super) reset_at: u64,
    /// What was refused; less may pass.
    pub(super) cost: u64,
    /// By which limit; a higher one may let it pass.
    pub(super) limit: u64,
    /// What was left.
    pub(super) remaining: u64,
    /// When this is forgotten.
    pub(super) forgotten: Instant,
}

impl Refusal {
    pub(super) fn new(wait: Duration, reset_at: u64, cost: u64, limit: u64) -> Self {
        let now = Instant::now();
        let (until, forgotten) = (now + wait, now + wait.min(REMEMBERED));
        Self { until, reset_at, cost, limit, remaining: 0, forgotten }
    }
}

impl DenyTable {
    pub(super) fn new(size: NonZeroUsize) -> Self {
        let inner = Inner { entries: HashMap::new(), swept: None };
        Self { size: size.get(), inner: Mutex::new(inner) }
    }

    /// Why `cost` would be refused by the count in `key` and by `limit`, if that is known.
    pub(super) fn find(&self, key: &str, cost: u64, limit: u64) -> Option<Refusal> {
        let inner = self.inner.lock();
        let found = inner.entries.get(key).copied();
        let is_still_refused = |it: &Refusal| cost >= it.cost && limit <= it.limit;
        found.filter(|it| it.forgotten > Instant::now() && is_still_refused(it))
    }

    pub(super) fn remember(&self, key: &str, refusal: Refusal) {
        let mut inner = self.inner.lock();
        if inner.entries.len() >= self.size && !inner.entries.contains_key(key) {
            let now = Instant::now();
            // A table full of attackers is not looked through at each of their requests.
            if inner.swept.is_none_or(|it| now - it >= SWEEP_EVERY) {
                inner.entries.retain(|_, it| it.forgotten > now);
                inner.swept = Some(now);
            }
            if inner.entries.len() >= self.size {
                return;
            }
        }
        inner.entries.insert(key.to_owned(), refusal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(wait: Duration) -> Refusal {
        Refusal::new(wait, 0, 2, 5)
    }

    #[test]
    fn only_what_cannot_pass_is_found() {
        let table = DenyTable::new(NonZeroUsize::new(10).unwrap());
        table.remember("a", refusal(Duration::from_secs(9)));
        table.remember("over", refusal(Duration::ZERO));
        assert!(table.find("a", 2, 5).is_some() && table.find("a", 3, 5).is_some());
        assert_eq!(table.find("a", 1, 5), None, "one is left");
        assert_eq!(table.find("a", 2, 6), None, "the limit was raised");
        assert_eq!(table.find("over", 2, 5), None);
        assert_eq!(table.find("b", 2, 5), None);
    }

    #[test]
    fn the_table_is_bounded_and_makes_room() {
        let table = DenyTable::new(NonZeroUsize::new(2).unwrap());
        table.remember("over", refusal(Duration::ZERO));
        table.remember("a", refusal(Duration::from_secs(9)));
        table.remember("b", refusal(Duration::from_secs(9)));
        table.remember("c", refusal(Duration::from_secs(9)));
        let known = ["over", "a", "b", "c"].map(|it| table.find(it, 2, 5).is_some());
        assert_eq!(known, [false, true, true, false]);
        assert_eq!(table.inner.lock().entries.len(), 2);
    }
}
