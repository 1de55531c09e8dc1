//! Asks every sentinel all the time who is the primary, and listens for what they announce.
//!
//! Each sentinel has a connection of its own, so one that hangs delays no other. The answer with the highest
//! configuration epoch counts: a sentinel that slept through a failover is wrong, not outvoted. While a failover
//! is handing over, the primary is held to be nowhere: what an old primary accepts then is lost with it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use fred::{
    clients::SubscriberClient,
    error::Error as FredError,
    interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _},
    prelude::Builder,
    types::{ConnectHandle, CustomCommand, FromValue, Message},
};
use tokio::{
    sync::{broadcast::Receiver, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Address, Config, address::Node};
use crate::tasks::Tasks;

/// Time between questions to each sentinel.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// The longest that a sentinel may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// What a sentinel said counts for this long.
const BELIEVE_FOR: Duration = Duration::from_secs(5);
/// The longest that a failover may hold the primary to be nowhere.
const HOLD_FOR: Duration = Duration::from_secs(3);

/// A replica is about to be told that it is the primary.
const HANDING_OVER: &str = "+failover-state-send-slaveof-noone";
/// What sentinels announce that is worth asking them at once.
const ANNOUNCEMENTS: [&str; 6] = [
    HANDING_OVER,
    "+promoted-slave",
    "+switch-master",
    "+failover-end",
    "-failover-abort-slave-timeout",
    "-failover-abort-master-is-back",
];

/// What a sentinel says of the service.
struct View {
    /// How often a failover has been agreed upon.
    epoch: u64,
    primary: Node,
    replicas: Vec<Node>,
    at: Instant,
}

/// What all of them say together.
struct Council {
    service_name: String,
    views: Mutex<Vec<Option<View>>>,
    /// A primary that is being replaced, and until when this is believed.
    leaving: Mutex<Option<(Node, Instant)>>,
    primary: watch::Sender<Option<Node>>,
    replicas: watch::Sender<Vec<Node>>,
}

/// Begins to ask the sentinels of `config`. Returns where the primary is, and which replicas are in touch with it.
pub(super) fn start(
    config: &Config,
    tasks: &Tasks,
) -> anyhow::Result<(Address, watch::Receiver<Vec<Node>>)> {
    let nodes = config.sentinel_nodes()?;
    let server = config.server_without_place().context("redis")?;
    let (primary, primary_rx) = watch::channel(None);
    let (replicas, replicas_rx) = watch::channel(Vec::new());
    let council = Arc::new(Council {
        service_name: config.service_name.clone(),
        views: Mutex::new(nodes.iter().map(|_| None).collect()),
        leaving: Mutex::new(None),
        primary,
        replicas,
    });
    let address = Address::followed(server, primary_rx);
    for (index, node) in nodes.into_iter().enumerate() {
        let builder = config.sentinel_builder(address.at(&node));
        let sentinel = Sentinel { index, node, builder, council: council.clone() };
        tasks.spawn("redis sentinel", sentinel.watch(tasks.shutdown()));
    }
    Ok((address, replicas_rx))
}

impl Council {
    fn hear(&self, index: usize, view: View) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views[index] = Some(view);
        let known = self.primary.borrow().clone();
        let Some(view) = choose(views.iter().flatten(), known.as_ref(), Instant::now()) else {
            return;
        };
        let chosen = view.primary.clone();
        self.replicas.send_if_modified(|it| replace(it, view.replicas.clone()));
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let is_leaving = leaving.as_ref().is_some_and(|it| it.0 == chosen && it.1 > Instant::now());
        if !is_leaving {
            *leaving = None;
        }
        let primary = (!is_leaving).then_some(chosen);
        self.primary.send_if_modified(|it| {
            let is_news = replace(it, primary);
            if let (true, Some(node)) = (is_news, it) {
                info!(primary = %node, "the sentinels name the primary");
            }
            is_news
        });
    }

    /// Another primary is about to be named.
    fn hold(&self) {
        let Some(node) = self.primary.borrow().clone() else { return };
        info!(primary = %node, "the primary is being replaced");
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        *leaving = Some((node, Instant::now() + HOLD_FOR));
        self.primary.send_replace(None);
    }

    fn release(&self) {
        *self.leaving.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Returns whether that changed something.
fn replace<T: PartialEq>(place: &mut T, value: T) -> bool {
    *place != value && {
        *place = value;
        true
    }
}

/// The view of the highest epoch; among equals one with the primary that is `known`, and of these the newest.
fn choose<'a>(
    views: impl Iterator<Item = &'a View>,
    known: Option<&Node>,
    now: Instant,
) -> Option<&'a View> {
    views
        .filter(|it| now.duration_since(it.at) < BELIEVE_FOR)
        .max_by_key(|it| (it.epoch, Some(&it.primary) == known, it.at))
}

