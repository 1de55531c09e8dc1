//! Reads from replicas that may be slightly stale. Their staleness is measured.
//!
//! Each process regularly writes a number to the primary and reads it from the replicas. A replica that returns the
//! number of a moment has every write that was acknowledged before that moment, whatever the clocks show. A replica that
//! is behind by more than `max_staleness`, or does not answer, is not read; callers then read the primary.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use fred::{
    clients::Client,
    error::Error as FredError,
    interfaces::{ClientLike as _, KeysInterface as _},
    types::Expiration,
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    config::Config,
    endpoint::{Endpoint, Node},
    one_shot::{OneShotConnection, within},
    pool::Pool,
};
use crate::tasks::TaskSupervisor;

/// Time between two numbers.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// How long a replica may take before the primary is read.
const REPLY_TIMEOUT: Duration = Duration::from_millis(300);
/// Unanswered probes in a row after which a connection is replaced.
const MAX_MISSED_REPLIES: u32 = 4;

/// The replicas of the primary. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Replicas(Arc<Inner>);

struct Inner {
    config: Config,
    endpoint: Endpoint,
    primary: Pool,
    probe_key: String,
    connected: ArcSwap<Vec<Arc<Replica>>>,
    next: AtomicUsize,
}

struct Replica {
    node: Node,
    connection: OneShotConnection<Client>,
    progress: Mutex<ReplicaProgress>,
}

#[derive(Clone, Copy, Default)]
struct ReplicaProgress {
    /// The replica has every write that was acknowledged before this moment.
    caught_up_at: Option<Instant>,
    missed_replies: u32,
}

/// The state of a replica in the health report.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaReport {
    address: String,
    /// Whether it is read from.
    used: bool,
    /// The greatest age of its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind_ms: Option<u64>,
}

/// The numbers that the primary has stored.
#[derive(Default)]
struct StalenessProbe {
    number: u64,
    /// Each number with the moment before it was sent.
    written: VecDeque<(u64, Instant)>,
}

impl Replicas {
    /// Connects to the replicas in `nodes` and writes numbers to `probe_key`, which belongs to this process.
    pub(super) fn start(
        config: &Config,
        endpoint: &Endpoint,
        (primary, probe_key): (Pool, String),
        nodes: watch::Receiver<Vec<Node>>,
        tasks: &TaskSupervisor,
    ) -> Self {
        let replicas = Self(Arc::new(Inner {
            config: config.clone(),
            endpoint: endpoint.clone(),
            primary,
            probe_key,
            connected: ArcSwap::default(),
            next: AtomicUsize::new(0),
        }));
        tasks.spawn_critical("redis replicas", replicas.clone().run(nodes, tasks.shutdown_token()));
        replicas
    }

    /// Runs `call` on a fresh replica; `None` without a fresh replica, or if it does not answer in time.
    pub(super) async fn call<T, F>(&self, call: impl FnOnce(Client) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, FredError>> + Send,
    {
        let client = self.fresh_client()?;
        within(REPLY_TIMEOUT, call(client)).await.ok()
    }

    pub(crate) fn report(&self) -> Vec<ReplicaReport> {
        let report = |replica: &Arc<Replica>| {
            let caught_up_at = replica.progress.lock().caught_up_at;
            ReplicaReport {
                address: replica.node.to_string(),
                used: self.is_fresh(replica),
                behind_ms: caught_up_at
                    .and_then(|moment| u64::try_from(moment.elapsed().as_millis()).ok()),
            }
        };
        self.0.connected.load().iter().map(report).collect()
    }

    /// The replicas take turns.
    fn fresh_client(&self) -> Option<Client> {
        let connected = self.0.connected.load();
        let first = self.0.next.fetch_add(1, Ordering::Relaxed);
        (0..connected.len())
            .map(|offset| &connected[(first + offset) % connected.len()])
            .find(|replica| self.is_fresh(replica))
            .map(|replica| replica.connection.client().clone())
    }

    fn is_fresh(&self, replica: &Replica) -> bool {
        let caught_up_at = replica.progress.lock().caught_up_at;
        replica.connection.client().is_connected()
            && caught_up_at.is_some_and(|moment| moment.elapsed() <= self.0.config.max_staleness)
    }

    async fn run(self, nodes: watch::Receiver<Vec<Node>>, shutdown: CancellationToken) {
        let mut probe = StalenessProbe::default();
        let mut ticks = interval(PROBE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let reported = nodes.borrow().clone();
            self.connect(&reported);
            self.write_probe(&mut probe).await;
            self.read_probes(&probe).await;
        }
        self.connect(&[]);
    }

    /// Drops replicas that are no longer reported or do not answer, and adds new ones.
    fn connect(&self, reported: &[Node]) {
        let mut replicas = Vec::clone(&self.0.connected.load());
        replicas.retain(|replica| {
            let missed_replies = replica.progress.lock().missed_replies;
            reported.contains(&replica.node) && missed_replies < MAX_MISSED_REPLIES
        });
        for node in reported {
            if replicas.iter().any(|replica| replica.node == *node) {
                continue;
            }
            let server = self.0.endpoint.for_node(node);
            let builder = self.0.config.builder(&server, self.0.primary.database().number);
            let Ok(client) = builder.build() else { continue };
            info!(replica = %node, "reading from a replica");
            replicas.push(Arc::new(Replica {
                node: node.clone(),
                connection: OneShotConnection::open(client),
                progress: Mutex::default(),
            }));
        }
        self.0.connected.store(Arc::new(replicas));
    }

    async fn write_probe(&self, probe: &mut StalenessProbe) {
        const MAX_WRITTEN: usize = 64;
        const TTL_SECS: i64 = 60;
        probe.number += 1;
        let (number, sent_at) = (probe.number, Instant::now());
        let set = self.0.primary.call_once(|client| {
            let key = self.0.probe_key.clone();
            async move {
                let expiration = Some(Expiration::EX(TTL_SECS));
                client.set::<(), _, _>(key, number.to_string(), expiration, None, false).await
            }
        });
        // During a failover no number is written, and the measured staleness of every replica grows.
        if let Ok(Ok(())) = timeout(REPLY_TIMEOUT, set).await {
            probe.written.push_back((number, sent_at));
            if probe.written.len() > MAX_WRITTEN {
                probe.written.pop_front();
            }
        }
    }

    async fn read_probes(&self, probe: &StalenessProbe) {
        let replicas = self.0.connected.load_full();
        let read = |replica: &Arc<Replica>| {
            let (client, key) = (replica.connection.client().clone(), self.0.probe_key.clone());
            within(REPLY_TIMEOUT, async move { client.get::<Option<String>, _>(key).await })
        };
        let replies = join_all(replicas.iter().map(read)).await;
        for (replica, reply) in replicas.iter().zip(replies) {
            let mut progress = replica.progress.lock();
            progress.missed_replies = if reply.is_ok() { 0 } else { progress.missed_replies + 1 };
            let number = reply.ok().flatten().and_then(|text| text.parse::<u64>().ok());
            let written = probe.written.iter().find(|(written, _)| Some(*written) == number);
            progress.caught_up_at = written.map(|(_, sent_at)| *sent_at).or(progress.caught_up_at);
        }
    }
}
