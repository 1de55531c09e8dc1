//! Cached denials: a caller known to be over a limit is rejected without a call to Redis.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The longest time until a raised limit or a deleted count takes effect.
const MAX_AGE: Duration = Duration::from_mins(1);
/// The shortest time between two removals of expired entries.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);

/// A bounded table. When it is full, Redis decides about further callers.
pub(super) struct DenialCache {
    max_entries: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    entries: HashMap<String, CachedDenial>,
    last_purge: Option<Instant>,
}

/// The denial of one count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CachedDenial {
    /// When the denied cost is admitted again.
    pub(super) until: Instant,
    /// The same time by Redis' clock, in Unix seconds.
    pub(super) reset_at: u64,
    /// The denied cost. A lower cost may be admitted.
    pub(super) cost: u64,
    /// The limit at that time. A higher limit may admit the cost.
    pub(super) limit: u64,
    /// The remaining amount of the limit.
    pub(super) remaining: u64,
    /// When this entry is no longer used.
    pub(super) expires_at: Instant,
}

impl CachedDenial {
    pub(super) fn new(wait: Duration, reset_at: u64, cost: u64, limit: u64) -> Self {
        let now = Instant::now();
        let (until, expires_at) = (now + wait, now + wait.min(MAX_AGE));
        Self { until, reset_at, cost, limit, remaining: 0, expires_at }
    }

    fn applies_to(&self, cost: u64, limit: u64) -> bool {
        cost >= self.cost && limit <= self.limit && self.expires_at > Instant::now()
    }
}

impl DenialCache {
    pub(super) fn new(max_entries: NonZeroUsize) -> Self {
        let inner = Inner { entries: HashMap::new(), last_purge: None };
        Self { max_entries: max_entries.get(), inner: Mutex::new(inner) }
    }

    /// The denial of `cost` by the count in `key` and by `limit`, if it is known.
    pub(super) fn get(&self, key: &str, cost: u64, limit: u64) -> Option<CachedDenial> {
        let inner = self.inner.lock();
        inner.entries.get(key).filter(|denial| denial.applies_to(cost, limit)).copied()
    }

    pub(super) fn insert(&self, key: &str, denial: CachedDenial) {
        let mut inner = self.inner.lock();
        if inner.entries.len() >= self.max_entries && !inner.entries.contains_key(key) {
            let now = Instant::now();
            // Scanning a full table at every request would make an attack more expensive.
            if inner.last_purge.is_none_or(|last_purge| now - last_purge >= PURGE_INTERVAL) {
                inner.entries.retain(|_, denial| denial.expires_at > now);
                inner.last_purge = Some(now);
            }
            if inner.entries.len() >= self.max_entries {
                return;
            }
        }
        inner.entries.insert(key.to_owned(), denial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(wait: Duration) -> CachedDenial {
        CachedDenial::new(wait, 0, 2, 5)
    }

    #[test]
    fn only_certain_denials_are_found() {
        let cache = DenialCache::new(NonZeroUsize::new(10).unwrap());
        cache.insert("a", denial(Duration::from_secs(9)));
        cache.insert("expired", denial(Duration::ZERO));
        assert!(cache.get("a", 2, 5).is_some() && cache.get("a", 3, 5).is_some());
        assert_eq!(cache.get("a", 1, 5), None, "a lower cost may fit");
        assert_eq!(cache.get("a", 2, 6), None, "the limit was raised");
        assert_eq!(cache.get("expired", 2, 5), None);
        assert_eq!(cache.get("b", 2, 5), None);
    }

    #[test]
    fn the_table_is_bounded_and_replaces_expired_entries() {
        let cache = DenialCache::new(NonZeroUsize::new(2).unwrap());
        cache.insert("expired", denial(Duration::ZERO));
        cache.insert("a", denial(Duration::from_secs(9)));
        cache.insert("b", denial(Duration::from_secs(9)));
        cache.insert("c", denial(Duration::from_secs(9)));
        let found = ["expired", "a", "b", "c"].map(|key| cache.get(key, 2, 5).is_some());
        assert_eq!(found, [false, true, true, false]);
        assert_eq!(cache.inner.lock().entries.len(), 2);
    }
}
