//! Locks that all processes share, by the seed's protocol, so that Python programs and we exclude each other.
//!
//! A lock is a lease: it ends with its TTL whatever its holder does. `docs/adr/0006` says what that is worth, and
//! what a failover does to it. [`guard`] is for work inside the service, `routes` for everybody else.

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

use self::{queue::Queues, store::Attempt};
use crate::{
    error::{Error, Result},
    ids::Resource,
    redis::ChannelWaiter,
    settings::{Time, check_between},
    store::{Redis, lock_keyspace_channel, lock_released_channel},
    tasks::Tasks,
};

/// What callers may ask of locks.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The longest that a lock may be taken or extended for at a time.
    #[serde(with = "Time")]
    pub max_ttl: Duration,
    /// The longest that a request may wait for a lock; at most `server.request_timeout` less `redis.command_timeout`.
    #[serde(with = "Time")]
    pub max_wait: Duration,
    /// Requests that may wait for locks at once; further ones are refused with 503.
    pub max_waiting: usize,
    /// How often a lock is looked at whose holder does not tell when it releases.
    #[serde(with = "Time")]
    pub check_interval: Duration,
}

impl Config {
    pub(crate) fn check(&self) -> AnyResult<()> {
        let (ms, hours) = (Duration::from_millis, Duration::from_hours);
        check_between("max_ttl", self.max_ttl, Duration::from_secs(1), hours(24))?;
        check_between("max_wait", self.max_wait, ms(0), hours(1))?;
        check_between("check_interval", self.check_interval, ms(10), ms(60_000))?;
        if self.max_waiting == 0 {
            bail!("max_waiting is 0; without a place nobody can wait");
        }
        Ok(())
    }
}

/// The locks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Locks(Arc<Inner>);

struct Inner {
    redis: Redis,
    config: Config,
    tasks: Tasks,
    queues: Queues,
    /// One for each caller that may wait.
    places: Semaphore,
    /// Cancelled when guarded work has to end, because the service does.
    draining: CancellationToken,
    guarding: TaskTracker,
}

/// A lock that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) resource: Resource,
    pub(crate) ttl: Duration,
    /// How long to wait for it; zero does not wait.
    pub(crate) wait: Duration,
}

/// A lock that is held, until its end.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) resource: Resource,
    pub(crate) token: Uuid,
    /// Larger than that of every earlier holder.
    pub(crate) fencing_token: u64,
    pub(crate) expires_at: DateTime<Utc>,
    /// Before it was granted, so that by this clock it never seems to last longer than it does.
    asked_at: Instant,
}

/// What happened to a lock; each of these passes [`Locks::note`].
#[derive(Clone, Copy, Debug)]
enum Event {
    Granted,
    Refused,
    Extended,
    Released,
    Lost,
}

