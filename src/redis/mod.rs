//! The only way to Redis: supervised connections to its five databases, scripts, keys, subscriptions.
//!
//! Every call is bounded: it is refused at once while its connection is known to be down, and after
//! `command_timeout` in any case. A call given up may still have been applied; see `docs/REDIS.md`.

mod config;
mod embedded;
mod keys;
mod script;
mod slot;
mod subscriber;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fred::clients::Client;

pub(crate) use self::{
    config::{Config, EmbeddedConfig, Mode},
    keys::{
        job_events_channel, progress_channel, result_key, stream_changes_channel, stream_key,
        ticket_secret_key,
    },
    script::{Retention, Script},
    subscriber::{Signal, Subscriber},
};
use self::{embedded::Embedded, slot::Slot};
use crate::{
    error::{Error, Result},
    tasks::Tasks,
};

/// The databases of the seed, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// Celery's broker.
    Queue = 0,
    /// Sessions, jobs, locks.
    Jobs = 1,
    /// Progress.
    Progress = 2,
    /// Rate limits.
    RateLimits = 3,
    /// Cached answers and metrics.
    Cache = 4,
}

impl Database {
    pub(crate) const ALL: [Self; 5] =
        [Self::Queue, Self::Jobs, Self::Progress, Self::RateLimits, Self::Cache];
}

/// The shared handle. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Redis(Arc<Inner>);

struct Inner {
    pools: [Vec<Arc<Slot>>; 5],
    next: AtomicUsize,
    command_timeout: Duration,
    subscriber: Subscriber,
}

impl Redis {
    /// Begins to connect and returns at once; until Redis answers, calls are refused.
    ///
    /// # Errors
    ///
    /// If the settings make no sense to the client, or the embedded server does not start.
    pub(crate) async fn start(config: &Config, tasks: &Tasks) -> anyhow::Result<Self> {
        let server = match config.effective_mode() {
            Mode::Embedded | Mode::Auto => {
                Config::socket(Embedded::start(&config.embedded, tasks).await?)
            }
            Mode::Standalone => config.server(config.url.expose())?,
        };
        let pool = |database: Database| -> anyhow::Result<Vec<Arc<Slot>>> {
            (0..config.pool_size).map(|_| Slot::start(config, &server, database, tasks)).collect()
        };
        let pools = [
            pool(Database::Queue)?,
            pool(Database::Jobs)?,
            pool(Database::Progress)?,
            pool(Database::RateLimits)?,
            pool(Database::Cache)?,
        ];
        let subscriber = Subscriber::start(config, &server, tasks)?;
        let next = AtomicUsize::new(0);
        Ok(Self(Arc::new(Inner {
            pools,
            next,
            command_timeout: config.command_timeout,
            subscriber,
        })))
    }

    /// The process's one subscribing connection.
    pub(crate) fn subscriber(&self) -> &Subscriber {
        &self.0.subscriber
    }

    /// Runs `call` on a connection to `database`, within `command_timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`] when no connection is up or none answered in time.
    pub(crate) async fn call<T, F>(
        &self,
        database: Database,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, fred::error::Error>>,
    {
        let client = self.client(database)?;
        // fred's own timeout does not hold for scripts, so this one stands around everything.
        match tokio::time::timeout(self.0.command_timeout, call(client)).await {
            Ok(answer) => answer.map_err(Error::from),
            Err(_) => Err(Error::RedisUnavailable(format!(
                "no answer within {:?}",
                self.0.command_timeout
            ))),
        }
    }

    /// Whether every database has a connection that answered its last ping.
    pub(crate) fn is_up(&self) -> bool {
        Database::ALL.iter().all(|it| self.client(*it).is_ok())
    }

    fn client(&self, database: Database) -> Result<Client> {
        let pool = &self.0.pools[database as usize];
        let first = self.0.next.fetch_add(1, Ordering::Relaxed);
        (0..pool.len())
            .map(|step| &pool[(first + step) % pool.len()])
            .find_map(|slot| slot.client_if_up())
            .ok_or_else(|| Error::RedisUnavailable("not connected".to_owned()))
    }
}
