//! Redis Cluster: the discovery of its topology, and the routes to its primaries.
//!
//! Each primary has pools of its own, with the same supervised connections as a single server: a shard that is lost or
//! hangs does not delay the others. One client for the whole cluster would not isolate them. See docs/adr/0012.

mod routing;
mod topology;
mod watcher;

use std::sync::Arc;

pub(crate) use self::routing::Cluster;
use self::watcher::TopologyWatcher;
use super::{config::Config, database::DatabaseId, endpoint::Endpoint};
use crate::{observability::metrics::Metrics, tasks::TaskSupervisor};

/// Starts to look for the cluster of `config`. Calls name a slot by its position in `slots`. Returns the endpoint for
/// subscriptions as well.
///
/// # Errors
///
/// If the settings are invalid.
pub(super) fn start(
    config: &Config,
    databases: &'static [DatabaseId],
    slots: Vec<u16>,
    metrics: &Arc<Metrics>,
    tasks: &TaskSupervisor,
) -> anyhow::Result<(Cluster, Endpoint)> {
    let seeds = config.cluster_nodes()?;
    let (cluster, endpoint) = Cluster::new(config, databases, slots, metrics, tasks)?;
    let watcher = TopologyWatcher::new(cluster.clone(), seeds);
    tasks.spawn_critical("redis cluster", watcher.run(tasks.shutdown_token()));
    Ok((cluster, endpoint))
}
