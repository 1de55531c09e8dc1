//! Redis Cluster: to which server a partition's calls go, and what is done while that changes.
//!
//! Each primary has a pool of its own, of the same supervised connections as a single server: a shard that is lost or
//! hangs delays no other, which one client for the whole cluster would not keep apart. See docs/adr/0012.

mod view;
mod watch;

use std::{
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use fred::{
    prelude::Builder,
    types::{Key, Value, scripts::Script},
};
use tokio::{
    sync::{Notify, watch as channel},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use self::{view::View, watch::Watch};
use super::{
    Address, Config, Database, Durability, Partition, Server,
    address::Node,
    durable::Durable,
    server::{Failure, Measured, Twice},
};
use crate::{
    error::{Error, Result},
    observability::metrics::Metrics,
    tasks::Tasks,
};

/// Time between attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// The servers of a cluster. Cheap to clone.
#[derive(Clone)]
pub(super) struct Cluster(Arc<Inner>);

struct Inner {
    config: Config,
    /// How a node is reached, wherever it is.
    server: Address,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    routes: RwLock<Arc<Routes>>,
    doubts: Notify,
    /// The node on which subscriptions are made: what is published at any of them is heard at all.
    listened_to: channel::Sender<Option<Node>>,
}

/// Who has what.
struct Routes {
    primaries: Vec<Arc<Primary>>,
    /// By partition: a place in `primaries`.
    of: [Option<u16>; Partition::COUNT],
    /// Since when some partition has been nobody's.
    without_since: Option<Instant>,
}

/// A server that has slots, and the ways to it. They end when it is dropped.
pub(super) struct Primary {
    node: Node,
    /// The same connections under the name of each database.
    servers: [Server; 5],
    durable: Option<Durable>,
    replicas: channel::Sender<Vec<Node>>,
    tasks: Tasks,
}

impl Cluster {
    /// Begins to look for the cluster of `config` and returns at once.
    ///
    /// # Errors
    ///
    /// If the settings make no sense to the client.
    pub(super) fn start(
        config: &Config,
        metrics: &Arc<Metrics>,
        tasks: &Tasks,
    ) -> anyhow::Result<(Self, Address)> {
        let seeds = config.cluster_nodes()?;
        let template = config.server_without_place()?;
        let (listened_to, heard_at) = channel::channel(None);
        let cluster = Self(Arc::new(Inner {
            config: config.clone(),
            server: Address::fixed(template.clone()),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            routes: RwLock::new(Arc::new(Routes {
                primaries: Vec::new(),
                of: [None; Partition::COUNT],
                without_since: Some(Instant::now()),
            })),
            doubts: Notify::new(),
            listened_to,
        }));
        let watch = Watch::new(cluster.clone(), seeds);
        tasks.spawn("redis cluster", watch.run(tasks.shutdown()));
        Ok((cluster, Address::followed(template, heard_at)))
    }

    /// Tries until it succeeds, as far as `twice` allows, at whichever server has `partition` at the time.
    pub(super) async fn repeat<T, F>(
        &self,
        partition: Partition,
        twice: Twice,
        try_once: impl Fn(Arc<Primary>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let (began, deadline) =
            (std::time::Instant::now(), Instant::now() + self.0.config.failover_wait);
        loop {
            let routes = self.routes();
            let Some(primary) = routes.primary(partition) else {
                let error = Error::RedisUnavailable("no server has it".to_owned());
                self.pause(deadline, routes.without_since, error).await?;
                continue;
            };
            let error = match try_once(primary.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Unknown(error)) if twice == Twice::Differs => return Err(error),
                Err(Failure::Final(error)) => return Err(error),
                Err(failure) => failure.into_error(),
            };
            self.0.doubts.notify_one();
            let down_since = primary.servers[0].down_since();
            if let Err(error) = self.pause(deadline, down_since, error).await {
                if down_since.is_some() {
                    primary.servers[Database::Jobs as usize].count_as_not_connected(began);
                }
                return Err(error);
            }
        }
    }

    /// Waits a moment, unless it is too late, or nobody has answered for longer than a failover may take.
    async fn pause(
        &self,
        deadline: Instant,
        down_since: Option<Instant>,
        error: Error,
    ) -> Result<()> {
        let patience_ends = down_since.map(|it| it + self.0.config.failover_wait);
        let last = patience_ends.map_or(deadline, |it| it.min(deadline));
        if Instant::now() + PAUSE >= last || self.0.tasks.shutdown().is_cancelled() {
            return Err(error);
        }
        sleep(PAUSE).await;
        Ok(())
    }

    fn routes(&self) -> Arc<Routes> {
        self.0.routes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether every partition's server answers.
    pub(super) fn is_up(&self) -> bool {
        self.routes().is_whole()
    }

    /// Tells operators how much of the cluster cannot be reached.
    fn measure(&self) {
        let routes = self.routes();
        let unserved = Partition::all()
            .filter(|it| routes.primary(*it).is_none_or(|primary| !primary.is_up()))
            .count();
        self.0.metrics.redis.unserved_partitions.set(i64::try_from(unserved).unwrap_or(i64::MAX));
    }

    /// Whether some partition's server answers.
    pub(super) fn is_partly_up(&self) -> bool {
        self.routes().primaries.iter().any(|it| it.is_up())
    }

    pub(super) fn is_durable(&self) -> bool {
        self.0.config.durability == Durability::Wait
    }

    /// Each server that has a partition, with one that it has.
    pub(super) fn shards(&self) -> Vec<(Partition, String)> {
        let routes = self.routes();
        let first = |at: usize| {
            let at = u16::try_from(at).ok();
            Partition::all().find(|it| routes.of[it.index()] == at)
        };
        let primaries = routes.primaries.iter().enumerate();
        primaries.filter_map(|(at, it)| Some((first(at)?, it.node.to_string()))).collect()
    }

    /// Some server has said that it is not the right one, or said nothing.
    async fn doubted(&self) {
        self.0.doubts.notified().await;
    }

    /// A builder of connections to `node` that are never mended.
    fn builder_of_once(&self, node: &Node) -> Builder {
        self.0.config.builder_of_once(&self.0.server.at(node))
    }

    /// Goes by `view` from now on.
    fn follow(&self, view: &View) {
        let old = self.routes();
        let primaries: Vec<Arc<Primary>> = view
            .shards
            .iter()
            .filter_map(|shard| {
                let known = old.primaries.iter().find(|it| it.node == shard.primary).cloned();
                let primary = known.or_else(|| self.open(&shard.primary))?;
                primary.replicas.send_if_modified(|it| {
                    let is_news = *it != shard.replicas;
                    it.clone_from(&shard.replicas);
                    is_news
                });
                Some(primary)
            })
            .collect();
        let mut of = [None; Partition::COUNT];
        for partition in Partition::all() {
            let slot = partition.slot();
            let shard = view.shards.iter().find(|it| it.has(slot));
            let at = shard.and_then(|it| primaries.iter().position(|p| p.node == it.primary));
            of[partition.index()] = at.and_then(|it| u16::try_from(it).ok());
        }
        self.listen(&primaries);
        let without_since =
            of.iter().any(Option::is_none).then(|| old.without_since.unwrap_or_else(Instant::now));
        let routes = Routes { primaries, of, without_since };
        *self.0.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
    }

    /// Subscribes where it did, as long as that server is well.
    fn listen(&self, primaries: &[Arc<Primary>]) {
        let well = || primaries.iter().filter(|it| it.is_up());
        self.0.listened_to.send_if_modified(|now| {
            if well().any(|it| Some(&it.node) == now.as_ref()) {
                return false;
            }
            let next = well().next().or_else(|| primaries.first()).map(|it| it.node.clone());
            let is_news = next.is_some() && next != *now;
            if is_news {
                *now = next;
            }
            is_news
        });
    }

    fn open(&self, node: &Node) -> Option<Arc<Primary>> {
        match Primary::open(&self.0, node) {
            Ok(primary) => {
                info!(primary = %node, "a server of the cluster has slots");
                Some(Arc::new(primary))
            }
            Err(error) => {
                warn!(primary = %node, %error, "a server of the cluster cannot be used");
                None
            }
        }
    }
}

impl Routes {
    fn primary(&self, partition: Partition) -> Option<&Arc<Primary>> {
        self.primaries.get(usize::from(self.of[partition.index()]?))
    }

    fn is_whole(&self) -> bool {
        self.of.iter().all(Option::is_some) && self.primaries.iter().all(|it| it.is_up())
    }
}

impl Primary {
    fn open(cluster: &Inner, node: &Node) -> anyhow::Result<Self> {
        let tasks = cluster.tasks.part();
        let address = Address::fixed(cluster.server.at(node));
        let metrics = &cluster.metrics.redis;
        let measured = Measured { metrics, name: "cluster" };
        let server = Server::start(&cluster.config, &address, 0, &tasks, measured)?;
        let (replicas, well) = channel::channel(Vec::new());
        let durable = match cluster.config.durability {
            Durability::Async => None,
            Durability::Wait => {
                Some(Durable::start(&cluster.config, (&address, 0), well, &tasks, measured)?)
            }
        };
        let servers =
            Database::ALL.map(|it| server.measured_as(Measured { metrics, name: it.as_str() }));
        Ok(Self { node: node.clone(), servers, durable, replicas, tasks })
    }

    pub(super) fn server(&self, database: Database) -> &Server {
        &self.servers[database as usize]
    }

    fn is_up(&self) -> bool {
        self.servers[0].is_up()
    }

    pub(super) async fn run_durably(
        &self,
        script: &Script,
        input: (Vec<Key>, Vec<Value>),
    ) -> Result<Value, Failure> {
        match &self.durable {
            Some(durable) => durable.try_once(script, input).await,
            None => Err(Failure::Final(Error::RedisUnavailable("not durable".to_owned()))),
        }
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        info!(primary = %self.node, "a server of the cluster has no slots any more");
        self.tasks.stop();
    }
}
