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
use tokio::sync::{Mutex as Turn, OnceCell};

use crate::error::{Error, Result};

/// Reads of values by their names, under way or about to begin.
pub(super) struct Together<K: Copy + Eq + Hash, V>(Mutex<HashMap<K, Arc<Lane<V>>>>);

/// Reads of one value, one after the other.
struct Lane<V> {
    /// Held by who reads; what the last read failed with, for those who waited for it.
    turn: Turn<Option<Error>>,
    /// Those whose read has not begun.
    next: Mutex<Group<V>>,
}

/// Who gets one answer.
type Group<V> = Arc<OnceCell<Result<V>>>;

impl<K: Copy + Eq + Hash, V> Default for Together<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Together<K, V> {
    /// What `read` reads of `name`, once for all who ask for it before it begins. Whoever of them is first reads, and if
    /// that one goes away, the next.
    ///
    /// # Errors
    ///
    /// Those of `read`. Who waited while a read failed for want of Redis is told the same, and does not wait again.
    pub(super) async fn read(&self, name: K, read: impl AsyncFnOnce() -> Result<V>) -> Result<V> {
        let place = self.enter(name);
        let group = place.lane.group().clone();
        let answer = group.get_or_init(async || place.lane.read_in_turn(&group, read).await);
        answer.await.clone()
    }

    fn enter(&self, name: K) -> Place<'_, K, V> {
        let mut lanes = lock(&self.0);
        let lane = lanes.entry(name).or_insert_with(|| Arc::new(Lane::new())).clone();
        Place { all: self, name, lane }
    }
}

impl<V> Lane<V> {
    fn new() -> Self {
        Self { turn: Turn::default(), next: Mutex::default() }
    }

    fn group(&self) -> MutexGuard<'_, Group<V>> {
        lock(&self.next)
    }

    /// It is too late to join it.
    fn close(&self, group: &Group<V>) {
        let mut next = self.group();
        if Arc::ptr_eq(&next, group) {
            *next = Group::default();
        }
    }

    async fn read_in_turn(
        &self,
        group: &Group<V>,
        read: impl AsyncFnOnce() -> Result<V>,
    ) -> Result<V> {
        let mut turn = match self.turn.try_lock() {
            Ok(mut turn) => {
                *turn = None;
                turn
            }
            Err(_) => self.turn.lock().await,
        };
        self.close(group);
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
struct Place<'a, K: Copy + Eq + Hash, V> {
    all: &'a Together<K, V>,
    name: K,
    lane: Arc<Lane<V>>,
}

impl<K: Copy + Eq + Hash, V> Drop for Place<'_, K, V> {
    fn drop(&mut self) {
        const OURS_AND_THE_MAPS: usize = 2;
        let mut lanes = lock(&self.all.0);
        if Arc::strong_count(&self.lane) == OURS_AND_THE_MAPS
            && let Entry::Occupied(lane) = lanes.entry(self.name)
        {
            lane.remove();
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
        let (together, n_reads, go) = (Together::default(), Cell::new(0), Notify::new());
        let read = async || {
            n_reads.set(n_reads.get() + 1);
            let n = n_reads.get();
            go.notified().await;
            Ok(n)
        };
        let mut first = Box::pin(together.read("a", read));
        assert!(is_waiting(&mut first).await);
        let mut others = Box::pin(join_all((0..3).map(|_| together.read("a", read))));
        assert!(is_waiting(&mut others).await);
        assert_eq!(n_reads.get(), 1);
        go.notify_one();
        assert_eq!(first.await.unwrap(), 1);
        assert!(is_waiting(&mut others).await);
        go.notify_one();
        assert!(others.await.into_iter().all(|it| it.unwrap() == 2));
        assert!(lock(&together.0).is_empty());
    }

    #[tokio::test]
    async fn what_is_of_another_name_is_not_waited_for() {
        let together = Together::default();
        let mut stuck = Box::pin(together.read("a", async || pending().await));
        assert!(is_waiting(&mut stuck).await);
        assert_eq!(together.read("b", async || Ok(1)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn if_who_reads_goes_away_the_next_one_reads() {
        let together = Together::default();
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
        let (together, n_reads, go) = (Together::<_, u8>::default(), Cell::new(0), Notify::new());
        let read = async || {
            n_reads.set(n_reads.get() + 1);
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
        assert_eq!(n_reads.get(), 1);
        // Who comes later tries.
        assert_eq!(together.read("a", async || Ok(1)).await.unwrap(), 1);
    }
}
