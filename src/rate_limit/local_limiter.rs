//! Counts of this process alone, while Redis cannot be asked: fixed windows, each node its share.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
/// Who finds no room in the table shares one count with all others who do not, so a flood of callers neither grows
/// it nor gets past it.
const OTHERS: &str = "";
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What one request spends of one share.
pub(super) struct Spending<'a> {
    pub(super) key: &'a str,
    pub(super) limit: u64,
    pub(super) window: Duration,
    pub(super) cost: u64,
}

/// How a share stands after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) is_admitted: bool,
    pub(super) remaining: u64,
    /// Until the window ends.
    pub(super) left: Duration,
}

pub(super) struct LocalCounts {
    size: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    counts: HashMap<String, Count>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Count {
    used: u64,
    ends: Instant,
}

impl LocalCounts {
    pub(super) fn new(size: NonZeroUsize) -> Self {
        let inner = Inner { counts: HashMap::new(), swept: None };
        Self { size: size.get(), inner: Mutex::new(inner) }
    }

    /// Charges all of `spendings`, or none.
    pub(super) fn charge(&self, spendings: &[Spending<'_>], now: Instant) -> Vec<Share> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.make_room(self.size, now);
        let planned: Vec<(&str, Count)> = spendings
            .iter()
            .map(|it| {
                let is_full = inner.counts.len() >= self.size;
                let key =
                    if is_full && !inner.counts.contains_key(it.key) { OTHERS } else { it.key };
                let known = inner.counts.get(key).filter(|count| count.ends > now).copied();
                (key, known.unwrap_or(Count { used: 0, ends: now + it.window }))
            })
            .collect();
        let fits =
            |(it, (_, count)): (&Spending<'_>, &(&str, Count))| count.used + it.cost <= it.limit;
        let all_fit = spendings.iter().zip(&planned).all(fits);
        let mut shares = Vec::with_capacity(spendings.len());
        for (it, (key, mut count)) in spendings.iter().zip(planned) {
            let is_admitted = count.used + it.cost <= it.limit;
            if all_fit {
                count.used += it.cost;
                inner.counts.insert(key.to_owned(), count);
            }
            let remaining = it.limit.saturating_sub(count.used);
            shares.push(Share { is_admitted, remaining, left: count.ends - now });
        }
        shares
    }
}

impl Inner {
    fn make_room(&mut self, size: usize, now: Instant) {
        if self.counts.len() >= size && self.swept.is_none_or(|it| now - it >= SWEEP_EVERY) {
            self.counts.retain(|_, it| it.ends > now);
            self.swept = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn counts() -> LocalCounts {
        LocalCounts::new(NonZeroUsize::new(2).unwrap())
    }

    fn admits(counts: &LocalCounts, keys: &[&str], limit: u64, now: Instant) -> Vec<bool> {
        let spend = |key| Spending { key, limit, window: WINDOW, cost: 1 };
        let spendings: Vec<_> = keys.iter().map(|it| spend(*it)).collect();
        counts.charge(&spendings, now).iter().map(|it| it.is_admitted).collect()
    }

    #[test]
    fn a_window_ends() {
        let (counts, now) = (counts(), Instant::now());
        assert_eq!(admits(&counts, &["a"], 1, now), [true]);
        assert_eq!(admits(&counts, &["a"], 1, now), [false]);
        assert_eq!(admits(&counts, &["a"], 1, now + WINDOW), [true]);
    }

    #[test]
    fn all_are_charged_or_none() {
        let (counts, now) = (counts(), Instant::now());
        assert_eq!(admits(&counts, &["a"], 1, now), [true]);
        assert_eq!(admits(&counts, &["a", "b"], 1, now), [false, true]);
        assert_eq!(admits(&counts, &["b"], 1, now), [true]);
    }

    #[test]
    fn a_flood_of_callers_shares_one_count() {
        let (counts, now) = (counts(), Instant::now());
        for key in ["a", "b", "c"] {
            assert_eq!(admits(&counts, &[key], 1, now), [true], "{key}");
        }
        assert_eq!(admits(&counts, &["d"], 1, now), [false]);
        assert_eq!(counts.inner.lock().counts.len(), 3);
        assert_eq!(admits(&counts, &["d"], 1, now + WINDOW), [true]);
    }
}