/// One of them.
struct Sentinel {
    index: usize,
    node: Node,
    builder: Builder,
    council: Arc<Council>,
}

impl Sentinel {
    async fn watch(self, shutdown: CancellationToken) {
        let mut was_silent = false;
        loop {
            let Some(error) = shutdown.run_until_cancelled(self.listen()).await else { return };
            if !std::mem::replace(&mut was_silent, true) {
                warn!(sentinel = %self.node, %error, "a sentinel does not answer");
            }
            if shutdown.run_until_cancelled(sleep(ASK_EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Asks over one connection until that fails. A connection is never mended: a new one costs less.
    async fn listen(&self) -> FredError {
        let mut line = match Line::open(&self.builder).await {
            Ok(line) => line,
            Err(error) => return error,
        };
        loop {
            match line.ask(&self.council.service_name).await {
                Ok(view) => self.council.hear(self.index, view),
                Err(error) => return error,
            }
            tokio::select! {
                () = sleep(ASK_EVERY) => (),
                Ok(message) = line.messages.recv() => self.heed(&message),
            }
        }
    }

    /// Announcements of all services come on the same channels; the service is one of the words.
    fn heed(&self, message: &Message) {
        let text = message.value.as_string().unwrap_or_default();
        if !text.split(' ').any(|it| it == self.council.service_name) {
            return;
        }
        match &*message.channel {
            HANDING_OVER => self.council.hold(),
            aborted if aborted.starts_with('-') => self.council.release(),
            // Asking is what happens next in any case.
            _ => (),
        }
    }
}

/// A connection to a sentinel; it goes when this does.
struct Line {
    client: SubscriberClient,
    handle: ConnectHandle,
    messages: Receiver<Message>,
}

impl Line {
    async fn open(builder: &Builder) -> Result<Self, FredError> {
        let client = builder.build_subscriber_client()?;
        let messages = client.message_rx();
        let line = Self { handle: client.connect(), client, messages };
        bounded(async {
            line.client.wait_for_connect().await?;
            line.client.subscribe(ANNOUNCEMENTS.to_vec()).await
        })
        .await?;
        Ok(line)
    }

    async fn ask(&self, service: &str) -> Result<View, FredError> {
        bounded(async {
            // The epoch first: read after the address, it could make an old address look new.
            let status: HashMap<String, String> = self.sentinel("MASTER", service).await?;
            let (host, port) = self.sentinel("GET-MASTER-ADDR-BY-NAME", service).await?;
            let replicas: Vec<HashMap<String, String>> = self.sentinel("REPLICAS", service).await?;
            Ok(View {
                epoch: status.get("config-epoch").and_then(|it| it.parse().ok()).unwrap_or(0),
                primary: Node { host, port },
                replicas: replicas.iter().filter_map(replica).collect(),
                at: Instant::now(),
            })
        })
        .await
    }

    async fn sentinel<T: FromValue>(&self, what: &str, service: &str) -> Result<T, FredError> {
        let command = CustomCommand::new_static("SENTINEL", None, false);
        self.client.custom(command, vec![what.to_owned(), service.to_owned()]).await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// A replica that runs and is in touch with its primary.
fn replica(fields: &HashMap<String, String>) -> Option<Node> {
    let is_well = fields.get("flags")? == "slave" && fields.get("master-link-status")? == "ok";
    let node = Node { host: fields.get("ip")?.clone(), port: fields.get("port")?.parse().ok()? };
    is_well.then_some(node)
}

async fn bounded<T>(call: impl Future<Output = Result<T, FredError>>) -> Result<T, FredError> {
    match timeout(ANSWER_WITHIN, Box::pin(call)).await {
        Ok(answer) => answer,
        Err(_) => Err(FredError::new(fred::error::ErrorKind::Timeout, "no answer in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        Node { host: "10.0.0.1".to_owned(), port }
    }

    fn view(epoch: u64, port: u16, at: Instant) -> View {
        View { epoch, primary: node(port), replicas: Vec::new(), at }
    }

    #[test]
    fn the_highest_epoch_counts_and_old_words_do_not() {
        let now = Instant::now();
        let known = node(1);
        let primary = |views: &[View], now| {
            choose(views.iter(), Some(&known), now).map(|it| it.primary.clone())
        };
        let views = [view(3, 1, now), view(4, 2, now), view(3, 1, now)];
        assert_eq!(primary(&views, now), Some(node(2)));
        let views = [view(4, 1, now), view(4, 2, now)];
        assert_eq!(primary(&views, now), Some(node(1)));
        assert_eq!(primary(&views, now + BELIEVE_FOR), None);
    }
}
