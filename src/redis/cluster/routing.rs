//! The routing table of a cluster: which primary owns a hash slot, and the pools of each primary.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use fred::prelude::Builder;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tracing::{info, warn};

use super::{
    super::{
        config::{Config, Durability},
        database::DatabaseId,
        endpoint::{Endpoint, Node},
        pool::Pool,
        replicated_write::ReplicatedWriter,
    },
    topology::ClusterTopology,
};
use crate::{observability::metrics::Metrics, tasks::TaskSupervisor};

/// The name of the connections in metrics; calls are measured by database.
const CLUSTER: DatabaseId = DatabaseId { number: 0, name: "cluster" };

/// The primaries of a cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    config: Config,
    /// Credentials and TLS settings of all nodes.
    template: Endpoint,
    databases: &'static [DatabaseId],
    /// The hash slots that the service uses. Calls name a slot by its position here.
    slots: Vec<u16>,
    metrics: Arc<Metrics>,
    tasks: TaskSupervisor,
    routing: ArcSwap<RoutingTable>,
    refresh_requests: Notify,
    /// The node of the subscriptions; every node receives what is published at any of them.
    subscription_node: watch::Sender<Option<Node>>,
}

/// Which primary owns which slot.
struct RoutingTable {
    primaries: Vec<Arc<Primary>>,
    /// By slot position: a position in `primaries`.
    owners: Vec<Option<u16>>,
    /// Since when some slot has had no owner.
    unassigned_since: Option<Instant>,
}

/// A server that owns slots, and its connections. They close when it is dropped.
pub(crate) struct Primary {
    node: Node,
    /// The same connections under the name of each database.
    pools: Vec<Pool>,
    writer: Option<ReplicatedWriter>,
    replicas: watch::Sender<Vec<Node>>,
    tasks: TaskSupervisor,
}

impl Cluster {
    /// A cluster without a topology. Returns the endpoint for subscriptions as well.
    ///
    /// # Errors
    ///
    /// If the settings are invalid.
    pub(super) fn new(
        config: &Config,
        databases: &'static [DatabaseId],
        slots: Vec<u16>,
        metrics: &Arc<Metrics>,
        tasks: &TaskSupervisor,
    ) -> anyhow::Result<(Self, Endpoint)> {
        let template = config.connection_template()?;
        let (subscription_node, current_node) = watch::channel(None);
        let routing = RoutingTable {
            primaries: Vec::new(),
            owners: vec![None; slots.len()],
            unassigned_since: Some(Instant::now()),
        };
        let cluster = Self(Arc::new(Inner {
            config: config.clone(),
            template: Endpoint::fixed(template.clone()),
            databases,
            slots,
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            routing: ArcSwap::from_pointee(routing),
            refresh_requests: Notify::new(),
            subscription_node,
        }));
        Ok((cluster, Endpoint::dynamic(template, current_node)))
    }

    /// The owner of the slot at this position.
    ///
    /// # Errors
    ///
    /// Since when some slot has had no owner, if this one has none.
    pub(crate) fn primary(&self, slot: usize) -> Result<Arc<Primary>, Option<Instant>> {
        let routing = self.0.routing.load();
        routing.primary(slot).cloned().ok_or(routing.unassigned_since)
    }

    /// How long a call may wait for a failover; zero once the service stops.
    pub(crate) fn failover_timeout(&self) -> Duration {
        if self.0.tasks.shutdown_token().is_cancelled() {
            return Duration::ZERO;
        }
        self.0.config.failover_wait
    }

    /// Asks for the topology soon, because a primary did not answer or does not own a slot any more.
    pub(crate) fn request_refresh(&self) {
        self.0.refresh_requests.notify_one();
    }

    /// Whether the owners of all slots answer.
    pub(crate) fn is_up(&self) -> bool {
        self.0.routing.load().is_complete()
    }

    /// Whether the owner of any slot answers.
    pub(crate) fn is_any_up(&self) -> bool {
        self.0.routing.load().primaries.iter().any(|primary| primary.is_up())
    }

    pub(crate) fn is_replicated(&self) -> bool {
        self.0.config.durability == Durability::Wait
    }

    /// Each owner of slots: the position of one of them, and the owner's address.
    pub(crate) fn shards(&self) -> Vec<(usize, String)> {
        let routing = self.0.routing.load();
        let first_slot = |primary: usize| {
            let primary = u16::try_from(primary).ok();
            routing.owners.iter().position(|owner| *owner == primary)
        };
        let primaries = routing.primaries.iter().enumerate();
        primaries
            .filter_map(|(index, primary)| Some((first_slot(index)?, primary.node.to_string())))
            .collect()
    }

