//! One connection under supervision: pinged all the time, reconnected when silent, replaced when lost or when the
//! server it should lead to has become another one.
//!
//! fred alone never notices a hung server while writes go on (fred #307), and can get stuck in a
//! reconnection for good; see docs/adr/0002.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fred::{
    clients::Client,
    interfaces::{ClientLike as _, EventInterface as _},
    types::{
        Value,
        config::{Config as FredConfig, Options, Server},
    },
};
use tokio::{
    sync::{Notify, broadcast::Receiver},
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Address, Config, attempt::Attempt};
use crate::{observability::metrics::ConnectionMetrics, tasks::Tasks};

/// Whether a ping was answered. While Redis cannot save to disk it refuses pings as it does writes; it serves reads
/// all the same.
pub(crate) fn is_answer(pong: &Result<Value, fred::error::Error>) -> bool {
    pong.as_ref().map_or_else(|error| error.details().starts_with("MISCONF"), |_| true)
}

/// A place in a pool; the client in it may be replaced.
pub(super) struct Slot {
    database: u8,
    config: Config,
    address: Address,
    /// Absent until it is known where the server is.
    current: RwLock<Option<Client>>,
    standing: Mutex<Standing>,
    doubts: Notify,
    metrics: ConnectionMetrics,
}

/// Whether the connection answers, and since when that is so.
#[derive(Clone, Copy)]
struct Standing {
    is_up: bool,
    since: Instant,
}

/// What its supervisor knows of a client.
struct Connection {
    client: Client,
    attempt: Attempt,
    connects: Receiver<Server>,
    server: FredConfig,
    n_failures: u32,
    last_answer: Instant,
}

impl Slot {
    /// Begins to connect in the background and supervises until the service stops.
    pub(super) fn start(
        config: &Config,
        address: &Address,
        database: u8,
        tasks: &Tasks,
        metrics: ConnectionMetrics,
    ) -> anyhow::Result<Arc<Self>> {
        if let Some(server) = address.now() {
            // Settings that fred refuses should stop the start.
            config.builder(&server, database).build()?;
        }
        let slot = Arc::new(Self {
            database,
            config: config.clone(),
            address: address.clone(),
            current: RwLock::new(None),
            standing: Mutex::new(Standing { is_up: false, since: Instant::now() }),
            doubts: Notify::new(),
            metrics,
        });
        tasks.spawn("redis connection", slot.clone().supervise(tasks.shutdown()));
        Ok(slot)
    }

    /// The client, if it answered its last ping and has not lost its connection since.
    pub(super) fn client_if_up(&self) -> Option<Client> {
        if !self.standing().is_up {
            return None;
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|it| it.is_connected()).cloned()
    }

    /// When the connection was last known to be up; now, if it is.
    pub(super) fn last_up(&self) -> Instant {
        let standing = self.standing();
        if standing.is_up { Instant::now() } else { standing.since }
    }

    /// The server has said that it is not the one to write to: a new connection may lead to another.
    pub(super) fn doubt(&self) {
        self.doubts.notify_one();
    }

    fn standing(&self) -> Standing {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether it was up before.
    fn set_up(&self, is_up: bool) -> bool {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let was_up = standing.is_up;
        if was_up != is_up {
            *standing = Standing { is_up, since: Instant::now() };
            if is_up { self.metrics.came_up() } else { self.metrics.went_down() }
        }
        was_up
    }

    async fn supervise(self: Arc<Self>, shutdown: CancellationToken) {
        let mut address = self.address.clone();
        let mut ticks = interval(self.config.probe_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = address.now().and_then(|it| self.open(it));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = address.changed() => self.follow(address.now(), &mut connection),
                () = self.step(connection.as_mut(), &mut ticks) => (),
            }
            if connection.as_ref().is_some_and(|it| it.attempt.is_over()) {
                self.try_again(address.now(), &mut connection);
            } else if connection.as_ref().is_some_and(|it| self.is_lost(it)) {
                self.replace(address.now(), &mut connection);
            }
        }
        self.end();
        if let Some(connection) = connection {
            _ = timeout(self.config.probe_timeout, connection.client.quit()).await;
            connection.attempt.abort();
        }
    }

