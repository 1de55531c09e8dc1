//! Reads from replicas, of what may be a little old. How old is measured, not believed.
//!
//! Each process writes a number to the primary again and again, and asks the replicas which one they have. A replica
//! that has the number of a moment has everything that was acknowledged before it, whatever the clocks say. One that
//! is behind by more than `max_staleness`, or silent, is not asked; then the primary is.

use std::{
    collections::VecDeque,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::Client,
    error::Error as FredError,
    interfaces::{ClientLike as _, KeysInterface as _},
    types::{ConnectHandle, Expiration},
};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Address, Config, Database, Server, address::Node, keys::beat_key};
use crate::tasks::Tasks;

/// Time between two numbers.
const BEAT_EVERY: Duration = Duration::from_millis(250);
/// The longest that a replica is waited for before the primary is asked.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// Silences after which a connection is made anew.
const MAX_SILENCES: u32 = 4;

/// The replicas of the primary. Cheap to clone.
#[derive(Clone)]
pub(super) struct Replicas(Arc<Inner>);

struct Inner {
    config: Config,
    address: Address,
    primary: Server,
    key: String,
    connected: RwLock<Vec<Replica>>,
    next: AtomicUsize,
}

#[derive(Clone)]
struct Replica {
    node: Node,
    client: Client,
    /// It has all that was acknowledged before.
    has_until: Option<Instant>,
}

/// How a replica stands, for the health report.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaReport {
    address: String,
    /// Whether it is read from.
    used: bool,
    /// How old its answers are at the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind_ms: Option<u64>,
}

/// What the task alone knows.
struct Pulse {
    number: u64,
    /// Numbers that the primary took, and when each was sent.
    sent: VecDeque<(u64, Instant)>,
    handles: Vec<(Node, ConnectHandle, u32)>,
}

impl Replicas {
    pub(super) fn start(
        config: &Config,
        address: &Address,
        primary: Server,
        nodes: watch::Receiver<Vec<Node>>,
        tasks: &Tasks,
    ) -> Self {
        let replicas = Self(Arc::new(Inner {
            config: config.clone(),
            address: address.clone(),
            primary,
            key: beat_key(uuid::Uuid::new_v4()),
            connected: RwLock::default(),
            next: AtomicUsize::new(0),
        }));
        tasks.spawn("redis replicas", replicas.clone().follow(nodes, tasks.shutdown()));
        replicas
    }

    /// Runs `call` on a replica that is fresh; `None` if there is none or it does not answer.
    pub(super) async fn read<T, F>(&self, call: impl FnOnce(Client) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, FredError>>,
    {
        let client = self.fresh()?;
        timeout(ANSWER_WITHIN, Box::pin(call(client))).await.ok()?.ok()
    }

    pub(super) fn report(&self) -> Vec<ReplicaReport> {
        let connected = self.0.connected.read().unwrap_or_else(PoisonError::into_inner);
        let line = |it: &Replica| ReplicaReport {
            address: it.node.to_string(),
            used: self.is_fresh(it),
            behind_ms: it.has_until.and_then(|it| u64::try_from(it.elapsed().as_millis()).ok()),
        };
        connected.iter().map(line).collect()
    }

    fn fresh(&self) -> Option<Client> {
        let connected = self.0.connected.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..connected.len()).map(|i| &connected[(turn + i) % connected.len()]);
        in_turn.clone().find(|it| self.is_fresh(it)).map(|it| it.client.clone())
    }

    fn is_fresh(&self, replica: &Replica) -> bool {
        replica.client.is_connected()
            && replica.has_until.is_some_and(|it| it.elapsed() <= self.0.config.max_staleness)
    }

    async fn follow(self, nodes: watch::Receiver<Vec<Node>>, shutdown: CancellationToken) {
        let mut pulse = Pulse { number: 0, sent: VecDeque::new(), handles: Vec::new() };
        let mut ticks = interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let wanted = nodes.borrow().clone();
            self.connect(&mut pulse, &wanted);
            self.beat(&mut pulse).await;
            self.listen(&mut pulse).await;
        }
        self.connect(&mut pulse, &[]);
    }

    /// Drops those that are not wanted or silent, and adds those that are missing.
    fn connect(&self, pulse: &mut Pulse, wanted: &[Node]) {
        let mut connected = self.0.connected.write().unwrap_or_else(PoisonError::into_inner);
        pulse.handles.retain(|(node, handle, n_silences)| {
            let stays = wanted.contains(node) && *n_silences < MAX_SILENCES;
            if !stays {
                handle.abort();
                connected.retain(|it| it.node != *node);
            }
            stays
        });
        for node in wanted {
            if pulse.handles.iter().any(|it| it.0 == *node) {
                continue;
            }
            let server = self.0.address.at(node);
            let builder = self.0.config.builder(&server, Database::Jobs as u8);
            let Ok(client) = builder.build() else { continue };
            info!(replica = %node, "reading from a replica");
            pulse.handles.push((node.clone(), client.connect(), 0));
            connected.push(Replica { node: node.clone(), client, has_until: None });
        }
    }

    async fn beat(&self, pulse: &mut Pulse) {
        const KEPT: usize = 64;
        const TTL_SECS: i64 = 60;
        pulse.number += 1;
        let (number, sent) = (pulse.number, Instant::now());
        let set = self.0.primary.call(|client| {
            let key = self.0.key.clone();
            async move {
                let expires = Some(Expiration::EX(TTL_SECS));
                client.set::<(), _, _>(key, number.to_string(), expires, None, false).await
            }
        });
        // A failover may take its time; meanwhile every replica grows old, as it should.
        if let Ok(Ok(())) = timeout(ANSWER_WITHIN, set).await {
            pulse.sent.push_back((number, sent));
            if pulse.sent.len() > KEPT {
                pulse.sent.pop_front();
            }
        }
    }

    async fn listen(&self, pulse: &mut Pulse) {
        let replicas = self.0.connected.read().unwrap_or_else(PoisonError::into_inner).clone();
        let ask = |it: &Replica| {
            let (client, key) = (it.client.clone(), self.0.key.clone());
            async move { timeout(ANSWER_WITHIN, client.get::<Option<String>, _>(key)).await.ok()?.ok() }
        };
        let answers = join_all(replicas.iter().map(ask)).await;
        let mut connected = self.0.connected.write().unwrap_or_else(PoisonError::into_inner);
        for (replica, answer) in replicas.iter().zip(answers) {
            if let Some(it) = pulse.handles.iter_mut().find(|it| it.0 == replica.node) {
                it.2 = if answer.is_some() { 0 } else { it.2 + 1 };
            }
            let number = answer.flatten().and_then(|it| it.parse::<u64>().ok());
            let moment = pulse.sent.iter().find(|it| Some(it.0) == number).map(|it| it.1);
            if let (Some(moment), Some(it)) =
                (moment, connected.iter_mut().find(|it| it.node == replica.node))
            {
                it.has_until = Some(moment);
            }
        }
    }
}