    pub(super) fn record_unserved(&self) {
        let routing = self.0.routing.load();
        let is_served =
            |slot: &usize| routing.primary(*slot).is_some_and(|primary| primary.is_up());
        let unserved = (0..self.0.slots.len()).filter(|slot| !is_served(slot)).count();
        self.0.metrics.redis.unserved_partitions.set(i64::try_from(unserved).unwrap_or(i64::MAX));
    }

    /// Waits for [`Cluster::request_refresh`].
    pub(super) async fn refresh_requested(&self) {
        self.0.refresh_requests.notified().await;
    }

    pub(super) fn one_shot_builder(&self, node: &Node) -> Builder {
        self.0.config.one_shot_builder(&self.0.template.for_node(node))
    }

    pub(super) fn apply_topology(&self, topology: &ClusterTopology) {
        let old = self.0.routing.load();
        let primaries: Vec<Arc<Primary>> = topology
            .shards
            .iter()
            .filter_map(|shard| {
                let known = old.primaries.iter().find(|primary| primary.node == shard.primary);
                let primary = known.cloned().or_else(|| self.connect(&shard.primary))?;
                primary.replicas.send_if_modified(|replicas| {
                    let is_changed = *replicas != shard.replicas;
                    replicas.clone_from(&shard.replicas);
                    is_changed
                });
                Some(primary)
            })
            .collect();
        let owner = |slot: &u16| {
            let shard = topology.shards.iter().find(|shard| shard.has(*slot))?;
            let owner = primaries.iter().position(|primary| primary.node == shard.primary)?;
            u16::try_from(owner).ok()
        };
        let owners: Vec<Option<u16>> = self.0.slots.iter().map(owner).collect();
        self.choose_subscription_node(&primaries);
        let unassigned_since = owners
            .iter()
            .any(Option::is_none)
            .then(|| old.unassigned_since.unwrap_or_else(Instant::now));
        self.0.routing.store(Arc::new(RoutingTable { primaries, owners, unassigned_since }));
    }

    /// Keeps the current node as long as it is up.
    fn choose_subscription_node(&self, primaries: &[Arc<Primary>]) {
        let healthy = || primaries.iter().filter(|primary| primary.is_up());
        self.0.subscription_node.send_if_modified(|current| {
            if healthy().any(|primary| Some(&primary.node) == current.as_ref()) {
                return false;
            }
            let next = healthy().next().or_else(|| primaries.first());
            let next = next.map(|primary| primary.node.clone());
            let is_changed = next.is_some() && next != *current;
            if is_changed {
                *current = next;
            }
            is_changed
        });
    }

    fn connect(&self, node: &Node) -> Option<Arc<Primary>> {
        match Primary::connect(&self.0, node) {
            Ok(primary) => {
                info!(primary = %node, "connecting to a primary of the cluster");
                Some(Arc::new(primary))
            }
            Err(error) => {
                warn!(primary = %node, %error, "cannot connect to a primary of the cluster");
                None
            }
        }
    }
}

impl RoutingTable {
    fn primary(&self, slot: usize) -> Option<&Arc<Primary>> {
        self.primaries.get(usize::from(self.owners[slot]?))
    }

    fn is_complete(&self) -> bool {
        self.owners.iter().all(Option::is_some)
            && self.primaries.iter().all(|primary| primary.is_up())
    }
}

impl Primary {
    fn connect(cluster: &Inner, node: &Node) -> anyhow::Result<Self> {
        let tasks = cluster.tasks.child();
        let endpoint = Endpoint::fixed(cluster.template.for_node(node));
        let metrics = &cluster.metrics.redis;
        let pool = Pool::start(&cluster.config, &endpoint, CLUSTER, &tasks, metrics)?;
        let (replicas, healthy) = watch::channel(Vec::new());
        let writer = match cluster.config.durability {
            Durability::Async => None,
            Durability::Wait => {
                let target = (&endpoint, CLUSTER);
                let config = &cluster.config;
                Some(ReplicatedWriter::start(config, target, healthy, &tasks, metrics)?)
            }
        };
        let pools =
            cluster.databases.iter().map(|database| pool.with_label(*database, metrics)).collect();
        Ok(Self { node: node.clone(), pools, writer, replicas, tasks })
    }

    /// `database` is a position among the databases that the cluster was started with.
    pub(crate) fn pool(&self, database: usize) -> &Pool {
        &self.pools[database]
    }

    /// Connections for writes that wait for replicas, if the settings ask for them.
    pub(crate) fn writer(&self) -> Option<&ReplicatedWriter> {
        self.writer.as_ref()
    }

    fn is_up(&self) -> bool {
        self.pools[0].is_up()
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        info!(primary = %self.node, "disconnecting from a server that owns no slots");
        self.tasks.stop();
    }
}
