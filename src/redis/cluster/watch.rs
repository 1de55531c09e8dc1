//! Asks nodes all the time who has which slots.
//!
//! Several are asked at once, and the answer with the highest epoch counts: a node that was cut off is wrong, not
//! outvoted. The connections for it are nobody else's, so that a shard that hangs delays no answer of another.

use std::{collections::HashMap, time::Duration};

use fred::{
    clients::Client,
    interfaces::ClientLike as _,
    types::{ConnectHandle, CustomCommand},
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{super::address::Node, Cluster, view::View};

/// Time between questions.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// The same while a server has said that it is not the right one, or cannot be reached.
const ASK_SOON: Duration = Duration::from_millis(50);
/// The longest that a node may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// How many nodes are asked at once.
const ASK: usize = 5;
/// A view counts against an older one for this long; then the cluster has been made anew.
const BELIEVE_FOR: Duration = Duration::from_secs(30);

pub(super) struct Watch {
    cluster: Cluster,
    seeds: Vec<Node>,
    lines: HashMap<Node, Line>,
    /// Which nodes are next to be asked.
    turn: usize,
    /// The last view, and when some node last had it.
    known: Option<(View, Instant)>,
}

impl Watch {
    pub(super) fn new(cluster: Cluster, seeds: Vec<Node>) -> Self {
        Self { cluster, seeds, lines: HashMap::new(), turn: 0, known: None }
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut was_silent = false;
        while !shutdown.is_cancelled() {
            let is_silent = !self.ask().await;
            if is_silent && !std::mem::replace(&mut was_silent, is_silent) {
                warn!("no node of the cluster answers");
            }
            was_silent = is_silent;
            self.cluster.measure();
            let pause = async {
                if !self.cluster.is_up() {
                    return sleep(ASK_SOON).await;
                }
                tokio::select! {
                    () = sleep(ASK_EVERY) => (),
                    () = self.cluster.doubted() => sleep(ASK_SOON).await,
                }
            };
            _ = shutdown.run_until_cancelled(pause).await;
        }
        for line in self.lines.into_values() {
            line.handle.abort();
        }
    }

    /// Returns whether anybody answered.
    async fn ask(&mut self) -> bool {
        let asked = self.whom();
        let answers = join_all(asked.iter().map(|node| {
            let line = self.lines.get(node);
            async move { line?.ask(node).await }
        }))
        .await;
        let mut newest: Option<View> = None;
        for (node, answer) in asked.iter().zip(answers) {
            match answer {
                None => self.drop_line(node),
                Some(view) if view.shards.is_empty() => (),
                Some(view) if newest.as_ref().is_none_or(|it| it.epoch < view.epoch) => {
                    newest = Some(view);
                }
                Some(_) => (),
            }
        }
        match newest {
            Some(view) => {
                self.hear(view);
                true
            }
            None => false,
        }
    }

    fn hear(&mut self, view: View) {
        let is_older = self
            .known
            .as_ref()
            .is_some_and(|(known, at)| view.epoch < known.epoch && at.elapsed() < BELIEVE_FOR);
        if is_older {
            return;
        }
        self.cluster.follow(&view);
        self.lines.retain(|node, line| {
            let stays = self.seeds.contains(node) || view.nodes().any(|it| it == node);
            if !stays {
                line.handle.abort();
            }
            stays
        });
        self.known = Some((view, Instant::now()));
    }

    /// Some of the known nodes, all of them in turn, each with a connection.
    fn whom(&mut self) -> Vec<Node> {
        let mut all: Vec<Node> = self.known.iter().flat_map(|it| it.0.nodes().cloned()).collect();
        let silent = self.known.is_none() || !self.cluster.is_up();
        if silent {
            all.extend(
                self.seeds.iter().filter(|it| !all.contains(it)).cloned().collect::<Vec<_>>(),
            );
        }
        let n = all.len();
        self.turn = self.turn.wrapping_add(ASK);
        let chosen: Vec<Node> = (0..n.min(ASK)).map(|i| all[(self.turn + i) % n].clone()).collect();
        for node in &chosen {
            if !self.lines.contains_key(node)
                && let Some(line) = Line::open(&self.cluster, node)
            {
                self.lines.insert(node.clone(), line);
            }
        }
        chosen
    }

    fn drop_line(&mut self, node: &Node) {
        if let Some(line) = self.lines.remove(node) {
            line.handle.abort();
        }
    }
}

/// A connection that is never mended: a new one costs less.
struct Line {
    client: Client,
    handle: ConnectHandle,
}

impl Line {
    fn open(cluster: &Cluster, node: &Node) -> Option<Self> {
        let client = cluster.builder_of_once(node).build().ok()?;
        Some(Self { handle: client.connect(), client })
    }

    async fn ask(&self, node: &Node) -> Option<View> {
        let answer = async {
            self.client.wait_for_connect().await?;
            let command = CustomCommand::new_static("CLUSTER", None, false);
            self.client.custom::<String, _>(command, vec!["NODES"]).await
        };
        let text = timeout(ANSWER_WITHIN, Box::pin(answer)).await.ok()?.ok()?;
        Some(View::parse(&text, node))
    }
}
