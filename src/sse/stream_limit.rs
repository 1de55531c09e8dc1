//! How many streams may be open: in all, from one address, and by one caller.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use crate::error::{Error, Result};
use parking_lot::Mutex;

/// Counts open streams. Cheap to clone.
#[derive(Clone)]
pub(super) struct StreamLimiter(Arc<Inner>);

struct Inner {
    limits: StreamLimits,
    hasher: RandomState,
    open: Mutex<Open>,
}

/// The limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamLimits {
    pub(super) total: usize,
    pub(super) per_ip: usize,
    pub(super) per_caller: usize,
}

#[derive(Default)]
struct Open {
    count: usize,
    /// By address and by caller, as many as there are streams at the most.
    by_requester: HashMap<u64, usize>,
}

/// Who opens a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requester<'a> {
    pub(crate) address: &'a str,
    /// The key's hash, or the ticket's job.
    pub(crate) caller: Option<&'a str>,
}

/// A connection's place; dropping it gives it back.
pub(super) struct StreamPermit {
    limiter: StreamLimiter,
    address: u64,
    caller: Option<u64>,
}

impl StreamLimiter {
    pub(super) fn new(most: StreamLimits) -> Self {
        let inner = Inner { limits: most, hasher: RandomState::new(), open: Mutex::default() };
        Self(Arc::new(inner))
    }

    /// Streams that are open.
    pub(super) fn open_count(&self) -> usize {
        self.0.open.lock().count
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// [`Error::Overloaded`] when as many streams are open as may be.
    pub(super) fn try_acquire(&self, requester: Requester<'_>) -> Result<StreamPermit> {
        let Inner { limits: most, hasher, open } = &*self.0;
        let address = hasher.hash_one(("address", requester.address));
        let caller = requester.caller.map(|it| hasher.hash_one(("caller", it)));
        let mut open = open.lock();
        let count = |it: u64| open.by_requester.get(&it).copied().unwrap_or(0);
        if open.count >= most.total {
            return Err(Error::Overloaded("too many streams are open"));
        }
        if count(address) >= most.per_ip {
            return Err(Error::Overloaded("too many streams are open from this address"));
        }
        if caller.is_some_and(|it| count(it) >= most.per_caller) {
            return Err(Error::Overloaded("too many streams are open with this key or ticket"));
        }
        open.count += 1;
        for counted in [Some(address), caller].into_iter().flatten() {
            *open.by_requester.entry(counted).or_default() += 1;
        }
        Ok(StreamPermit { limiter: self.clone(), address, caller })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.limiter.0.open.lock();
        open.count = open.count.saturating_sub(1);
        for counted in [Some(self.address), self.caller].into_iter().flatten() {
            match open.by_requester.get_mut(&counted) {
                Some(n) if *n > 1 => *n -= 1,
                _ => drop(open.by_requester.remove(&counted)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_and_places_come_back() {
        let limiter = StreamLimiter::new(StreamLimits { total: 4, per_ip: 3, per_caller: 2 });
        let enter = |address, caller| limiter.try_acquire(Requester { address, caller });
        let first = enter("a", Some("x")).ok();
        let second = enter("a", Some("x")).ok();
        assert!(first.is_some() && second.is_some());
        assert!(enter("b", Some("x")).is_err(), "the caller has two");
        let third = enter("a", None).ok();
        assert!(third.is_some());
        assert!(enter("a", Some("y")).is_err(), "the address has three");
        let fourth = enter("b", Some("y")).ok();
        assert!(fourth.is_some());
        assert!(enter("c", None).is_err(), "there are four");
        drop(first);
        assert!(enter("c", Some("x")).is_ok());
        drop((second, third, fourth));
        let open = limiter.0.open.lock();
        assert_eq!((open.count, open.by_requester.len()), (0, 0));
    }
}
