//! Coalesces concurrent reads of the same value (`docs/adr/0013-read-coalescing.md`).
//!
//! Only callers that arrived before a read started share its result, so no caller observes a value older than its
//! request. The first caller reads immediately; callers that arrive during this read wait for the next one.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use crate::error::{Error, Result};

/// The running and pending reads, by the name of the value.
pub(super) struct ReadCoalescer<K: Copy + Eq + Hash, V>(Mutex<HashMap<K, Arc<Flight<V>>>>);

/// The reads of one value, one after the other.
struct Flight<V> {
    /// Locked during a read. Contains the error of the last read, for the callers that waited for it.
    read_lock: AsyncMutex<Option<Error>>,
    /// The callers of the next read, which has not started.
    next: Mutex<Waiters<V>>,
}

/// The callers that share one result.
type Waiters<V> = Arc<OnceCell<Result<V>>>;

impl<K: Copy + Eq + Hash, V> Default for ReadCoalescer<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, V: Clone> ReadCoalescer<K, V> {
    /// Returns the result of `read`, which runs once for all callers that ask for `name` before it starts. The first
    /// of them runs it; if that caller is dropped, the next one does.
    ///
    /// # Errors
    ///
    /// The errors of `read`. Callers that waited for a read that failed because Redis was unavailable get the same
    /// error and do not wait again.
    pub(super) async fn read(&self, name: K, read: impl AsyncFnOnce() -> Result<V>) -> Result<V> {
        let entry = self.join(name);
        let waiters = entry.flight.next_waiters().clone();
        let result = waiters.get_or_init(async || entry.flight.run_exclusive(&waiters, read).await);
        result.await.clone()
    }

    fn join(&self, name: K) -> EntryGuard<'_, K, V> {
        let mut flights = self.0.lock();
        let flight = flights.entry(name).or_insert_with(|| Arc::new(Flight::new())).clone();
        EntryGuard { coalescer: self, name, flight }
    }
}

impl<V> Flight<V> {
    fn new() -> Self {
        Self { read_lock: AsyncMutex::default(), next: Mutex::default() }
    }

    fn next_waiters(&self) -> MutexGuard<'_, Waiters<V>> {
        self.next.lock()
    }

    /// Lets later callers wait for another read.
    fn seal(&self, waiters: &Waiters<V>) {
        let mut next = self.next_waiters();
        if Arc::ptr_eq(&next, waiters) {
            *next = Waiters::default();
        }
    }

    async fn run_exclusive(
        &self,
        waiters: &Waiters<V>,
        read: impl AsyncFnOnce() -> Result<V>,
    ) -> Result<V> {
        let mut last_error = match self.read_lock.try_lock() {
            Ok(mut last_error) => {
                *last_error = None;
                last_error
            }
            Err(_) => self.read_lock.lock().await,
        };
        self.seal(waiters);
        if let Some(error) = last_error.take() {
            return Err(error);
        }
        let result = read().await;
        if let Err(error @ Error::RedisUnavailable(_)) = &result {
            *last_error = Some(error.clone());
        }
        result
    }
}

/// Removes the entry of a value from the map when its last caller leaves.
struct EntryGuard<'a, K: Copy + Eq + Hash, V> {
    coalescer: &'a ReadCoalescer<K, V>,
    name: K,
    flight: Arc<Flight<V>>,
}

impl<K: Copy + Eq + Hash, V> Drop for EntryGuard<'_, K, V> {
    fn drop(&mut self) {
        /// The reference of this guard and the one of the map.
        const IDLE_STRONG_COUNT: usize = 2;
        let mut flights = self.coalescer.0.lock();
        if Arc::strong_count(&self.flight) == IDLE_STRONG_COUNT
            && let Entry::Occupied(entry) = flights.entry(self.name)
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::{pending, poll_fn},
        pin::Pin,
        task::Poll,
    };

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    /// Polls once.
    async fn is_pending(future: &mut Pin<Box<impl Future>>) -> bool {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn callers_that_arrive_during_a_read_share_the_next_read() {
        let (coalescer, read_count, go) = (ReadCoalescer::default(), Cell::new(0), Notify::new());
        let read = async || {
            read_count.set(read_count.get() + 1);
            let read_number = read_count.get();
            go.notified().await;
            Ok(read_number)
        };
        let mut first = Box::pin(coalescer.read("a", read));
        assert!(is_pending(&mut first).await);
        let mut others = Box::pin(join_all((0..3).map(|_| coalescer.read("a", read))));
        assert!(is_pending(&mut others).await);
        assert_eq!(read_count.get(), 1);
        go.notify_one();
        assert_eq!(first.await.unwrap(), 1);
        assert!(is_pending(&mut others).await);
        go.notify_one();
        assert!(others.await.into_iter().all(|result| result.unwrap() == 2));
        assert!(coalescer.0.lock().is_empty());
    }

    #[tokio::test]
    async fn reads_of_different_names_do_not_wait_for_each_other() {
        let coalescer = ReadCoalescer::default();
        let mut stuck = Box::pin(coalescer.read("a", async || pending().await));
        assert!(is_pending(&mut stuck).await);
        assert_eq!(coalescer.read("b", async || Ok(1)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn the_next_caller_reads_if_the_reading_caller_is_dropped() {
        let coalescer = ReadCoalescer::default();
        let mut dropped = Box::pin(coalescer.read("a", async || pending().await));
        assert!(is_pending(&mut dropped).await);
        let mut waiting = Box::pin(coalescer.read("a", async || pending().await));
        assert!(is_pending(&mut waiting).await);
        let mut sharing = Box::pin(coalescer.read("a", async || Ok(1)));
        assert!(is_pending(&mut sharing).await);
        drop(dropped);
        assert!(is_pending(&mut waiting).await);
        drop(waiting);
        assert_eq!(sharing.await.unwrap(), 1);
        assert!(coalescer.0.lock().is_empty());
    }

    #[tokio::test]
    async fn waiting_callers_get_the_error_of_an_outage_without_another_read() {
        let (coalescer, read_count, go) =
            (ReadCoalescer::<_, u8>::default(), Cell::new(0), Notify::new());
        let read = async || {
            read_count.set(read_count.get() + 1);
            go.notified().await;
            Err(Error::RedisUnavailable("away".to_owned()))
        };
        let mut first = Box::pin(coalescer.read("a", read));
        assert!(is_pending(&mut first).await);
        let mut others = Box::pin(join_all((0..3).map(|_| coalescer.read("a", read))));
        assert!(is_pending(&mut others).await);
        go.notify_one();
        assert!(first.await.is_err());
        assert!(others.await.iter().all(Result::is_err));
        assert_eq!(read_count.get(), 1);
        // A later caller reads again.
        assert_eq!(coalescer.read("a", async || Ok(1)).await.unwrap(), 1);
    }
}
