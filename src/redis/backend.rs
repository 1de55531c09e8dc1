//! The Redis deployment that the settings select: one server with numbered databases, or a cluster.

use std::sync::Arc;

use fred::types::config::Config as FredConfig;
use tokio::sync::watch;

use super::{
    call::{ReplicatedRoute, Route},
    cluster::{self, Cluster},
    config::{Config, Durability, Mode},
    database::DatabaseId,
    embedded::Embedded,
    endpoint::{Endpoint, Node},
    pool::Pool,
    replicas::Replicas,
    replicated_write::ReplicatedWriter,
    sentinel,
};
use crate::{observability::metrics::Metrics, tasks::TaskSupervisor};

/// The databases and the metrics of a backend.
pub(crate) struct Usage {
    /// Calls name a database by its position here.
    pub(crate) databases: &'static [DatabaseId],
    /// The position of the database of replicated writes and replica reads.
    pub(crate) replicated_database: usize,
    /// The hash slots of the keys in a cluster. Calls name a slot by its position here.
    pub(crate) hash_slots: Vec<u16>,
    /// A key of this process, for measuring the staleness of replicas.
    pub(crate) staleness_probe_key: String,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) enum Backend {
    Standalone(Arc<Standalone>),
    Cluster(Cluster),
}

/// One server at a time, with numbered databases.
pub(crate) struct Standalone {
    databases: &'static [DatabaseId],
    pools: Vec<Pool>,
    /// For writes that wait for replicas, if the settings ask for them.
    writer: Option<ReplicatedWriter>,
    /// With sentinels, if the settings permit replica reads.
    replicas: Option<Replicas>,
    endpoint: Endpoint,
}

/// The endpoint of the primary, and its healthy replicas.
struct PrimaryLocation {
    endpoint: Endpoint,
    replicas: watch::Receiver<Vec<Node>>,
}

impl PrimaryLocation {
    fn fixed(server: FredConfig) -> Self {
        Self { endpoint: Endpoint::fixed(server), replicas: watch::channel(Vec::new()).1 }
    }
}

impl Backend {
    /// Connects in the background; calls fail until Redis answers. Returns the endpoint for subscriptions as well.
    ///
    /// # Errors
    ///
    /// If the settings are invalid or the embedded server does not start.
    pub(crate) async fn start(
        config: &Config,
        usage: Usage,
        metrics: &Arc<Metrics>,
        tasks: &TaskSupervisor,
    ) -> anyhow::Result<(Self, Endpoint)> {
        let location = match config.effective_mode() {
            Mode::Embedded | Mode::Auto => {
                let socket = Embedded::start(&config.embedded, tasks).await?;
                PrimaryLocation::fixed(Config::unix_socket_config(socket))
            }
            Mode::Standalone => PrimaryLocation::fixed(config.server(config.url.expose())?),
            Mode::Sentinel => {
                let (endpoint, replicas) = sentinel::start(config, tasks)?;
                PrimaryLocation { endpoint, replicas }
            }
            Mode::Cluster => {
                let Usage { databases, hash_slots, .. } = usage;
                let (cluster, endpoint) =
                    cluster::start(config, databases, hash_slots, metrics, tasks)?;
                return Ok((Self::Cluster(cluster), endpoint));
            }
        };
        Self::standalone(config, usage, location, metrics, tasks)
    }

    /// Connects to the embedded server of a running service, if there is one; otherwise see [`Backend::start`].
    ///
    /// # Errors
    ///
    /// See [`Backend::start`].
    pub(crate) async fn attach(
        config: &Config,
        usage: Usage,
        metrics: &Arc<Metrics>,
        tasks: &TaskSupervisor,
    ) -> anyhow::Result<(Self, Endpoint)> {
        let is_embedded = matches!(config.effective_mode(), Mode::Embedded | Mode::Auto);
        match Embedded::running(&config.embedded).filter(|_| is_embedded) {
            Some(socket) => {
                let location = PrimaryLocation::fixed(Config::unix_socket_config(socket));
                Self::standalone(config, usage, location, metrics, tasks)
            }
            None => Self::start(config, usage, metrics, tasks).await,
        }
    }