impl Locks {
    pub(crate) fn new(redis: Redis, config: Config, tasks: Tasks) -> Self {
        Self(Arc::new(Inner {
            redis,
            tasks,
            queues: Queues::default(),
            places: Semaphore::new(config.max_waiting),
            config,
            draining: CancellationToken::new(),
            guarding: TaskTracker::new(),
        }))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Takes a lock, for a token of its own.
    ///
    /// Waiters of this process come to it in their order, and only the first of them asks Redis, when it is told that
    /// the lock may be free. Who does not wait does not queue.
    ///
    /// # Errors
    ///
    /// [`Error::LockUnavailable`]; [`Error::Busy`] when as many wait as may; [`Error::RedisUnavailable`].
    pub(crate) async fn acquire(&self, wanted: &Wanted) -> Result<Held> {
        Ok(self.grant(wanted).await?.keep())
    }

    async fn grant(&self, wanted: &Wanted) -> Result<Grant> {
        let asked_at = Instant::now();
        let granted = self.grant_unnoted(wanted).await;
        self.0.redis.metrics().locks.wait.observe(asked_at.elapsed().as_secs_f64());
        match &granted {
            Ok(_) => self.note(Event::Granted, &wanted.resource),
            Err(Error::LockUnavailable { .. }) => self.note(Event::Refused, &wanted.resource),
            Err(_) => (),
        }
        granted
    }

    async fn grant_unnoted(&self, wanted: &Wanted) -> Result<Grant> {
        if wanted.wait.is_zero() || !self.0.queues.has_waiters(&wanted.resource) {
            match self.attempt(wanted).await? {
                Ok(grant) => return Ok(grant),
                Err(Refusal { expires_in, .. }) if wanted.wait.is_zero() => {
                    let resource = wanted.resource.clone();
                    return Err(Error::LockUnavailable { resource, expires_in });
                }
                Err(_) => (),
            }
        }
        let _place = self
            .0
            .places
            .try_acquire()
            .map_err(|_| Error::Busy("too many callers wait for locks"))?;
        let mut last_seen = None;
        match timeout(wanted.wait, self.wait_for(wanted, &mut last_seen)).await {
            Ok(acquired) => acquired,
            Err(_) => Err(Error::LockUnavailable {
                resource: wanted.resource.clone(),
                expires_in: last_seen,
            }),
        }
    }

    async fn wait_for(&self, wanted: &Wanted, last_seen: &mut Option<Duration>) -> Result<Grant> {
        /// Of a lock whose holder is heard, in case what it said was lost.
        const LOOK_AGAIN: Duration = Duration::from_secs(5);
        /// Redis' clock has whole milliseconds.
        const JUST_AFTER: Duration = Duration::from_millis(2);
        let place = self.0.queues.join(&wanted.resource);
        let mut turn = place.turn().await;
        // Heard first and asked then, so that no release falls between.
        let bell = match turn.take() {
            Some(bell) => turn.insert(bell),
            None => turn.insert(self.bell(&wanted.resource).await),
        };
        loop {
            let refusal = match self.attempt(wanted).await? {
                Ok(grant) => return Ok(grant),
                Err(refusal) => refusal,
            };
            *last_seen = refusal.expires_in;
            let at_most = if refusal.is_heard { LOOK_AGAIN } else { self.0.config.check_interval };
            let pause = refusal.expires_in.map_or(at_most, |it| at_most.min(it + JUST_AFTER));
            tokio::select! {
                () = bell.notified() => (),
                () = sleep(pause) => (),
            }
        }
    }

    async fn bell(&self, resource: &Resource) -> ChannelWaiter {
        let mut channels = vec![lock_released_channel(resource)];
        channels.extend(lock_keyspace_channel(self.0.redis.layout(), resource));
        self.0.redis.channel_waiter(channels).await
    }

    /// Asks once, to the end even if the caller goes.
    async fn attempt(&self, wanted: &Wanted) -> Result<Result<Grant, Refusal>> {
        let (tell, told) = oneshot::channel();
        let (locks, wanted) = (self.clone(), wanted.clone());
        self.0.tasks.spawn_unguarded("lock attempt", async move {
            let (token, asked_at) = (Uuid::new_v4(), Instant::now());
            let Wanted { resource, ttl, .. } = wanted;
            let attempt = store::acquire(&locks.0.redis, &resource, token, ttl).await;
            if attempt.is_err() {
                // It may have been granted all the same.
                _ = store::release(&locks.0.redis, &resource, token).await;
            }
            // A grant that is not taken gives itself back.
            _ = tell.send(attempt.map(|it| match it {
                Attempt::Granted { fencing_token, expires_at } => {
                    let held = Held { resource, token, fencing_token, expires_at, asked_at };
                    Ok(Grant { locks, held, is_kept: false })
                }
                Attempt::Held { expires_in, is_heard } => Err(Refusal { expires_in, is_heard }),
            }));
        });
        told.await.unwrap_or_else(|_| Err(Error::Busy("the service is about to stop")))
    }

    /// Sets the remaining time of a lock. Of one that another program took there is no fencing token.
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`]; [`Error::RedisUnavailable`].
    pub(crate) async fn extend(
        &self,
        resource: &Resource,
        token: Uuid,
        ttl: Duration,
    ) -> Result<(Option<u64>, DateTime<Utc>)> {
        let extended = store::extend(&self.0.redis, resource, token, ttl).await;
        match &extended {
            Ok(_) => self.note(Event::Extended, resource),
            Err(Error::LockLost { .. }) => self.note(Event::Lost, resource),
            Err(_) => (),
        }
        extended
    }

    /// Gives a lock back, and wakes who waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`]; [`Error::RedisUnavailable`].
    pub(crate) async fn release(&self, resource: &Resource, token: Uuid) -> Result<()> {
        let released = store::release(&self.0.redis, resource, token).await;
        match &released {
            Ok(()) => self.note(Event::Released, resource),
            Err(Error::LockLost { .. }) => self.note(Event::Lost, resource),
            Err(_) => (),
        }
        released
    }

    /// The one place that knows what happens to locks.
    fn note(&self, event: Event, resource: &Resource) {
        let metrics = &self.0.redis.metrics().locks;
        match event {
            Event::Granted => metrics.acquired.inc(),
            Event::Refused => metrics.unavailable.inc(),
            Event::Extended => metrics.extended.inc(),
            Event::Released => metrics.released.inc(),
            Event::Lost => metrics.lost.inc(),
        };
        match event {
            Event::Lost => info!(%resource, "a lock was no longer its holder's"),
            event => debug!(%resource, ?event, "lock"),
        }
    }
}

/// A lock that is given back unless somebody keeps it.
struct Grant {
    locks: Locks,
    held: Held,
    is_kept: bool,
}

impl Grant {
    fn keep(mut self) -> Held {
        self.is_kept = true;
        self.held.clone()
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (locks, held) = (self.locks.clone(), self.held.clone());
        self.locks.0.tasks.spawn_unguarded("lock release", async move {
            // What cannot be given back ends with its TTL.
            _ = locks.release(&held.resource, held.token).await;
        });
    }
}

/// Why an attempt was in vain.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    expires_in: Option<Duration>,
    is_heard: bool,
}
