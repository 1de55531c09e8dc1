//! The only way to Redis: supervised connections to its five databases, scripts, keys, subscriptions.
//!
//! Every call is bounded: it is refused at once while its connection is known to be down, and after
//! `command_timeout` in any case. A call given up may still have been applied; see `docs/REDIS.md`.

mod bell;
mod config;
mod embedded;
mod family;
mod keys;
mod lease;
mod script;
mod slot;
mod subscriber;
mod tls;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::Client,
    interfaces::ClientLike as _,
    types::{CustomCommand, config::Config as FredConfig},
};

use tokio::time::timeout;
use tracing::{Instrument as _, Span, field::Empty, info_span};

pub(crate) use self::{
    bell::Bell,
    config::{Config, EmbeddedConfig, Mode},
    family::{Family, Lifetime},
    keys::{
        ACTIVE_TASKS, API_KEYS, API_KEYS_CHANNEL, CACHED, CANCELLING, CLEANUP_LOCK, CLEANUP_REPORT, CacheKey, HEALTH_PROBE,
        METRIC_NAMES, OUTBOX, SCHEMA, SCHEMA_LOCK, SCHEMA_TTL_SECS, TASK_PREFIX, WEBHOOK_PREFIX,
        WEBHOOKS, idempotency_key, job_events_channel, job_key, job_tasks_key,
        lock_changes_channel, lock_key, lock_record_key, lock_released_channel, metric_batch_key,
        metric_keys, progress_channel, rate_limit_key, result_key, stream_changes_channel,
        stream_key, tag_keys, ticket_secret_key, user_jobs_keys,
    },
    lease::Lease,
    script::{Retention, Script, Target},
    slot::is_answer,
    subscriber::{Signal, Subscriber},
};
use self::{bell::Bells, embedded::Embedded, slot::Slot};
use crate::{
    error::{Error, Result},
    metrics::{CallOutcome, Metrics, RedisMetrics, ServerMetrics},
    tasks::Tasks,
    traces::TARGET,
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

    /// Its name in metrics and reports.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Jobs => "jobs",
            Self::Progress => "progress",
            Self::RateLimits => "rate_limits",
            Self::Cache => "cache",
        }
    }
}

/// The shared handle. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Redis(Arc<Inner>);

struct Inner {
    databases: [Server; 5],
    address: FredConfig,
    subscriber: Subscriber,
    bells: Bells,
    metrics: Arc<Metrics>,
}

impl Redis {
    /// Begins to connect and returns at once; until Redis answers, calls are refused.
    ///
    /// # Errors
    ///
    /// If the settings make no sense to the client, or the embedded server does not start.
    pub(crate) async fn start(config: &Config, tasks: &Tasks) -> anyhow::Result<Self> {
        let address = match config.effective_mode() {
            Mode::Embedded | Mode::Auto => {
                Config::socket(Embedded::start(&config.embedded, tasks).await?)
            }
            Mode::Standalone => config.server(config.url.expose())?,
        };
        Self::connect(config, address, tasks)
    }

    /// As [`Redis::start`], but where a service runs with its embedded server, beside it on the same.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub(crate) async fn join(config: &Config, tasks: &Tasks) -> anyhow::Result<Self> {
        let is_embedded = matches!(config.effective_mode(), Mode::Embedded | Mode::Auto);
        match Embedded::running(&config.embedded).filter(|_| is_embedded) {
            Some(socket) => Self::connect(config, Config::socket(socket), tasks),
            None => Self::start(config, tasks).await,
        }
    }

    /// Waits until Redis is up, for at most `patience`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn until_up(&self, patience: Duration) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(10);
        let up = async {
            while !self.is_up() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let waited = tokio::time::timeout(patience, up).await;
        waited.map_err(|_| Error::RedisUnavailable(format!("no answer within {patience:?}")))
    }

    fn connect(config: &Config, address: FredConfig, tasks: &Tasks) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let database = |it: Database| {
            let measured = Measured { metrics: &metrics.redis, name: it.as_str() };
            Server::start(config, &address, it as u8, tasks, measured)
        };
        let databases = [
            database(Database::Queue)?,
            database(Database::Jobs)?,
            database(Database::Progress)?,
            database(Database::RateLimits)?,
            database(Database::Cache)?,
        ];
        let subscriber = Subscriber::start(
            config,
            &address,
            Vec::new(),
            tasks,
            metrics.redis.subscriber_gaps.clone(),
        )?;
        let bells = Bells::start(subscriber.clone(), tasks);
        Ok(Self(Arc::new(Inner { databases, address, subscriber, bells, metrics })))
    }

    /// A bell that rings when something is said on one of `channels`, from the return of this on.
    pub(crate) async fn bell(&self, channels: Vec<String>) -> Bell {
        self.0.bells.hang(channels).await
    }

    /// What the process measures, for every part that has this handle.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The process's one connection that subscribes to channels of jobs.
    pub(crate) fn subscriber(&self) -> &Subscriber {
        &self.0.subscriber
    }

    /// Where Redis is, for connections of other kinds.
    pub(crate) fn address(&self) -> &FredConfig {
        &self.0.address
    }

    pub(crate) fn database(&self, database: Database) -> &Server {
        &self.0.databases[database as usize]
    }

    /// Runs `call` on a connection to `database`; see [`Server::call`].
    pub(crate) async fn call<T, F>(
        &self,
        database: Database,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, fred::error::Error>>,
    {
        self.database(database).call(call).await
    }

    /// Whether every database has a connection that answered its last ping, and subscriptions are heard.
    pub(crate) fn is_up(&self) -> bool {
        self.parts().all(|(_, is_up)| is_up)
    }

    /// What [`Redis::is_up`] is made of, by name.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let databases = Database::ALL.iter().map(|it| (it.as_str(), self.database(*it).is_up()));
        databases.chain([("subscriptions", self.0.subscriber.is_up())])
    }
}

