//! Rate limits counted by this process alone while Redis is unavailable: fixed windows, with an equal share of each
//! limit per process.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The key of the count that all callers share that do not fit into the table, so that a flood of callers neither grows
/// the table nor evades the limit.
const OVERFLOW_KEY: &str = "";
/// The shortest time between two removals of expired windows.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);

/// The cost of one request in one policy.
pub(super) struct LocalCharge<'a> {
    pub(super) key: &'a str,
    pub(super) limit: u64,
    pub(super) window: Duration,
    pub(super) cost: u64,
}

/// The result of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LocalResult {
    pub(super) is_admitted: bool,
    pub(super) remaining: u64,
    /// The time until the window ends.
    pub(super) resets_in: Duration,
}

pub(super) struct LocalLimiter {
    max_windows: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    windows: HashMap<String, Window>,
    last_purge: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Window {
    used: u64,
    ends_at: Instant,
}

impl LocalLimiter {
    pub(super) fn new(max_windows: NonZeroUsize) -> Self {
        let inner = Inner { windows: HashMap::new(), last_purge: None };
        Self { max_windows: max_windows.get(), inner: Mutex::new(inner) }
    }

    /// Charges all of `charges`, or none.
    pub(super) fn charge(&self, charges: &[LocalCharge<'_>], now: Instant) -> Vec<LocalResult> {
        let mut inner = self.inner.lock();
        inner.purge_if_full(self.max_windows, now);
        let windows: Vec<(&str, Window)> =
            charges.iter().map(|charge| inner.window_of(charge, self.max_windows, now)).collect();
        let fits =
            |charge: &LocalCharge<'_>, window: &Window| window.used + charge.cost <= charge.limit;
        let all_fit =
            charges.iter().zip(&windows).all(|(charge, (_, window))| fits(charge, window));
        let mut results = Vec::with_capacity(charges.len());
        for (charge, (key, mut window)) in charges.iter().zip(windows) {
            let is_admitted = fits(charge, &window);
            if all_fit {
                window.used += charge.cost;
                inner.windows.insert(key.to_owned(), window);
            }
            let remaining = charge.limit.saturating_sub(window.used);
            results.push(LocalResult { is_admitted, remaining, resets_in: window.ends_at - now });
        }
        results
    }
}

impl Inner {
    fn purge_if_full(&mut self, max_windows: usize, now: Instant) {
        if self.windows.len() >= max_windows
            && self.last_purge.is_none_or(|last_purge| now - last_purge >= PURGE_INTERVAL)
        {
            self.windows.retain(|_, window| window.ends_at > now);
            self.last_purge = Some(now);
        }
    }

    /// The current window of a charge, or a new one, and its key in the table.
    fn window_of<'a>(
        &self,
        charge: &LocalCharge<'a>,
        max_windows: usize,
        now: Instant,
    ) -> (&'a str, Window) {
        let is_full = self.windows.len() >= max_windows;
        let key = if is_full && !self.windows.contains_key(charge.key) {
            OVERFLOW_KEY
        } else {
            charge.key
        };
        let current = self.windows.get(key).filter(|window| window.ends_at > now).copied();
        (key, current.unwrap_or(Window { used: 0, ends_at: now + charge.window }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn limiter() -> LocalLimiter {
        LocalLimiter::new(NonZeroUsize::new(2).unwrap())
    }

    fn admits(limiter: &LocalLimiter, keys: &[&str], limit: u64, now: Instant) -> Vec<bool> {
        let charges: Vec<_> =
            keys.iter().map(|key| LocalCharge { key, limit, window: WINDOW, cost: 1 }).collect();
        limiter.charge(&charges, now).iter().map(|result| result.is_admitted).collect()
    }

    #[test]
    fn a_count_ends_with_its_window() {
        let (limiter, now) = (limiter(), Instant::now());
        assert_eq!(admits(&limiter, &["a"], 1, now), [true]);
        assert_eq!(admits(&limiter, &["a"], 1, now), [false]);
        assert_eq!(admits(&limiter, &["a"], 1, now + WINDOW), [true]);
    }

    #[test]
    fn all_policies_are_charged_or_none() {
        let (limiter, now) = (limiter(), Instant::now());
        assert_eq!(admits(&limiter, &["a"], 1, now), [true]);
        assert_eq!(admits(&limiter, &["a", "b"], 1, now), [false, true]);
        assert_eq!(admits(&limiter, &["b"], 1, now), [true]);
    }

    #[test]
    fn callers_beyond_the_capacity_share_one_count() {
        let (limiter, now) = (limiter(), Instant::now());
        for key in ["a", "b", "c"] {
            assert_eq!(admits(&limiter, &[key], 1, now), [true], "{key}");
        }
        assert_eq!(admits(&limiter, &["d"], 1, now), [false]);
        assert_eq!(limiter.inner.lock().windows.len(), 3);
        assert_eq!(admits(&limiter, &["d"], 1, now + WINDOW), [true]);
    }
}
