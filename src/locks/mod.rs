//! Locks that all processes share, with the seed's protocol, so that this service and Python programs exclude each
//! other.
//!
//! A lock is a lease: it expires with its TTL, whether its holder still works or not. `docs/adr/0006-lock-leases.md`
//! describes the guarantees, also after a failover. [`guard`] is for work inside the service, `api::locks` for clients.

mod guard;
mod queue;
mod store;

use std::{sync::Arc, time::Duration};

use anyhow::{Result as AnyResult, bail};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};
use uuid::Uuid;

use self::{queue::WaitQueues, store::AcquireReply};
use crate::{
    error::{Error, Result},
    ids::LockName,
    redis::ChannelWaiter,
    settings::{HumanDuration, validate_range},
    store::{Redis, lock_keyspace_channel, lock_released_channel},
    tasks::TaskSupervisor,
};

/// Distributed locks.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The maximum TTL of a lock, when it is acquired and when it is extended.
    #[serde(with = "HumanDuration")]
    pub max_ttl: Duration,
    /// The maximum time that a request waits for a lock; at most `server.request_timeout` minus
    /// `redis.command_timeout`.
    #[serde(with = "HumanDuration")]
    pub max_wait: Duration,
    /// The maximum number of requests that wait for locks at the same time. Further requests get 503.
    #[schemars(extend("x-tuning" = true))]
    pub max_waiting: usize,
    /// How often a waiter retries while the lock is held by a program that does not announce its release.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub check_interval: Duration,
}

impl Config {
    pub(crate) fn validate(&self) -> AnyResult<()> {
        let (ms, hours) = (Duration::from_millis, Duration::from_hours);
        validate_range("max_ttl", self.max_ttl, Duration::from_secs(1), hours(24))?;
        validate_range("max_wait", self.max_wait, ms(0), hours(1))?;
        validate_range("check_interval", self.check_interval, ms(10), ms(60_000))?;
        if self.max_waiting == 0 {
            bail!("max_waiting must be at least 1");
        }
        Ok(())
    }
}

/// Acquires, extends and releases locks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Locks(Arc<Inner>);

struct Inner {
    redis: Redis,
    config: Config,
    tasks: TaskSupervisor,
    queues: WaitQueues,
    /// One permit per waiting caller.
    wait_permits: Semaphore,
    /// Cancelled when guarded work must stop, because the service shuts down.
    draining: CancellationToken,
    guarded_work: TaskTracker,
}

/// A request for a lock.
#[derive(Clone, Debug)]
pub(crate) struct LockRequest {
    pub(crate) resource: LockName,
    pub(crate) ttl: Duration,
    /// The maximum time to wait for the lock; zero: do not wait.
    pub(crate) wait: Duration,
}

/// A lock that was acquired.
#[derive(Clone, Debug)]
pub(crate) struct LockLease {
    pub(crate) resource: LockName,
    pub(crate) token: Uuid,
    /// Larger than the token of every earlier holder.
    pub(crate) fencing_token: u64,
    pub(crate) expires_at: DateTime<Utc>,
    /// A time before the lock was acquired. The TTL is counted from here, so that the lease never seems to last longer
    /// than it does.
    requested_at: Instant,
}

/// A lock event for metrics and log; see [`Locks::record_event`].
#[derive(Clone, Copy, Debug)]
enum Event {
    Granted,
    Refused,
    Extended,
    Released,
    Lost,
}

