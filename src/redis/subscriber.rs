//! The process's one subscribing connection: channels are counted, and come back after an outage.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fred::{
    clients::SubscriberClient,
    interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _},
    types::{KeyspaceEvent, Message, config::Config as FredConfig},
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Address, Config, attempt::Attempt, slot::is_answer};
use crate::{observability::metrics::Counter, tasks::Tasks};

/// Channels belong to no database.
const ANY: u8 = 0;

/// What a listener hears.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// A message on a subscribed channel.
    Message { channel: Arc<str>, payload: Bytes },
    /// Messages may have been missed: the connection was lost, or the listener was too slow.
    Gap,
}

/// Handle to the subscribing connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Subscriber(Arc<Inner>);

struct Inner {
    config: Config,
    address: Address,
    patterns: Vec<String>,
    /// Absent until it is known where the server is.
    client: RwLock<Option<SubscriberClient>>,
    wanted: Mutex<HashMap<String, usize>>,
    /// Held while a command goes out, so that the server sees them in the order of the counts.
    sending: tokio::sync::Mutex<()>,
    up: AtomicBool,
    signals: broadcast::Sender<Signal>,
    gaps: Counter,
}

impl Subscriber {
    /// `patterns` are subscribed to for good.
    pub(crate) fn start(
        config: &Config,
        address: &Address,
        patterns: Vec<String>,
        tasks: &Tasks,
        gaps: Counter,
    ) -> anyhow::Result<Self> {
        const MAX_SIGNALS: usize = 8192;
        if let Some(server) = address.now() {
            // Settings that fred refuses should stop the start.
            config.subscriber_builder(&server, ANY).build_subscriber_client()?;
        }
        let inner = Inner {
            config: config.clone(),
            address: address.clone(),
            client: RwLock::new(None),
            patterns,
            wanted: Mutex::default(),
            sending: tokio::sync::Mutex::default(),
            up: AtomicBool::new(false),
            signals: broadcast::channel(MAX_SIGNALS).0,
            gaps,
        };
        let subscriber = Self(Arc::new(inner));
        tasks.spawn("redis subscriber", subscriber.clone().supervise(tasks.shutdown()));
        Ok(subscriber)
    }