    fn standalone(
        config: &Config,
        usage: Usage,
        location: PrimaryLocation,
        metrics: &Metrics,
        tasks: &TaskSupervisor,
    ) -> anyhow::Result<(Self, Endpoint)> {
        let PrimaryLocation { endpoint, replicas } = location;
        let metrics = &metrics.redis;
        let pool =
            |database: &DatabaseId| Pool::start(config, &endpoint, *database, tasks, metrics);
        let pools = usage.databases.iter().map(pool).collect::<anyhow::Result<Vec<_>>>()?;
        let writer = match config.durability {
            Durability::Async => None,
            Durability::Wait => {
                let target = (&endpoint, usage.databases[usage.replicated_database]);
                Some(ReplicatedWriter::start(config, target, replicas.clone(), tasks, metrics)?)
            }
        };
        let reads_replicas = config.replica_reads && endpoint.is_dynamic();
        let replicas = reads_replicas.then(|| {
            let primary = pools[usage.replicated_database].clone();
            let probe = (primary, usage.staleness_probe_key);
            Replicas::start(config, &endpoint, probe, replicas, tasks)
        });
        let standalone = Standalone {
            databases: usage.databases,
            pools,
            writer,
            replicas,
            endpoint: endpoint.clone(),
        };
        Ok((Self::Standalone(Arc::new(standalone)), endpoint))
    }

    /// Where calls about the keys of a slot in a database go; both are positions in [`Usage`].
    pub(crate) fn route(&self, database: usize, slot: usize) -> Route<'_> {
        match self {
            Self::Standalone(standalone) => Route::Pool(&standalone.pools[database]),
            Self::Cluster(cluster) => Route::Slot { cluster, slot, database },
        }
    }

    /// Where writes about the keys of a slot go that wait for replicas; `None` if the settings do not ask for that.
    pub(crate) fn replicated_route(&self, slot: usize) -> Option<ReplicatedRoute<'_>> {
        match self {
            Self::Standalone(standalone) => standalone.writer.as_ref().map(ReplicatedRoute::Writer),
            Self::Cluster(cluster) => {
                cluster.is_replicated().then_some(ReplicatedRoute::Slot { cluster, slot })
            }
        }
    }

    /// The replicas, if the settings permit reading them.
    pub(crate) fn replicas(&self) -> Option<&Replicas> {
        match self {
            Self::Standalone(standalone) => standalone.replicas.as_ref(),
            Self::Cluster(_) => None,
        }
    }

    /// A numbered database and its server; `None` in a cluster.
    pub(crate) fn numbered_database(&self, database: usize) -> Option<(&Pool, &Endpoint)> {
        match self {
            Self::Standalone(standalone) => {
                Some((&standalone.pools[database], &standalone.endpoint))
            }
            Self::Cluster(_) => None,
        }
    }

    /// For each server the position of a slot that it owns, and its name: the address in a cluster, else that of the
    /// database.
    pub(crate) fn servers(&self, database: usize) -> Vec<(usize, String)> {
        match self {
            Self::Standalone(standalone) => {
                vec![(0, standalone.databases[database].name.to_owned())]
            }
            Self::Cluster(cluster) => cluster.shards(),
        }
    }

    /// Whether every server of every database has a connection that is up.
    pub(crate) fn is_up(&self) -> bool {
        match self {
            Self::Standalone(standalone) => standalone.pools.iter().all(Pool::is_up),
            Self::Cluster(cluster) => cluster.is_up(),
        }
    }

    /// Whether each part is up that requests need. A cluster can serve requests as long as any shard is up.
    pub(crate) fn component_health(&self) -> Vec<(&'static str, bool)> {
        match self {
            Self::Standalone(standalone) => {
                let databases = standalone.databases.iter().zip(&standalone.pools);
                databases.map(|(database, pool)| (database.name, pool.is_up())).collect()
            }
            Self::Cluster(cluster) => vec![("cluster", cluster.is_any_up())],
        }
    }
}
