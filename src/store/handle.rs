//! The handle with which every feature reaches the service's Redis.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    database::Database,
    keys::replication_probe_key,
    keyspace::Keyspace,
    layout::{KeyLayout, Partition},
};
use crate::{
    error::{Error, Result},
    observability::metrics::Metrics,
    redis::{
        Backend, ChannelWaiter, Config, DatabaseId, Endpoint, Pool, PubSubNotifier, ReplicaReport,
        Replicas, Subscriber, Usage, spawn_eviction_check,
    },
    tasks::TaskSupervisor,
};

static DATABASES: [DatabaseId; 5] = Database::IDS;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Redis(Arc<Inner>);

struct Inner {
    backend: Backend,
    layout: KeyLayout,
    subscriber: Subscriber,
    notifier: PubSubNotifier,
    metrics: Arc<Metrics>,
}

impl Redis {
    /// Connects in the background; calls fail until Redis answers.
    ///
    /// # Errors
    ///
    /// If the settings are invalid or the embedded server does not start.
    pub(crate) async fn start(config: &Config, tasks: &TaskSupervisor) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let backend = Backend::start(config, usage(), &metrics, tasks).await?;
        Self::assemble(config, backend, metrics, tasks)
    }

    /// Connects to the embedded server of a running service, if there is one; otherwise see [`Redis::start`].
    ///
    /// # Errors
    ///
    /// See [`Redis::start`].
    pub(crate) async fn attach(config: &Config, tasks: &TaskSupervisor) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let backend = Backend::attach(config, usage(), &metrics, tasks).await?;
        Self::assemble(config, backend, metrics, tasks)
    }

    /// The endpoint is that of subscriptions.
    fn assemble(
        config: &Config,
        (backend, endpoint): (Backend, Endpoint),
        metrics: Arc<Metrics>,
        tasks: &TaskSupervisor,
    ) -> anyhow::Result<Self> {
        let lag_count = metrics.redis.subscriber_gaps.clone();
        let subscriber = Subscriber::start(config, &endpoint, Vec::new(), tasks, lag_count)?;
        let notifier = PubSubNotifier::start(subscriber.clone(), tasks);
        spawn_eviction_check(config, &backend, Database::Jobs as usize, tasks);
        let layout = KeyLayout::new(config);
        Ok(Self(Arc::new(Inner { backend, layout, subscriber, notifier, metrics })))
    }

    /// Waits until Redis is up, for at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        const POLL_INTERVAL: Duration = Duration::from_millis(10);
        let ready = async {
            while !self.is_up() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let ready = tokio::time::timeout(limit, ready).await;
        ready.map_err(|_| Error::RedisUnavailable(format!("no answer within {limit:?}")))
    }

    /// A waiter that is notified of every message on `channels` from the return of this method on.
    pub(crate) async fn channel_waiter(&self, channels: Vec<String>) -> ChannelWaiter {
        self.0.notifier.register(channels).await
    }

    /// The metrics of the process, for every feature that has this handle.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The process's only subscribing connection for channels of jobs.
    pub(crate) fn subscriber(&self) -> &Subscriber {
        &self.0.subscriber
    }

    pub(crate) fn layout(&self) -> &KeyLayout {
        &self.0.layout
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.0.backend
    }

    /// The partition of keys about `name`. It has no meaning where databases are numbered.
    pub(crate) fn partition_for_name(&self, name: &str) -> Partition {
        if self.0.layout.is_multi_database() {
            Partition::SHARED
        } else {
            Partition::for_name(name)
        }
    }

    /// The keyspace of the keys of `partition` that belong to `database`.
    pub(crate) fn keyspace(&self, database: Database, partition: Partition) -> Keyspace<'_> {
        Keyspace::new(&self.0.backend, &self.0.layout, database, partition)
    }

    /// The keyspace of the keys of `database` that are not about one subject.
    pub(crate) fn default_keyspace(&self, database: Database) -> Keyspace<'_> {
        self.keyspace(database, Partition::SHARED)
    }

    /// Every keyspace of `database`: one, or each partition of a cluster.
    pub(crate) fn all_keyspaces(&self, database: Database) -> impl Iterator<Item = Keyspace<'_>> {
        let count = if self.0.layout.is_multi_database() { 1 } else { Partition::COUNT };
        Partition::all().take(count).map(move |partition| self.keyspace(database, partition))
    }

    /// Groups `items` by the keyspace of their keys: one group, or one for each partition of a cluster.
    pub(crate) fn group_by_keyspace<T>(
        &self,
        database: Database,
        items: impl IntoIterator<Item = T>,
        partition: impl Fn(&T) -> Partition,
    ) -> Vec<(Keyspace<'_>, Vec<T>)> {
        let mut groups: BTreeMap<Partition, Vec<T>> = BTreeMap::new();
        for item in items {
            let partition = if self.0.layout.is_multi_database() {
                Partition::SHARED
            } else {
                partition(&item)
            };
            groups.entry(partition).or_default().push(item);
        }
        groups
            .into_iter()
            .map(|(partition, items)| (self.keyspace(database, partition), items))
            .collect()
    }

    /// A keyspace on each server, with the server's name: the address in a cluster, else the name of the database.
    pub(crate) fn servers(&self, database: Database) -> Vec<(Keyspace<'_>, String)> {
        let servers = self.0.backend.servers(database as usize).into_iter();
        servers
            .map(|(index, name)| (self.keyspace(database, Partition::from_index(index)), name))
            .collect()
    }

    /// The database of Celery's broker and its server; `None` in a cluster, which cannot be a broker.
    pub(crate) fn broker(&self) -> Option<(&Pool, &Endpoint)> {
        self.0.backend.numbered_database(Database::Queue as usize)
    }

    /// The state of the replicas; `None` if none are read.
    pub(crate) fn replica_reports(&self) -> Option<Vec<ReplicaReport>> {
        self.0.backend.replicas().map(Replicas::report)
    }

    /// Whether every database has a connection that is up, and subscriptions are received.
    pub(crate) fn is_up(&self) -> bool {
        self.0.backend.is_up() && self.0.subscriber.is_up()
    }

    /// Whether each part is up that requests need, by name.
    pub(crate) fn component_health(&self) -> Vec<(&'static str, bool)> {
        let mut components = self.0.backend.component_health();
        components.push(("subscriptions", self.0.subscriber.is_up()));
        components
    }
}

fn usage() -> Usage {
    Usage {
        databases: &DATABASES,
        replicated_database: Database::Jobs as usize,
        hash_slots: Partition::all().map(Partition::hash_slot).collect(),
        staleness_probe_key: replication_probe_key(uuid::Uuid::new_v4()),
    }
}