    /// Whether subscriptions are heard.
    pub(super) fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Relaxed)
    }

    /// Everything heard from now on, whatever was subscribed.
    pub(crate) fn signals(&self) -> broadcast::Receiver<Signal> {
        self.0.signals.subscribe()
    }

    /// Subscribes to `channels`, counted. While Redis is away they are only noted; a [`Signal::Gap`] tells
    /// when they have come to be heard.
    pub(crate) async fn subscribe(&self, channels: &[String]) {
        let _turn = self.0.sending.lock().await;
        let fresh = self.count(channels, true);
        if let (false, Some(client)) = (fresh.is_empty(), self.client_if_up()) {
            _ = timeout(self.0.config.probe_timeout, client.subscribe(fresh)).await;
        }
    }

    /// Gives up one count of each of `channels`.
    pub(crate) async fn unsubscribe(&self, channels: &[String]) {
        let _turn = self.0.sending.lock().await;
        let unwanted = self.count(channels, false);
        if let (false, Some(client)) = (unwanted.is_empty(), self.client_if_up()) {
            _ = timeout(self.0.config.probe_timeout, client.unsubscribe(unwanted)).await;
        }
    }

    /// Counts and returns the channels that became wanted, or unwanted, by it.
    fn count(&self, channels: &[String], up: bool) -> Vec<String> {
        let mut wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Vec::new();
        for channel in channels {
            let n = wanted.entry(channel.clone()).or_default();
            *n = if up { *n + 1 } else { n.saturating_sub(1) };
            match (*n, up) {
                (1, true) => changed.push(channel.clone()),
                (0, _) => {
                    wanted.remove(channel);
                    changed.push(channel.clone());
                }
                _ => (),
            }
        }
        changed
    }

    fn client_if_up(&self) -> Option<SubscriberClient> {
        let client = self.0.client.read().unwrap_or_else(PoisonError::into_inner).clone();
        client.filter(|_| self.is_up())
    }

    async fn supervise(self, shutdown: CancellationToken) {
        let mut address = self.0.address.clone();
        let mut ticks = interval(self.0.config.probe_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = address.now().and_then(|it| self.open(it, Duration::ZERO));
        let mut last_up = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                // What this interrupted may have been a subscription.
                () = address.changed() => self.0.up.store(false, Ordering::Relaxed),
                () = self.step(connection.as_mut(), &mut ticks) => (),
            }
            if self.is_up() {
                last_up = Instant::now();
            }
            let down = last_up.elapsed();
            if connection.as_ref().is_some_and(|it| it.attempt.is_over()) {
                connection = address.now().and_then(|it| self.open(it, down));
            }
            // A server that is about to be replaced is listened to until its successor is known.
            let Some(server) = address.now() else { continue };
            let is_right = connection.as_ref().is_some_and(|it| it.server == server);
            if !is_right || connection.as_ref().is_some_and(|it| self.is_lost(it)) {
                self.replace(server, down, &mut connection);
            }
        }
        if let Some(connection) = connection {
            _ = timeout(self.0.config.probe_timeout, connection.client.quit()).await;
            connection.attempt.abort();
        }
    }

    fn is_lost(&self, connection: &Connection) -> bool {
        connection.n_failures >= 2
            && connection.last_answer.elapsed() >= self.0.config.replace_after
    }

    async fn step(&self, connection: Option<&mut Connection>, ticks: &mut Interval) {
        let Some(connection) = connection else { return std::future::pending().await };
        tokio::select! {
            message = connection.messages.recv() => match message {
                Ok(message) => self.pass_on(&message),
                Err(RecvError::Lagged(_)) => self.signal(Signal::Gap),
                Err(RecvError::Closed) => { ticks.tick().await; }
            },
            // fred sorts keyspace events out of the messages.
            event = connection.key_changes.recv() => match event {
                Ok(event) => self.pass_on_key_change(&event),
                Err(RecvError::Lagged(_)) => self.signal(Signal::Gap),
                Err(RecvError::Closed) => { ticks.tick().await; }
            },
            Ok(_) = connection.reconnects.recv() => {
                // A new connection has no subscriptions, even if the old one was not missed.
                self.0.up.store(false, Ordering::Relaxed);
                self.probe(connection).await;
            }
            _ = ticks.tick() => self.probe(connection).await,
            () = connection.attempt.over() => self.0.up.store(false, Ordering::Relaxed),
        }
    }

    fn pass_on(&self, message: &Message) {
        let payload = message.value.as_bytes().map(Bytes::copy_from_slice).unwrap_or_default();
        self.signal(Signal::Message { channel: Arc::from(&*message.channel), payload });
    }

    fn pass_on_key_change(&self, event: &KeyspaceEvent) {
        let channel = format!("__keyspace@{}__:{}", event.db, event.key.as_str_lossy());
        self.signal(Signal::Message { channel: Arc::from(channel), payload: Bytes::new() });
    }

    fn signal(&self, signal: Signal) {
        if matches!(signal, Signal::Gap) {
            self.0.gaps.inc();
        }
        // Nobody listening is no error.
        _ = self.0.signals.send(signal);
    }

    async fn subscribe_again(&self, client: &SubscriberClient) {
        let channels: Vec<String> =
            self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let patience = self.0.config.probe_timeout.max(Duration::from_secs(1));
        if !channels.is_empty() {
            _ = timeout(patience, client.subscribe(channels)).await;
        }
        if !self.0.patterns.is_empty() {
            _ = timeout(patience, client.psubscribe(self.0.patterns.clone())).await;
        }
        self.signal(Signal::Gap);
    }

    async fn probe(&self, connection: &mut Connection) {
        let patience = self.0.config.probe_timeout;
        let client = connection.client.clone();
        let alive = client.is_connected()
            && timeout(patience, client.ping(None)).await.is_ok_and(|it| is_answer(&it));
        if alive {
            connection.last_answer = Instant::now();
            connection.n_failures = 0;
            if !self.0.up.swap(true, Ordering::Relaxed) {
                self.subscribe_again(&client).await;
            }
            return;
        }
        connection.n_failures += 1;
        self.0.up.store(false, Ordering::Relaxed);
        // What is not connected connects already, or has ended; what it were told now it would do afterwards.
        if connection.n_failures >= 2 && !self.is_lost(connection) && client.is_connected() {
            _ = timeout(patience, client.force_reconnection()).await;
        }
    }

    /// Where nothing has been heard for `down`.
    fn open(&self, server: FredConfig, down: Duration) -> Option<Connection> {
        let builder = self.0.config.subscriber_builder(&server, ANY);
        let client = builder.build_subscriber_client().ok()?;
        *self.0.client.write().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        let (messages, reconnects) = (client.message_rx(), client.reconnect_rx());
        Some(Connection {
            attempt: Attempt::new(client.connect(), &self.0.config, down),
            messages,
            key_changes: client.keyspace_event_rx(),
            reconnects,
            server,
            client,
            last_answer: Instant::now(),
            n_failures: 0,
        })
    }

    fn replace(&self, server: FredConfig, down: Duration, connection: &mut Option<Connection>) {
        self.0.up.store(false, Ordering::Relaxed);
        let Some(fresh) = self.open(server, down) else { return };
        if let Some(old) = connection.replace(fresh) {
            old.attempt.abort();
            warn!("made a new subscribing connection to Redis");
        }
    }
}

/// A client with what it reports.
struct Connection {
    client: SubscriberClient,
    server: FredConfig,
    attempt: Attempt,
    messages: broadcast::Receiver<Message>,
    key_changes: broadcast::Receiver<KeyspaceEvent>,
    reconnects: broadcast::Receiver<fred::types::config::Server>,
    last_answer: Instant,
    n_failures: u32,
}
