//! The only way to Redis: supervised connections to its five databases, scripts, keys, subscriptions.
//!
//! Every call is bounded; see `server`. A call given up may still have been applied; see `docs/REDIS.md`.

mod address;
mod bell;
mod config;
mod durable;
mod embedded;
mod eviction;
mod family;
mod keys;
mod replicas;
mod script;
mod sentinel;
mod server;
mod slot;
mod subscriber;
mod tls;

use std::{future::Future, sync::Arc, time::Duration};

use fred::{clients::Client, types::config::Config as FredConfig};
use tokio::sync::watch;

pub(crate) use self::{
    address::Address,
    bell::Bell,
    config::{Config, Durability, EmbeddedConfig, Mode},
    family::{Family, Lifetime},
    keys::{
        ACTIVE_TASKS, API_KEYS, API_KEYS_CHANNEL, CACHED, CANCELLING, CLEANUP_REPORT, CacheKey,
        HEALTH_PROBE, METRIC_NAMES, OUTBOX, SCHEMA, SCHEMA_TTL_SECS, TASK_PREFIX, WEBHOOK_PREFIX,
        WEBHOOKS, idempotency_key, job_events_channel, job_key, job_tasks_key,
        lock_changes_channel, lock_key, lock_record_key, lock_released_channel, metric_batch_key,
        metric_keys, progress_channel, rate_limit_key, result_key, stream_changes_channel,
        stream_key, tag_keys, ticket_secret_key, user_jobs_keys,
    },
    replicas::ReplicaReport,
    script::{Retention, Script, Target},
    server::{Measured, Server},
    slot::is_answer,
    subscriber::{Signal, Subscriber},
};
use self::{address::Node, bell::Bells, durable::Durable, embedded::Embedded, replicas::Replicas};
use crate::{
    error::{Error, Result},
    metrics::Metrics,
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
    /// Where the settings ask for it: how jobs are created.
    durable: Option<Durable>,
    /// Where sentinels name replicas, and the settings let them be read.
    replicas: Option<Replicas>,
    address: Address,
    subscriber: Subscriber,
    bells: Bells,
    metrics: Arc<Metrics>,
}

/// Where the primary is, and who else has its data.
struct Place {
    address: Address,
    nodes: watch::Receiver<Vec<Node>>,
}

impl Place {
    fn fixed(server: FredConfig) -> Self {
        Self { address: Address::fixed(server), nodes: watch::channel(Vec::new()).1 }
    }
}

impl Redis {
    /// Begins to connect and returns at once; until Redis answers, calls are refused.
    ///
    /// # Errors
    ///
    /// If the settings make no sense to the client, or the embedded server does not start.
    pub(crate) async fn start(config: &Config, tasks: &Tasks) -> anyhow::Result<Self> {
        match config.effective_mode() {
            Mode::Embedded | Mode::Auto => {
                let socket = Embedded::start(&config.embedded, tasks).await?;
                Self::connect(config, Place::fixed(Config::socket(socket)), tasks)
            }
            Mode::Standalone => {
                Self::connect(config, Place::fixed(config.server(config.url.expose())?), tasks)
            }
            Mode::Sentinel => {
                let (address, nodes) = sentinel::start(config, tasks)?;
                Self::connect(config, Place { address, nodes }, tasks)
            }
        }
    }

    /// As [`Redis::start`], but where a service runs with its embedded server, beside it on the same.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub(crate) async fn join(config: &Config, tasks: &Tasks) -> anyhow::Result<Self> {
        let is_embedded = matches!(config.effective_mode(), Mode::Embedded | Mode::Auto);
        match Embedded::running(&config.embedded).filter(|_| is_embedded) {
            Some(socket) => Self::connect(config, Place::fixed(Config::socket(socket)), tasks),
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

    fn connect(config: &Config, place: Place, tasks: &Tasks) -> anyhow::Result<Self> {
        let Place { address, nodes } = place;
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
        let durable = match config.durability {
            Durability::Async => None,
            Durability::Wait => {
                let measured = Measured { metrics: &metrics.redis, name: Database::Jobs.as_str() };
                Some(Durable::start(config, &address, nodes.clone(), tasks, measured)?)
            }
        };
        let reads_replicas = config.replica_reads && address.is_followed();
        let jobs = &databases[Database::Jobs as usize];
        let replicas =
            reads_replicas.then(|| Replicas::start(config, &address, jobs.clone(), nodes, tasks));
        eviction::watch(config, jobs.clone(), tasks);
        let subscriber = Subscriber::start(
            config,
            &address,
            Vec::new(),
            tasks,
            metrics.redis.subscriber_gaps.clone(),
        )?;
        let bells = Bells::start(subscriber.clone(), tasks);
        Ok(Self(Arc::new(Inner {
            databases,
            durable,
            replicas,
            address,
            subscriber,
            bells,
            metrics,
        })))
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
    pub(crate) fn address(&self) -> &Address {
        &self.0.address
    }

    pub(crate) fn database(&self, database: Database) -> &Server {
        &self.0.databases[database as usize]
    }

    /// How writes wait for replicas, where they do.
    fn durable(&self) -> Option<&Durable> {
        self.0.durable.as_ref()
    }

    /// The replicas, as far as they may be read.
    fn replicas(&self) -> Option<&Replicas> {
        self.0.replicas.as_ref()
    }

    /// How the replicas stand; `None` where none are read.
    pub(crate) fn replica_reports(&self) -> Option<Vec<ReplicaReport>> {
        self.0.replicas.as_ref().map(Replicas::report)
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

    /// Runs `call`, which only reads or comes to the same when it is done twice, on a connection to `database`; see
    /// [`Server::read`].
    pub(crate) async fn read<T, F>(
        &self,
        database: Database,
        call: impl Fn(Client) -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, fred::error::Error>>,
    {
        self.database(database).read(call).await
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
