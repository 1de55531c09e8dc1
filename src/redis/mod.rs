//! The only way to Redis: supervised connections to its five databases or to a cluster, scripts, keys, subscriptions.
//!
//! Every call is bounded; see `server`. A call given up may still have been applied; see `docs/REDIS.md`.

mod address;
mod attempt;
mod bell;
mod cluster;
mod config;
mod due;
mod durable;
mod embedded;
mod eviction;
mod family;
mod keys;
mod partition;
mod place;
mod replicas;
mod script;
mod sentinel;
mod server;
mod slot;
mod subscriber;
mod tls;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fred::types::config::Config as FredConfig;
use tokio::sync::watch;

pub(crate) use self::{
    address::Address,
    bell::Bell,
    config::{Config, Durability, EmbeddedConfig, Mode},
    due::oldest,
    family::{Family, Lifetime},
    keys::{
        ACTIVE_TASKS, API_KEYS, API_KEYS_CHANNEL, CACHED, CANCELLING, CLEANUP_REPORT, CacheKey,
        HEALTH_PROBE, LISTING, METRIC_NAMES, OUTBOX, SCHEMA, SCHEMA_TTL_SECS, TASK_PREFIX,
        WEBHOOK_PREFIX, WEBHOOKS, idempotency_key, job_events_channel, job_key, job_tasks_key,
        lock_changes_channel, lock_key, lock_partition, lock_record_key, lock_released_channel,
        metric_batch_key, metric_keys, progress_channel, rate_limit_key, result_key,
        stream_changes_channel, stream_key, tag_keys, ticket_secret_key, user_jobs_keys,
    },
    partition::{Layout, Partition},
    place::Place,
    replicas::ReplicaReport,
    script::{Retention, Script, Target},
    server::{Measured, Server},
    slot::is_answer,
    subscriber::{Signal, Subscriber},
};
use self::{
    address::Node, bell::Bells, cluster::Cluster, durable::Durable, embedded::Embedded,
    replicas::Replicas,
};
use crate::{
    error::{Error, Result},
    observability::metrics::Metrics,
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
    home: Home,
    layout: Layout,
    subscriber: Subscriber,
    bells: Bells,
    metrics: Arc<Metrics>,
}

/// Who has the data.
enum Home {
    Numbered(Box<Numbered>),
    Cluster(Cluster),
}

/// One server at a time, with numbered databases.
struct Numbered {
    databases: [Server; 5],
    /// Where the settings ask for it: how jobs are created.
    durable: Option<Durable>,
    /// Where sentinels name replicas, and the settings let them be read.
    replicas: Option<Replicas>,
    address: Address,
}

impl Numbered {
    fn database(&self, database: Database) -> &Server {
        &self.databases[database as usize]
    }
}

/// Where the primary is, and who else has its data.
struct Whereabouts {
    address: Address,
    nodes: watch::Receiver<Vec<Node>>,
}

