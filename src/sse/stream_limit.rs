//! Limits the number of open streams: in total, per client address and per caller.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use crate::error::{Error, Result};
use parking_lot::Mutex;

/// Counts open streams and enforces the limits. Cheap to clone.
#[derive(Clone)]
pub(super) struct StreamLimiter(Arc<Inner>);

struct Inner {
    limits: StreamLimits,
    hasher: RandomState,
    open: Mutex<Open>,
}

/// Maximum numbers of open streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamLimits {
    pub(super) total: usize,
    pub(super) per_ip: usize,
    pub(super) per_caller: usize,
}

#[derive(Default)]
struct Open {
    count: usize,
    /// Counts by the hash of an address or a caller. At most two entries per open stream.
    by_requester: HashMap<u64, usize>,
}

/// The client that opens a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requester<'a> {
    pub(crate) address: &'a str,
    /// The hash of the API key, or the job of the ticket.
    pub(crate) caller: Option<&'a str>,
}

/// Counts a stream as open until it is dropped.
pub(super) struct StreamPermit {
    limiter: StreamLimiter,
    address: u64,
    caller: Option<u64>,
}

impl StreamLimiter {
    pub(super) fn new(limits: StreamLimits) -> Self {
        let inner = Inner { limits, hasher: RandomState::new(), open: Mutex::default() };
        Self(Arc::new(inner))
    }

    /// The number of open streams.
    pub(super) fn open_count(&self) -> usize {
        self.0.open.lock().count
    }

    /// Counts a stream as open.
    ///
    /// # Errors
    ///
    /// [`Error::Overloaded`] if a limit is reached.
    pub(super) fn try_acquire(&self, requester: Requester<'_>) -> Result<StreamPermit> {
        let Inner { limits, hasher, open } = &*self.0;
        let address = hasher.hash_one(("address", requester.address));
        let caller = requester.caller.map(|caller| hasher.hash_one(("caller", caller)));
        let mut open = open.lock();
        let count = |requester: u64| open.by_requester.get(&requester).copied().unwrap_or(0);
        if open.count >= limits.total {
            return Err(Error::Overloaded("too many streams are open"));
        }
        if count(address) >= limits.per_ip {
            return Err(Error::Overloaded("too many streams are open from this address"));
        }
        if caller.is_some_and(|caller| count(caller) >= limits.per_caller) {
            return Err(Error::Overloaded("too many streams are open with this key or ticket"));
        }
        open.count += 1;
        for requester in [Some(address), caller].into_iter().flatten() {
            *open.by_requester.entry(requester).or_default() += 1;
        }
        Ok(StreamPermit { limiter: self.clone(), address, caller })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.limiter.0.open.lock();
        open.count = open.count.saturating_sub(1);
        for requester in [Some(self.address), self.caller].into_iter().flatten() {
            match open.by_requester.get_mut(&requester) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(open.by_requester.remove(&requester)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_and_dropped_permits_are_released() {
        let limiter = StreamLimiter::new(StreamLimits { total: 4, per_ip: 3, per_caller: 2 });
        let acquire = |address, caller| limiter.try_acquire(Requester { address, caller });
        let first = acquire("a", Some("x")).ok();
        let second = acquire("a", Some("x")).ok();
        assert!(first.is_some() && second.is_some());
        assert!(acquire("b", Some("x")).is_err(), "the caller has two streams");
        let third = acquire("a", None).ok();
        assert!(third.is_some());
        assert!(acquire("a", Some("y")).is_err(), "the address has three streams");
        let fourth = acquire("b", Some("y")).ok();
        assert!(fourth.is_some());
        assert!(acquire("c", None).is_err(), "four streams are open");
        drop(first);
        assert!(acquire("c", Some("x")).is_ok());
        drop((second, third, fourth));
        let open = limiter.0.open.lock();
        assert_eq!((open.count, open.by_requester.len()), (0, 0));
    }
}
