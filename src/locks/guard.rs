//! Work that only one process may do at a time, under a lock that is renewed while the work runs. The work stops when
//! the lock is lost.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{info, warn};

use super::{LockLease, LockRequest, Locks};
use crate::error::{Error, Result};

impl Locks {
    /// Runs `work` under a lock. Returns `None` if the lock is not acquired within `wanted.wait`, or if the service is
    /// shutting down. `work` gets the lease, which contains the fencing token.
    ///
    /// The lock is renewed after each third of its TTL. When the lock is lost, `work` is dropped and so stops at its
    /// next await. A lock is lost when Redis reports so, or when it could not be renewed for nine tenths of its TTL.
    /// The last tenth allows for clock drift and for requests that `work` has already sent. Invariants that must hold
    /// even beyond that need the fencing token.
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`]; those of [`Locks::acquire`] except [`Error::LockUnavailable`].
    pub(crate) async fn with_lock<T, F>(
        &self,
        request: &LockRequest,
        work: impl FnOnce(LockLease) -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = T>,
    {
        let _token = self.0.guarded_work.token();
        if self.0.draining.is_cancelled() {
            return Ok(None);
        }
        let acquired = tokio::select! {
            acquired = self.acquire_guard(request) => acquired,
            () = self.0.draining.cancelled() => return Ok(None),
        };
        let guard = match acquired {
            Ok(guard) => guard,
            Err(Error::LockUnavailable { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let lease = &guard.lease;
        let outcome = tokio::select! {
            output = work(lease.clone()) => Some(output),
            () = self.renew_until_lost(lease, request.ttl) => {
                warn!(resource = %lease.resource, "lock lost before release; the guarded work was stopped");
                return Err(Error::LockLost { resource: guard.into_lease().resource });
            }
            () = self.0.draining.cancelled() => None,
        };
        let lease = guard.into_lease();
        // If this fails, the lock expires with its TTL.
        _ = self.release(&lease.resource, lease.token).await;
        Ok(outcome)
    }

    /// Stops all guarded work and releases its locks, so that other processes need not wait until they expire.
    pub(crate) async fn drain(&self) {
        const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
        self.0.draining.cancel();
        self.0.guarded_work.close();
        if timeout(RELEASE_TIMEOUT, self.0.guarded_work.wait()).await.is_err() {
            info!("some locks could not be released at shutdown; they expire with their TTL");
        }
    }

    async fn renew_until_lost(&self, lease: &LockLease, ttl: Duration) {
        let safe_ttl = ttl.mul_f64(0.9);
        let mut safe_until = lease.requested_at + safe_ttl;
        let mut interval = ttl / 3;
        loop {
            let requested_at = safe_until.min(Instant::now() + interval);
            sleep_until(requested_at).await;
            if requested_at == safe_until {
                return;
            }
            let renewal = self.extend(&lease.resource, lease.token, ttl);
            match timeout_at(safe_until, renewal).await {
                Ok(Ok(_)) => {
                    safe_until = requested_at + safe_ttl;
                    interval = ttl / 3;
                }
                Ok(Err(Error::LockLost { .. })) | Err(_) => return,
                Ok(Err(_)) => interval = ttl / 20,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{config::Config, ids::LockName, store::Redis, tasks::TaskSupervisor};

    #[tokio::test]
    async fn a_lock_that_cannot_be_renewed_is_lost_before_it_expires() {
        const TTL: Duration = Duration::from_millis(400);
        let unreachable =
            ("I2M__REDIS__URL".to_owned(), "redis+unix:///nowhere/redis.sock".to_owned());
        let config = Config::load(None, [unreachable]).unwrap();
        let tasks = TaskSupervisor::default();
        let redis = Redis::start(&config.redis, &tasks).await.unwrap();
        let locks = Locks::new(redis, config.locks, tasks);
        let started = Instant::now();
        let lease = LockLease {
            resource: LockName::reserved("test"),
            token: Uuid::new_v4(),
            fencing_token: 1,
            expires_at: chrono::DateTime::default(),
            requested_at: started,
        };
        locks.renew_until_lost(&lease, TTL).await;
        assert!(started.elapsed() >= TTL * 9 / 10, "{:?}", started.elapsed());
        // On an idle machine it is 360 ms.
        assert!(started.elapsed() < 10 * TTL, "{:?}", started.elapsed());
    }
}
