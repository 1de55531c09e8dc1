//! One supervised connection: pinged regularly, reconnected when two pings in a row are unanswered, replaced when it
//! stays silent or when its endpoint becomes another server.
//!
//! fred alone never notices a hung server while writes continue (fred #307), and can get stuck in a reconnection for
//! good; see docs/adr/0002. Pools and subscribers differ only in their [`ConnectionKind`].

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use fred::{
    error::Error as FredError,
    interfaces::{ClientLike, EventInterface},
    types::{
        Value,
        config::{Config as FredConfig, Server},
    },
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, broadcast::Receiver},
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{config::Config, connect::ConnectAttempt, endpoint::Endpoint};
use crate::{observability::metrics::ConnectionMetrics, tasks::TaskSupervisor};

/// Unanswered pings in a row after which a connection is down.
const MAX_MISSED_PINGS: u32 = 2;

/// Whether a reply to a ping shows a working server. Redis answers MISCONF to pings, as to writes, while it cannot save
/// to disk; it still serves reads.
pub(crate) fn is_alive_reply(pong: &Result<Value, FredError>) -> bool {
    pong.as_ref().map_or_else(|error| error.details().starts_with("MISCONF"), |_| true)
}

/// The part of a supervised connection that depends on its client.
pub(super) trait ConnectionKind: Send + Sync + 'static {
    type Client: ClientLike + EventInterface + 'static;
    /// Receives messages that the server sends without a request.
    type Inbox: Send;

    /// The name of the connection in the log.
    fn name(&self) -> &'static str;

    fn build(&self, config: &Config, server: &FredConfig) -> Result<Self::Client, FredError>;

    fn open_inbox(&self, client: &Self::Client) -> Self::Inbox;

    /// Waits for one message and handles it. It may be cancelled while it waits.
    fn receive(&self, inbox: &mut Self::Inbox) -> impl Future<Output = ()> + Send;

    /// The caller bounds it by `limit` as well.
    fn ping(
        &self,
        client: &Self::Client,
        limit: Duration,
    ) -> impl Future<Output = Result<Value, FredError>> + Send;

    /// Restores the state of a session, after each connect and after each missed ping. It is repeated if the endpoint
    /// changes meanwhile.
    fn prepare(&self, client: &Self::Client) -> impl Future<Output = ()> + Send;
}

/// A connection that outlives its clients.
pub(super) struct SupervisedConnection<K: ConnectionKind> {
    kind: K,
    config: Config,
    endpoint: Endpoint,
    /// `None` until the address of the server is known.
    client: ArcSwapOption<K::Client>,
    health: Mutex<HealthState>,
    reconnect_requests: Notify,
    metrics: Option<ConnectionMetrics>,
}

/// Whether the connection is up, and since when.
#[derive(Clone, Copy)]
struct HealthState {
    is_up: bool,
    since: Instant,
}

/// The supervisor's state of one client.
struct ActiveClient<K: ConnectionKind> {
    client: K::Client,
    inbox: K::Inbox,
    attempt: ConnectAttempt,
    reconnected: Receiver<Server>,
    server: FredConfig,
    missed_pings: u32,
    last_reply: Instant,
    /// Whether [`ConnectionKind::prepare`] has completed for the present session.
    is_prepared: bool,
}

impl<K: ConnectionKind> SupervisedConnection<K> {
    /// Connects in the background and supervises the connection until the service stops.
    ///
    /// # Errors
    ///
    /// If fred rejects the settings.
    pub(super) fn start(
        kind: K,
        config: &Config,
        endpoint: &Endpoint,
        tasks: &TaskSupervisor,
        metrics: Option<ConnectionMetrics>,
    ) -> anyhow::Result<Arc<Self>> {
        if let Some(server) = endpoint.current() {
            kind.build(config, &server)?;
        }
        let connection = Arc::new(Self {
            kind,
            config: config.clone(),
            endpoint: endpoint.clone(),
            client: ArcSwapOption::empty(),
            health: Mutex::new(HealthState { is_up: false, since: Instant::now() }),
            reconnect_requests: Notify::new(),
            metrics,
        });
        tasks.spawn_critical(
            "redis connection",
            connection.clone().supervise(tasks.shutdown_token()),
        );
        Ok(connection)
    }

    pub(super) fn kind(&self) -> &K {
        &self.kind
    }

    /// The client, if the connection is up and has not been lost since the last ping.
    pub(super) fn client_if_up(&self) -> Option<K::Client> {
        if !self.health.lock().is_up {
            return None;
        }
        self.client.load().as_deref().filter(|client| client.is_connected()).cloned()
    }

    /// When the connection was last known to be up; the present moment if it is up.
    pub(super) fn last_up(&self) -> Instant {
        let health = *self.health.lock();
        if health.is_up { Instant::now() } else { health.since }
    }

    /// Asks for a new connection to the same address, which may have become another server.
    pub(super) fn request_reconnect(&self) {
        self.reconnect_requests.notify_one();
    }

    /// Returns whether the connection was up before.
    fn set_up(&self, is_up: bool) -> bool {
        let mut health = self.health.lock();
        let was_up = health.is_up;
        if was_up != is_up {
            *health = HealthState { is_up, since: Instant::now() };
            match &self.metrics {
                Some(metrics) if is_up => metrics.came_up(),
                Some(metrics) => metrics.went_down(),
                None => (),
            }
        }
        was_up
    }