impl Whereabouts {
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
                Self::connect(config, Whereabouts::fixed(Config::socket(socket)), tasks)
            }
            Mode::Standalone => Self::connect(
                config,
                Whereabouts::fixed(config.server(config.url.expose())?),
                tasks,
            ),
            Mode::Sentinel => {
                let (address, nodes) = sentinel::start(config, tasks)?;
                Self::connect(config, Whereabouts { address, nodes }, tasks)
            }
            Mode::Cluster => {
                let metrics = Arc::new(Metrics::new());
                let (cluster, address) = Cluster::start(config, &metrics, tasks)?;
                Self::with(config, Home::Cluster(cluster), &address, metrics, tasks)
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
            Some(socket) => {
                Self::connect(config, Whereabouts::fixed(Config::socket(socket)), tasks)
            }
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

    fn connect(config: &Config, primary: Whereabouts, tasks: &Tasks) -> anyhow::Result<Self> {
        let Whereabouts { address, nodes } = primary;
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
        let jobs = databases[Database::Jobs as usize].clone();
        let durable = match config.durability {
            Durability::Async => None,
            Durability::Wait => {
                let measured = Measured { metrics: &metrics.redis, name: Database::Jobs.as_str() };
                let place = (&address, Database::Jobs as u8);
                Some(Durable::start(config, place, nodes.clone(), tasks, measured)?)
            }
        };
        let reads_replicas = config.replica_reads && address.is_followed();
        let replicas =
            reads_replicas.then(|| Replicas::start(config, &address, jobs, nodes, tasks));
        let numbered = Numbered { databases, durable, replicas, address: address.clone() };
        Self::with(config, Home::Numbered(Box::new(numbered)), &address, metrics, tasks)
    }

    /// `address` is where subscriptions are made.
    fn with(
        config: &Config,
        home: Home,
        address: &Address,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let layout = config.layout();
        let subscriber = Subscriber::start(
            config,
            address,
            Vec::new(),
            tasks,
            metrics.redis.subscriber_gaps.clone(),
        )?;
        let bells = Bells::start(subscriber.clone(), tasks);
        let redis = Self(Arc::new(Inner { home, layout, subscriber, bells, metrics }));
        eviction::watch(config, &redis, tasks);
        Ok(redis)
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

    /// How keys are named.
    pub(crate) fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// The partition of what is counted of a name; where databases are numbered it does not matter.
    pub(crate) fn partition_of_name(&self, name: &str) -> Partition {
        if self.0.layout.is_numbered() { Partition::SHARED } else { Partition::of_name(name) }
    }

    /// Where the keys of `partition` are that belong to `database`.
    pub(crate) fn at(&self, database: Database, partition: Partition) -> Place<'_> {
        Place::new(self, database, partition)
    }

    /// Things by where they are: all together where databases are numbered, else by their partitions.
    pub(crate) fn by_place<T>(
        &self,
        database: Database,
        all: impl IntoIterator<Item = T>,
        partition_of: impl Fn(&T) -> Partition,
    ) -> Vec<(Place<'_>, Vec<T>)> {
        let mut groups: BTreeMap<Partition, Vec<T>> = BTreeMap::new();
        for it in all {
            let partition =
                if self.0.layout.is_numbered() { Partition::SHARED } else { partition_of(&it) };
            groups.entry(partition).or_default().push(it);
        }
        groups.into_iter().map(|(partition, it)| (self.at(database, partition), it)).collect()
    }

    /// Where the keys of `database` are that belong to no subject.
    pub(crate) fn shared(&self, database: Database) -> Place<'_> {
        self.at(database, Partition::SHARED)
    }

    /// Every place that `database` has: one, or in a cluster each partition.
    pub(crate) fn places(&self, database: Database) -> impl Iterator<Item = Place<'_>> {
        let n = if self.0.layout.is_numbered() { 1 } else { Partition::COUNT };
        Partition::all().take(n).map(move |it| self.at(database, it))
    }

    /// A place on each server, and the server's name: in a cluster its address.
    pub(crate) fn servers(&self, database: Database) -> Vec<(Place<'_>, String)> {
        match &self.0.home {
            Home::Numbered(_) => vec![(self.shared(database), database.as_str().to_owned())],
            Home::Cluster(cluster) => {
                let shards = cluster.shards().into_iter();
                shards.map(|(partition, name)| (self.at(database, partition), name)).collect()
            }
        }
    }

    /// The database of Celery's broker, and where it is; `None` in a cluster, which can be none.
    pub(crate) fn queue(&self) -> Option<(&Server, &Address)> {
        match &self.0.home {
            Home::Numbered(server) => Some((server.database(Database::Queue), &server.address)),
            Home::Cluster(_) => None,
        }
    }

    /// Whether a new job is acknowledged only when replicas have it.
    fn is_durable(&self) -> bool {
        match &self.0.home {
            Home::Numbered(server) => server.durable.is_some(),
            Home::Cluster(cluster) => cluster.is_durable(),
        }
    }

    /// The replicas, as far as they may be read.
    fn replicas(&self) -> Option<&Replicas> {
        match &self.0.home {
            Home::Numbered(server) => server.replicas.as_ref(),
            Home::Cluster(_) => None,
        }
    }

    /// How the replicas stand; `None` where none are read.
    pub(crate) fn replica_reports(&self) -> Option<Vec<ReplicaReport>> {
        self.replicas().map(Replicas::report)
    }

    /// Whether every database has a connection that answered its last ping, and subscriptions are heard.
    pub(crate) fn is_up(&self) -> bool {
        let has_data = match &self.0.home {
            Home::Numbered(server) => Database::ALL.iter().all(|it| server.database(*it).is_up()),
            Home::Cluster(cluster) => cluster.is_up(),
        };
        has_data && self.0.subscriber.is_up()
    }

    /// What has to be up for requests to be served, by name. A cluster serves as long as some of it is up.
    pub(crate) fn parts(&self) -> Vec<(&'static str, bool)> {
        let mut parts: Vec<_> = match &self.0.home {
            Home::Numbered(server) => {
                Database::ALL.map(|it| (it.as_str(), server.database(it).is_up())).to_vec()
            }
            Home::Cluster(cluster) => vec![("cluster", cluster.is_partly_up())],
        };
        parts.push(("subscriptions", self.0.subscriber.is_up()));
        parts
    }
}
