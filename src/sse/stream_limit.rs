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
pub(super) struct Places(Arc<Inner>);

struct Inner {
    most: Most,
    hasher: RandomState,
    open: Mutex<Open>,
}

/// The limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) in_all: usize,
    pub(super) of_an_address: usize,
    pub(super) of_a_caller: usize,
}

#[derive(Default)]
struct Open {
    n: usize,
    /// By address and by caller, as many as there are streams at the most.
    of: HashMap<u64, usize>,
}

/// Who opens a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub(crate) address: &'a str,
    /// The key's hash, or the ticket's job.
    pub(crate) caller: Option<&'a str>,
}

/// A connection's place; dropping it gives it back.
pub(super) struct Place {
    places: Places,
    address: u64,
    caller: Option<u64>,
}

impl Places {
    pub(super) fn new(most: Most) -> Self {
        let inner = Inner { most, hasher: RandomState::new(), open: Mutex::default() };
        Self(Arc::new(inner))
    }

    /// Streams that are open.
    pub(super) fn n_open(&self) -> usize {
        self.0.open.lock().n
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when as many streams are open as may be.
    pub(super) fn enter(&self, who: Who<'_>) -> Result<Place> {
        let Inner { most, hasher, open } = &*self.0;
        let address = hasher.hash_one(("address", who.address));
        let caller = who.caller.map(|it| hasher.hash_one(("caller", it)));
        let mut open = open.lock();
        let count = |it: u64| open.of.get(&it).copied().unwrap_or(0);
        if open.n >= most.in_all {
            return Err(Error::Busy("too many streams are open"));
        }
        if count(address) >= most.of_an_address {
            return Err(Error::Busy("too many streams are open from this address"));
        }
        if caller.is_some_and(|it| count(it) >= most.of_a_caller) {
            return Err(Error::Busy("too many streams are open with this key or ticket"));
        }
        open.n += 1;
        for counted in [Some(address), caller].into_iter().flatten() {
            *open.of.entry(counted).or_default() += 1;
        }
        Ok(Place { places: self.clone(), address, caller })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.0.open.lock();
        open.n = open.n.saturating_sub(1);
        for counted in [Some(self.address), self.caller].into_iter().flatten() {
            match open.of.get_mut(&counted) {
                Some(n) if *n > 1 => *n -= 1,
                _ => drop(open.of.remove(&counted)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_and_places_come_back() {
        let places = Places::new(Most { in_all: 4, of_an_address: 3, of_a_caller: 2 });
        let enter = |address, caller| places.enter(Who { address, caller });
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
        let open = places.0.open.lock();
        assert_eq!((open.n, open.of.len()), (0, 0));
    }
}
