//! Equal reads at once become one.
//!
//! A read is shared by those only who came before it began: nobody is told what was so before they asked. So the first
//! reads at once, and all who come meanwhile wait for the read that begins after it.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use crate::error::{Error, Result};

/// Reads of values by their names, under way or about to begin.
pub(super) struct ReadCoalescer<K: Copy + Eq + Hash, V>(Mutex<HashMap<K, Arc<Flight<V>>>>);

/// Reads of one value, one after the other.
struct Flight<V> {
    /// Held by who reads; what the last read failed with, for those who waited for it.
    turn: AsyncMutex<Option<Error>>,
    /// Those whose read has not begun.
    next: Mutex<Waiters<V>>,
}

/// Who gets one answer.
type Waiters<V> = Arc<OnceCell<Result<V>>>;

impl<K: Copy + Eq + Hash, V> Default for ReadCoalescer<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, V: Clone> ReadCoalescer<K, V> {
    /// What `read` reads of `name`, once for all who ask for it before it begins. Whoever of them is first reads, and if
    /// that one goes away, the next.
    ///
    /// # Errors
    ///
    /// Those of `read`. Who waited while a read failed for want of Redis is told the same, and does not wait again.
    pub(super) async fn read(&self, name: K, read: impl AsyncFnOnce() -> Result<V>) -> Result<V> {
        let guard = self.join(name);
        let waiters = guard.flight.waiters().clone();
        let answer = waiters.get_or_init(async || guard.flight.run_exclusive(&waiters, read).await);
        answer.await.clone()
    }

    fn join(&self, name: K) -> EntryGuard<'_, K, V> {
        let mut flights = lock(&self.0);
        let flight = flights.entry(name).or_insert_with(|| Arc::new(Flight::new())).clone();
        EntryGuard { coalescer: self, name, flight }
    }
}

impl<V> Flight<V> {
    fn new() -> Self {
        Self { turn: AsyncMutex::default(), next: Mutex::default() }
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters<V>> {
        lock(&self.next)
    }

    /// It is too late to join it.
    fn seal(&self, waiters: &Waiters<V>) {
        let mut next = self.waiters();
        if Arc::ptr_eq(&next, waiters) {
            *next = Waiters::default();
        }
    }

    async fn run_exclusive(
        &self,
        waiters: &Waiters<V>,
        read: impl AsyncFnOnce() -> Result<V>,
    ) -> Result<V> {
        let mut turn = match self.turn.try_lock() {
            Ok(mut turn) => {
                *turn = None;
                turn
            }
            Err(_) => self.turn.lock().await,
        };
        self.seal(waiters);
        if let Some(error) = turn.take() {
            return Err(error);
        }
        let answer = read().await;
        if let Err(error @ Error::RedisUnavailable(_)) = &answer {
            *turn = Some(error.clone());
        }
        answer
    }
}

/// Somebody's in a lane, which is gone with the last of them.
struct EntryGuard<'a, K: Copy + Eq + Hash, V> {
    coalescer: &'a ReadCoalescer<K, V>,
    name: K,
    flight: Arc<Flight<V>>,
}

impl<K: Copy + Eq + Hash, V> Drop for EntryGuard<'_, K, V> {
    fn drop(&mut self) {
        const IDLE_STRONG_COUNT: usize = 2;
        let mut flights = lock(&self.coalescer.0);
        if Arc::strong_count(&self.flight) == IDLE_STRONG_COUNT
            && let Entry::Occupied(flight) = flights.entry(self.name)
        {
            flight.remove();
        }
    }
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock()
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
    async fn is_waiting(future: &mut Pin<Box<impl Future>>) -> bool {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn who_comes_while_one_reads_shares_the_next_read() {
        let (together, read_count, go) = (ReadCoalescer::default(), Cell::new(0), Notify::new());
        let read = async || {
            read_count.set(read_count.get() + 1);
            let n = read_count.get();
            go.notified().await;
            Ok(n)
        };
        let mut first = Box::pin(together.read("a", read));
        assert!(is_waiting(&mut first).await);
        let mut others = Box::pin(join_all((0..3).map(|_| together.read("a", read))));
        assert!(is_waiting(&mut others).await);
        assert_eq!(read_count.get(), 1);
        go.notify_one();
        assert_eq!(first.await.unwrap(), 1);
        assert!(is_waiting(&mut others).await);
        go.notify_one();
        assert!(others.await.into_iter().all(|it| it.unwrap() == 2));
        assert!(lock(&together.0).is_empty());
    }

    #[tokio::test]
    async fn what_is_of_another_name_is_not_waited_for() {
        let together = ReadCoalescer::default();
        let mut stuck = Box::pin(together.read("a", async || pending().await));
        assert!(is_waiting(&mut stuck).await);
        assert_eq!(together.read("b", async || Ok(1)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn if_who_reads_goes_away_the_next_one_reads() {
        let together = ReadCoalescer::default();
        let mut gone = Box::pin(together.read("a", async || pending().await));
        assert!(is_waiting(&mut gone).await);
        let mut waiting = Box::pin(together.read("a", async || pending().await));
        assert!(is_waiting(&mut waiting).await);
        let mut sharing = Box::pin(together.read("a", async || Ok(1)));
        assert!(is_waiting(&mut sharing).await);
        drop(gone);
        assert!(is_waiting(&mut waiting).await);
        drop(waiting);
        assert_eq!(sharing.await.unwrap(), 1);
        assert!(lock(&together.0).is_empty());
    }

    #[tokio::test]
    async fn an_outage_is_waited_for_once() {
        let (together, read_count, go) =
            (ReadCoalescer::<_, u8>::default(), Cell::new(0), Notify::new());
        let read = async || {
            read_count.set(read_count.get() + 1);
            go.notified().await;
            Err(Error::RedisUnavailable("away".to_owned()))
        };
        let mut first = Box::pin(together.read("a", read));
        assert!(is_waiting(&mut first).await);
        let mut others = Box::pin(join_all((0..3).map(|_| together.read("a", read))));
        assert!(is_waiting(&mut others).await);
        go.notify_one();
        assert!(first.await.is_err());
        assert!(others.await.iter().all(Result::is_err));
        assert_eq!(read_count.get(), 1);
        // Who comes later tries.
        assert_eq!(together.read("a", async || Ok(1)).await.unwrap(), 1);
    }
}