impl Locks {
    pub(crate) fn new(redis: Redis, config: Config, tasks: TaskSupervisor) -> Self {
        Self(Arc::new(Inner {
            redis,
            tasks,
            queues: WaitQueues::default(),
            wait_permits: Semaphore::new(config.max_waiting),
            config,
            draining: CancellationToken::new(),
            guarded_work: TaskTracker::new(),
        }))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Acquires a lock with a new token.
    ///
    /// Waiters of this process queue in the order of their arrival. Only the first of them asks Redis, whenever it is
    /// notified that the lock may be free. A caller that does not wait does not queue either.
    ///
    /// # Errors
    ///
    /// [`Error::LockUnavailable`]; [`Error::Overloaded`] when too many callers wait; [`Error::RedisUnavailable`].
    pub(crate) async fn acquire(&self, request: &LockRequest) -> Result<LockLease> {
        Ok(self.acquire_guard(request).await?.into_lease())
    }

    async fn acquire_guard(&self, request: &LockRequest) -> Result<LockGuard> {
        let requested_at = Instant::now();
        let acquired = self.acquire_or_wait(request).await;
        self.0.redis.metrics().locks.wait.observe(requested_at.elapsed().as_secs_f64());
        match &acquired {
            Ok(_) => self.record_event(Event::Granted, &request.resource),
            Err(Error::LockUnavailable { .. }) => {
                self.record_event(Event::Refused, &request.resource);
            }
            Err(_) => (),
        }
        acquired
    }

    async fn acquire_or_wait(&self, request: &LockRequest) -> Result<LockGuard> {
        if request.wait.is_zero() || !self.0.queues.has_waiters(&request.resource) {
            match self.try_acquire(request).await? {
                Ok(guard) => return Ok(guard),
                Err(AcquireFailure { expires_in, .. }) if request.wait.is_zero() => {
                    let resource = request.resource.clone();
                    return Err(Error::LockUnavailable { resource, expires_in });
                }
                Err(_) => (),
            }
        }
        let _permit = self
            .0
            .wait_permits
            .try_acquire()
            .map_err(|_| Error::Overloaded("too many callers wait for locks"))?;
        let mut expires_in = None;
        match timeout(request.wait, self.wait_for(request, &mut expires_in)).await {
            Ok(acquired) => acquired,
            Err(_) => {
                Err(Error::LockUnavailable { resource: request.resource.clone(), expires_in })
            }
        }
    }

    /// Waits without limit. `expires_in` is updated with every reply.
    async fn wait_for(
        &self,
        request: &LockRequest,
        expires_in: &mut Option<Duration>,
    ) -> Result<LockGuard> {
        /// While the holder announces its release, in case that the announcement is lost.
        const POLL_INTERVAL: Duration = Duration::from_secs(5);
        /// Redis' clock has whole milliseconds.
        const CLOCK_RESOLUTION: Duration = Duration::from_millis(2);
        let ticket = self.0.queues.enqueue(&request.resource);
        let mut turn = ticket.wait_turn().await;
        // Subscribe before the first attempt, so that no release is missed in between.
        let notifier = match turn.take() {
            Some(notifier) => turn.insert(notifier),
            None => turn.insert(self.notifier(&request.resource).await),
        };
        loop {
            let failure = match self.try_acquire(request).await? {
                Ok(guard) => return Ok(guard),
                Err(failure) => failure,
            };
            *expires_in = failure.expires_in;
            let max_pause = if failure.is_release_announced {
                POLL_INTERVAL
            } else {
                self.0.config.check_interval
            };
            let pause = failure
                .expires_in
                .map_or(max_pause, |expires_in| max_pause.min(expires_in + CLOCK_RESOLUTION));
            tokio::select! {
                () = notifier.notified() => (),
                () = sleep(pause) => (),
            }
        }
    }

    async fn notifier(&self, resource: &LockName) -> ChannelWaiter {
        let mut channels = vec![lock_released_channel(resource)];
        channels.extend(lock_keyspace_channel(self.0.redis.layout(), resource));
        self.0.redis.channel_waiter(channels).await
    }

    /// One attempt. It runs to its end even if the caller is cancelled, so that no lock remains that nothing releases.
    async fn try_acquire(
        &self,
        request: &LockRequest,
    ) -> Result<Result<LockGuard, AcquireFailure>> {
        let (sender, receiver) = oneshot::channel();
        let (locks, request) = (self.clone(), request.clone());
        self.0.tasks.spawn("lock attempt", async move {
            let (token, requested_at) = (Uuid::new_v4(), Instant::now());
            let LockRequest { resource, ttl, .. } = request;
            let reply = store::acquire(&locks.0.redis, &resource, token, ttl).await;
            if reply.is_err() {
                // The lock may have been acquired nevertheless.
                _ = store::release(&locks.0.redis, &resource, token).await;
            }
            // If the receiver is gone, dropping the guard releases the lock.
            _ = sender.send(reply.map(|reply| match reply {
                AcquireReply::Granted { fencing_token, expires_at } => {
                    let lease =
                        LockLease { resource, token, fencing_token, expires_at, requested_at };
                    Ok(LockGuard { locks, lease, is_leaked: false })
                }
                AcquireReply::Held { expires_in, is_release_announced } => {
                    Err(AcquireFailure { expires_in, is_release_announced })
                }
            }));
        });
        receiver.await.unwrap_or_else(|_| Err(Error::Overloaded("the service is shutting down")))
    }

    /// Sets the remaining time of a lock. A lock that another program acquired has no fencing token.
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`]; [`Error::RedisUnavailable`].
    pub(crate) async fn extend(
        &self,
        resource: &LockName,
        token: Uuid,
        ttl: Duration,
    ) -> Result<(Option<u64>, DateTime<Utc>)> {
        let extended = store::extend(&self.0.redis, resource, token, ttl).await;
        match &extended {
            Ok(_) => self.record_event(Event::Extended, resource),
            Err(Error::LockLost { .. }) => self.record_event(Event::Lost, resource),
            Err(_) => (),
        }
        extended
    }

    /// Releases a lock and wakes the waiters of all processes.
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`]; [`Error::RedisUnavailable`].
    pub(crate) async fn release(&self, resource: &LockName, token: Uuid) -> Result<()> {
        let released = store::release(&self.0.redis, resource, token).await;
        match &released {
            Ok(()) => self.record_event(Event::Released, resource),
            Err(Error::LockLost { .. }) => self.record_event(Event::Lost, resource),
            Err(_) => (),
        }
        released
    }

    fn record_event(&self, event: Event, resource: &LockName) {
        let metrics = &self.0.redis.metrics().locks;
        match event {
            Event::Granted => metrics.acquired.inc(),
            Event::Refused => metrics.unavailable.inc(),
            Event::Extended => metrics.extended.inc(),
            Event::Released => metrics.released.inc(),
            Event::Lost => metrics.lost.inc(),
        };
        match event {
            Event::Lost => info!(%resource, "lock lost before release"),
            event => debug!(%resource, ?event, "lock event"),
        }
    }
}

/// An acquired lock that is released on drop, unless it becomes a plain lease.
struct LockGuard {
    locks: Locks,
    lease: LockLease,
    is_leaked: bool,
}

impl LockGuard {
    fn into_lease(mut self) -> LockLease {
        self.is_leaked = true;
        self.lease.clone()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.is_leaked {
            return;
        }
        let (locks, lease) = (self.locks.clone(), self.lease.clone());
        self.locks.0.tasks.spawn("lock release", async move {
            // If this fails, the lock expires with its TTL.
            _ = locks.release(&lease.resource, lease.token).await;
        });
    }
}

/// The lock is held by another holder.
#[derive(Clone, Copy, Debug)]
struct AcquireFailure {
    expires_in: Option<Duration>,
    is_release_announced: bool,
}