    /// No call gets the connection any more.
    fn end(&self) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.ended(standing.is_up);
        *standing = Standing { is_up: false, since: Instant::now() };
    }

    /// Goes where the server is now. While that is not known nothing new is sent, and what was sent may end.
    fn follow(&self, server: Option<FredConfig>, connection: &mut Option<Connection>) {
        match server {
            None => _ = self.set_up(false),
            Some(server) if connection.as_ref().is_none_or(|it| it.server != server) => {
                self.replace(Some(server), connection);
            }
            Some(_) => (),
        }
    }

    fn is_lost(&self, connection: &Connection) -> bool {
        connection.n_failures >= 2 && connection.last_answer.elapsed() >= self.config.replace_after
    }

    /// Waits until there is a reason to look at the connection, and looks.
    async fn step(&self, connection: Option<&mut Connection>, ticks: &mut Interval) {
        let Some(connection) = connection else { return std::future::pending().await };
        tokio::select! {
            _ = ticks.tick() => (),
            Ok(_) = connection.connects.recv() => (),
            () = self.doubts.notified() => return self.reconnect(connection).await,
            () = connection.attempt.over() => return,
        }
        if self.answers(&connection.client).await {
            connection.n_failures = 0;
            connection.last_answer = Instant::now();
            if self.address.now().is_some() && !self.set_up(true) {
                info!(database = self.database, "connected to Redis");
            }
            return;
        }
        connection.n_failures += 1;
        if connection.n_failures < 2 {
            return;
        }
        if self.set_up(false) {
            warn!(database = self.database, "lost the connection to Redis");
        }
        if !self.is_lost(connection) {
            self.reconnect(connection).await;
        }
    }

    /// Itself bounded: on a stuck client this call may never return.
    async fn reconnect(&self, connection: &Connection) {
        // What is not connected connects already, or has ended; what it were told now it would do afterwards.
        if !connection.client.is_connected() {
            return;
        }
        _ = timeout(self.config.probe_timeout, connection.client.force_reconnection()).await;
    }

    async fn answers(&self, client: &Client) -> bool {
        if !client.is_connected() {
            return false;
        }
        let options = Options {
            timeout: Some(self.config.probe_timeout),
            max_attempts: Some(1),
            fail_fast: true,
            ..Options::default()
        };
        let ping = client.with_options(&options);
        let pong = timeout(self.config.probe_timeout, ping.ping(None)).await;
        pong.is_ok_and(|it| is_answer(&it))
    }

    fn open(&self, server: FredConfig) -> Option<Connection> {
        let client = self.config.builder(&server, self.database).build().ok()?;
        let connects = client.reconnect_rx();
        let attempt = Attempt::new(client.connect(), &self.config, self.last_up().elapsed());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        let last_answer = Instant::now();
        Some(Connection { client, attempt, connects, server, n_failures: 0, last_answer })
    }

    /// Connects anew where nothing could be reached.
    fn try_again(&self, server: Option<FredConfig>, connection: &mut Option<Connection>) {
        if self.set_up(false) {
            warn!(database = self.database, "lost the connection to Redis");
        }
        *connection = server.and_then(|it| self.open(it));
    }

    /// Throws the client away, with its connection: a dropped client alone would leak it.
    fn replace(&self, server: Option<FredConfig>, connection: &mut Option<Connection>) {
        self.set_up(false);
        let Some(fresh) = server.and_then(|it| self.open(it)) else { return };
        if let Some(old) = connection.replace(fresh) {
            old.attempt.abort();
            self.metrics.was_replaced();
            warn!(database = self.database, "made a new connection to Redis");
        }
    }
}
