//! Work that only one process may do at a time: its lock is renewed while it runs, and it ends when the lock is lost.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{info, warn};

use super::{Held, Locks, Wanted};
use crate::error::{Error, Result};

impl Locks {
    /// Runs `work` under a lock, if it can be had within `wanted.wait`; else, or when the service is about to stop,
    /// returns nothing. `work` is told what it holds, with the fencing token.
    ///
    /// The lock is renewed at each third of its TTL. When it is lost `work` is dropped, so that it stops at its next
    /// await: when Redis says so, or when it could not be renewed for nine tenths of its TTL. The last tenth is for
    /// clocks that differ and for what `work` has sent before. What must hold even then needs the fencing token.
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`]; those of [`Locks::acquire`] but [`Error::LockUnavailable`].
    pub(crate) async fn exclusively<T, F>(
        &self,
        wanted: &Wanted,
        work: impl FnOnce(Held) -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = T>,
    {
        let _counted = self.0.guarding.token();
        if self.0.draining.is_cancelled() {
            return Ok(None);
        }
        let granted = tokio::select! {
            granted = self.grant(wanted) => granted,
            () = self.0.draining.cancelled() => return Ok(None),
        };
        let grant = match granted {
            Ok(grant) => grant,
            Err(Error::LockUnavailable { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let held = &grant.held;
        let outcome = tokio::select! {
            done = work(held.clone()) => Some(done),
            () = self.renew_until_lost(held, wanted.ttl) => {
                warn!(resource = %held.resource, "lost a lock in the middle of what it guards");
                return Err(Error::LockLost { resource: grant.keep().resource });
            }
            () = self.0.draining.cancelled() => None,
        };
        let held = grant.keep();
        // What cannot be given back ends with its TTL.
        _ = self.release(&held.resource, held.token).await;
        Ok(outcome)
    }

    /// Ends all guarded work and gives its locks back, so that other processes need not wait for them to expire.
    pub(crate) async fn drain(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        self.0.draining.cancel();
        self.0.guarding.close();
        if timeout(PATIENCE, self.0.guarding.wait()).await.is_err() {
            info!("some locks could not be given back; they expire");
        }
    }

    async fn renew_until_lost(&self, held: &Held, ttl: Duration) {
        let surely_ours = ttl.mul_f64(0.9);
        let mut ours_until = held.asked_at + surely_ours;
        let mut pause = ttl / 3;
        loop {
            let asked_at = ours_until.min(Instant::now() + pause);
            sleep_until(asked_at).await;
            if asked_at == ours_until {
                return;
            }
            let renewal = self.extend(&held.resource, held.token, ttl);
            match timeout_at(ours_until, renewal).await {
                Ok(Ok(_)) => {
                    ours_until = asked_at + surely_ours;
                    pause = ttl / 3;
                }
                Ok(Err(Error::LockLost { .. })) | Err(_) => return,
                Ok(Err(_)) => pause = ttl / 20,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{config::Config, ids::Resource, store::Redis, tasks::Tasks};

    #[tokio::test]
    async fn a_lock_that_cannot_be_renewed_is_lost_before_it_ends() {
        const TTL: Duration = Duration::from_millis(400);
        let nowhere = ("I2M__REDIS__URL".to_owned(), "redis+unix:///nowhere/redis.sock".to_owned());
        let config = Config::load(None, [nowhere]).unwrap();
        let tasks = Tasks::default();
        let redis = Redis::start(&config.redis, &tasks).await.unwrap();
        let locks = Locks::new(redis, config.locks, tasks);
        let started = Instant::now();
        let held = Held {
            resource: Resource::internal("test"),
            token: Uuid::new_v4(),
            fencing_token: 1,
            expires_at: chrono::DateTime::default(),
            asked_at: started,
        };
        locks.renew_until_lost(&held, TTL).await;
        assert!(started.elapsed() >= TTL * 9 / 10, "{:?}", started.elapsed());
        // On a machine that is not busy it is 360 ms.
        assert!(started.elapsed() < 10 * TTL, "{:?}", started.elapsed());
    }
}