    fn report_down(&self) {
        if self.set_up(false) {
            warn!(connection = self.kind.name(), "lost the connection to Redis");
        }
    }

    async fn supervise(self: Arc<Self>, shutdown: CancellationToken) {
        let mut endpoint = self.endpoint.clone();
        let mut ticks = interval(self.config.probe_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut active = endpoint.current().and_then(|server| self.connect(server));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = endpoint.changed() => self.switch_server(endpoint.current(), &mut active),
                () = self.step(active.as_mut(), &mut ticks) => (),
            }
            let Some(client) = &active else { continue };
            if client.attempt.should_retry() {
                self.report_down();
                active = endpoint.current().and_then(|server| self.connect(server));
            } else if self.is_lost(client) {
                self.replace(endpoint.current(), &mut active);
            }
        }
        self.end();
        if let Some(active) = active {
            _ = timeout(self.config.probe_timeout, active.client.quit()).await;
            active.attempt.abort();
        }
    }

    /// No caller gets the connection from now on.
    fn end(&self) {
        let mut health = self.health.lock();
        if let Some(metrics) = &self.metrics {
            metrics.ended(health.is_up);
        }
        *health = HealthState { is_up: false, since: Instant::now() };
    }

    /// Moves to the current server. While its address is unknown, nothing new is sent and sent calls may complete.
    fn switch_server(&self, server: Option<FredConfig>, active: &mut Option<ActiveClient<K>>) {
        let Some(server) = server else {
            self.set_up(false);
            if let Some(client) = active {
                client.is_prepared = false;
            }
            return;
        };
        if active.as_ref().is_none_or(|client| client.server != server) {
            self.replace(Some(server), active);
        }
    }

    fn is_lost(&self, active: &ActiveClient<K>) -> bool {
        active.missed_pings >= MAX_MISSED_PINGS
            && active.last_reply.elapsed() >= self.config.reconnect_after
    }

    /// Waits for the next event of the connection and handles it.
    async fn step(&self, active: Option<&mut ActiveClient<K>>, ticks: &mut Interval) {
        let Some(active) = active else { return std::future::pending().await };
        tokio::select! {
            _ = ticks.tick() => (),
            // A new session has no subscriptions, even if the loss of the old one went unnoticed.
            Ok(_) = active.reconnected.recv() => active.is_prepared = false,
            () = self.reconnect_requests.notified() => return self.force_reconnect(&active.client).await,
            () = self.kind.receive(&mut active.inbox) => return,
            () = active.attempt.finished() => return,
        }
        self.probe(active).await;
    }

    async fn probe(&self, active: &mut ActiveClient<K>) {
        if self.is_alive(&active.client).await {
            active.missed_pings = 0;
            active.last_reply = Instant::now();
            if !self.endpoint.is_known() {
                return;
            }
            if !self.set_up(true) {
                info!(connection = self.kind.name(), "connected to Redis");
            }
            if !active.is_prepared {
                self.kind.prepare(&active.client).await;
                active.is_prepared = true;
            }
            return;
        }
        active.missed_pings += 1;
        active.is_prepared = false;
        if active.missed_pings < MAX_MISSED_PINGS {
            return;
        }
        self.report_down();
        if !self.is_lost(active) {
            self.force_reconnect(&active.client).await;
        }
    }

    /// Bounded, because fred may never return from this call on a stuck client.
    async fn force_reconnect(&self, client: &K::Client) {
        // A disconnected client is already reconnecting or has stopped; it would run a queued reconnect later.
        if !client.is_connected() {
            return;
        }
        _ = timeout(self.config.probe_timeout, client.force_reconnection()).await;
    }

    async fn is_alive(&self, client: &K::Client) -> bool {
        if !client.is_connected() {
            return false;
        }
        let limit = self.config.probe_timeout;
        timeout(limit, self.kind.ping(client, limit)).await.is_ok_and(|pong| is_alive_reply(&pong))
    }

    fn connect(&self, server: FredConfig) -> Option<ActiveClient<K>> {
        let client = self.kind.build(&self.config, &server).ok()?;
        let reconnected = client.reconnect_rx();
        let inbox = self.kind.open_inbox(&client);
        let attempt = ConnectAttempt::new(client.connect(), self.last_up().elapsed());
        self.client.store(Some(Arc::new(client.clone())));
        Some(ActiveClient {
            client,
            inbox,
            attempt,
            reconnected,
            server,
            missed_pings: 0,
            last_reply: Instant::now(),
            is_prepared: false,
        })
    }

    /// Discards the client together with its connection; dropping the client alone would leak the connection.
    fn replace(&self, server: Option<FredConfig>, active: &mut Option<ActiveClient<K>>) {
        self.set_up(false);
        let Some(new) = server.and_then(|server| self.connect(server)) else { return };
        if let Some(old) = active.replace(new) {
            old.attempt.abort();
            if let Some(metrics) = &self.metrics {
                metrics.was_replaced();
            }
            warn!(connection = self.kind.name(), "replaced the connection to Redis");
        }
    }
}

#[cfg(test)]
mod tests;
