//! Polls nodes for the topology of the cluster.
//!
//! Several nodes are asked at once and the report with the highest epoch is used, not the majority: a node that was cut
//! off is out of date. The watcher has connections of its own, so that a shard that hangs does not delay the others'
//! replies.

use std::{collections::HashMap, time::Duration};

use fred::{clients::Client, interfaces::ClientLike as _, types::CustomCommand};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    super::{
        endpoint::Node,
        one_shot::{OneShotConnection, within},
    },
    routing::Cluster,
    topology::ClusterTopology,
};

/// Time between polls.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Time between polls while a server does not answer or has lost slots.
const FAST_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a node may take to answer.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);
const NODES_PER_POLL: usize = 5;
/// How long a known topology outweighs one of a lower epoch; after that the cluster has been recreated.
const TOPOLOGY_TTL: Duration = Duration::from_secs(30);

pub(super) struct TopologyWatcher {
    cluster: Cluster,
    seeds: Vec<Node>,
    connections: HashMap<Node, OneShotConnection<Client>>,
    /// Advances, so that the nodes take turns.
    turn: usize,
    /// The last topology, and when a node last reported it.
    known: Option<(ClusterTopology, Instant)>,
}

impl TopologyWatcher {
    pub(super) fn new(cluster: Cluster, seeds: Vec<Node>) -> Self {
        Self { cluster, seeds, connections: HashMap::new(), turn: 0, known: None }
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut was_silent = false;
        while !shutdown.is_cancelled() {
            let is_silent = !self.poll().await;
            if is_silent && !was_silent {
                warn!("no node of the cluster answers");
            }
            was_silent = is_silent;
            self.cluster.record_unserved();
            let delay = async {
                if !self.cluster.is_up() {
                    return sleep(FAST_POLL_INTERVAL).await;
                }
                tokio::select! {
                    () = sleep(POLL_INTERVAL) => (),
                    () = self.cluster.refresh_requested() => sleep(FAST_POLL_INTERVAL).await,
                }
            };
            _ = shutdown.run_until_cancelled(delay).await;
        }
    }

    /// Returns whether a node answered with a topology.
    async fn poll(&mut self) -> bool {
        let asked = self.next_nodes();
        let replies = join_all(asked.iter().map(|node| {
            let connection = self.connections.get(node);
            async move { request_topology(connection?, node).await }
        }))
        .await;
        let mut newest: Option<ClusterTopology> = None;
        for (node, reply) in asked.iter().zip(replies) {
            let Some(topology) = reply else {
                self.connections.remove(node);
                continue;
            };
            let is_newer = newest.as_ref().is_none_or(|known| known.epoch < topology.epoch);
            if is_newer && !topology.shards.is_empty() {
                newest = Some(topology);
            }
        }
        let has_answered = newest.is_some();
        if let Some(topology) = newest {
            self.on_topology(topology);
        }
        has_answered
    }

    fn on_topology(&mut self, topology: ClusterTopology) {
        let is_outdated = self.known.as_ref().is_some_and(|(known, reported_at)| {
            topology.epoch < known.epoch && reported_at.elapsed() < TOPOLOGY_TTL
        });
        if is_outdated {
            return;
        }
        self.cluster.apply_topology(&topology);
        self.connections.retain(|node, _| {
            self.seeds.contains(node) || topology.nodes().any(|known| known == node)
        });
        self.known = Some((topology, Instant::now()));
    }

    /// Some of the known nodes, connected. The seeds are among them while the cluster is unknown or not up.
    fn next_nodes(&mut self) -> Vec<Node> {
        let mut nodes: Vec<Node> =
            self.known.iter().flat_map(|(topology, _)| topology.nodes().cloned()).collect();
        if self.known.is_none() || !self.cluster.is_up() {
            let missing = self.seeds.iter().filter(|seed| !nodes.contains(seed));
            let missing: Vec<Node> = missing.cloned().collect();
            nodes.extend(missing);
        }
        let count = nodes.len();
        self.turn = self.turn.wrapping_add(NODES_PER_POLL);
        let chosen: Vec<Node> = (0..count.min(NODES_PER_POLL))
            .map(|offset| nodes[(self.turn + offset) % count].clone())
            .collect();
        for node in &chosen {
            if !self.connections.contains_key(node)
                && let Ok(client) = self.cluster.one_shot_builder(node).build()
            {
                self.connections.insert(node.clone(), OneShotConnection::open(client));
            }
        }
        chosen
    }
}

async fn request_topology(
    connection: &OneShotConnection<Client>,
    node: &Node,
) -> Option<ClusterTopology> {
    let client = connection.client();
    let request = async {
        client.wait_for_connect().await?;
        let command = CustomCommand::new_static("CLUSTER", None, false);
        client.custom::<String, _>(command, vec!["NODES"]).await
    };
    let text = within(REPLY_TIMEOUT, request).await.ok()?;
    Some(ClusterTopology::parse(&text, node))
}