/// Connections to one database of one server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Server {
    pool: Arc<[Arc<Slot>]>,
    next: Arc<AtomicUsize>,
    command_timeout: Duration,
    metrics: Arc<ServerMetrics>,
    /// In metrics and traces.
    name: &'static str,
    database: u8,
}

/// Under which name calls to a server are measured.
#[derive(Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) metrics: &'a RedisMetrics,
    pub(crate) name: &'static str,
}

impl Server {
    pub(crate) fn start(
        config: &Config,
        address: &FredConfig,
        database: u8,
        tasks: &Tasks,
        measured: Measured<'_>,
    ) -> anyhow::Result<Self> {
        let slots = (0..config.pool_size).map(|_| {
            let metrics = measured.metrics.connection(measured.name);
            Slot::start(config, address, database, tasks, metrics)
        });
        Ok(Self {
            pool: slots.collect::<anyhow::Result<_>>()?,
            next: Arc::default(),
            command_timeout: config.command_timeout,
            metrics: Arc::new(measured.metrics.server(measured.name)),
            name: measured.name,
            database,
        })
    }

    /// Runs `call` on a connection, within `command_timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`] when no connection is up or none answered in time.
    pub(crate) async fn call<T, F>(&self, call: impl FnOnce(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, fred::error::Error>>,
    {
        let (started, _held) = self.metrics.begin();
        let span = self.span();
        let (outcome, answer) = match self.client() {
            // fred's own timeout does not hold for scripts, so this one stands around everything.
            Ok(client) => {
                match timeout(self.command_timeout, call(client)).instrument(span.clone()).await {
                    Ok(Ok(answer)) => (CallOutcome::Answered, Ok(answer)),
                    Ok(Err(error)) => (CallOutcome::Failed, Err(Error::from(error))),
                    Err(_) => (CallOutcome::TimedOut, Err(self.timed_out())),
                }
            }
            Err(error) => (CallOutcome::NotConnected, Err(error)),
        };
        if answer.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        self.metrics.end(started, outcome);
        answer
    }

    /// A call's part of the trace that it belongs to.
    fn span(&self) -> Span {
        info_span!(
            target: TARGET,
            "redis",
            otel.kind = "client",
            otel.name = self.name,
            db.system.name = "redis",
            db.namespace = self.database,
            otel.status_code = Empty,
        )
    }

    fn timed_out(&self) -> Error {
        Error::RedisUnavailable(format!("no answer within {:?}", self.command_timeout))
    }

    /// The shared clock: Unix milliseconds by Redis' `TIME`.
    ///
    /// # Errors
    ///
    /// As [`Server::call`].
    pub(crate) async fn now_ms(&self) -> Result<u64> {
        let time = CustomCommand::new_static("TIME", None, false);
        let no_args = Vec::<String>::new();
        let (secs, micros): (u64, u64) =
            self.call(|client| async move { client.custom(time, no_args).await }).await?;
        Ok(secs * 1000 + micros / 1000)
    }

    fn is_up(&self) -> bool {
        self.client().is_ok()
    }

    fn client(&self) -> Result<Client> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.pool.len())
            .map(|step| &self.pool[(first + step) % self.pool.len()])
            .find_map(|slot| slot.client_if_up())
            .ok_or_else(|| Error::RedisUnavailable("not connected".to_owned()))
    }
}
