//! One connection under supervision: pinged all the time, reconnected when silent, replaced when lost.
//!
//! fred alone never notices a hung server while writes go on (fred #307), and can get stuck in a
//! reconnection for good; see docs/adr/0002.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::Client,
    interfaces::{ClientLike as _, EventInterface as _},
    prelude::Builder,
    types::{
        ConnectHandle, Value,
        config::{Config as FredConfig, Options, Server},
    },
};
use tokio::{
    sync::broadcast::Receiver,
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Config;
use crate::{metrics::ConnectionMetrics, tasks::Tasks};

/// Whether a ping was answered. While Redis cannot save to disk it refuses pings as it does writes; it serves reads
/// all the same.
pub(crate) fn is_answer(pong: &Result<Value, fred::error::Error>) -> bool {
    pong.as_ref().map_or_else(|error| error.details().starts_with("MISCONF"), |_| true)
}

/// A place in a pool; the client in it may be replaced.
pub(super) struct Slot {
    database: u8,
    builder: Builder,
    current: RwLock<Client>,
    up: AtomicBool,
    probe_interval: Duration,
    probe_timeout: Duration,
    replace_after: Duration,
    metrics: ConnectionMetrics,
}

impl Slot {
    /// Begins to connect in the background and supervises until the service stops.
    pub(super) fn start(
        config: &Config,
        server: &FredConfig,
        database: u8,
        tasks: &Tasks,
        metrics: ConnectionMetrics,
    ) -> anyhow::Result<Arc<Self>> {
        let builder = config.builder(server, database);
        let slot = Arc::new(Self {
            database,
            current: RwLock::new(builder.build()?),
            builder,
            up: AtomicBool::new(false),
            probe_interval: config.probe_interval,
            probe_timeout: config.probe_timeout,
            replace_after: config.replace_after,
            metrics,
        });
        tasks.spawn("redis connection", slot.clone().supervise(tasks.shutdown()));
        Ok(slot)
    }

    /// The client, if it answered its last ping and has not lost its connection since.
    pub(super) fn client_if_up(&self) -> Option<Client> {
        if !self.up.load(Ordering::Relaxed) {
            return None;
        }
        let client = self.current();
        client.is_connected().then_some(client)
    }

    fn current(&self) -> Client {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn supervise(self: Arc<Self>, shutdown: CancellationToken) {
        let mut handle = self.current().connect();
        let mut ticks = interval(self.probe_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut n_failures = 0;
        let mut last_answer = Instant::now();
        let mut connects = self.current().reconnect_rx();
        let next_probe = async |connects: &mut Receiver<Server>, ticks: &mut Interval| {
            tokio::select! {
                _ = ticks.tick() => (),
                Ok(_) = connects.recv() => (),
            }
        };
        while shutdown.run_until_cancelled(next_probe(&mut connects, &mut ticks)).await.is_some() {
            if self.answers().await {
                n_failures = 0;
                last_answer = Instant::now();
                if !self.up.swap(true, Ordering::Relaxed) {
                    self.metrics.came_up();
                    info!(database = self.database, "connected to Redis");
                }
                continue;
            }
            n_failures += 1;
            if n_failures < 2 {
                continue;
            }
            if self.up.swap(false, Ordering::Relaxed) {
                self.metrics.went_down();
                warn!(database = self.database, "lost the connection to Redis");
            }
            if last_answer.elapsed() >= self.replace_after {
                self.replace(&mut handle);
                connects = self.current().reconnect_rx();
                last_answer = Instant::now();
            } else {
                // Itself bounded: on a stuck client this call may never return.
                _ = timeout(self.probe_timeout, self.current().force_reconnection()).await;
            }
        }
        _ = timeout(self.probe_timeout, self.current().quit()).await;
        handle.abort();
    }

    async fn answers(&self) -> bool {
        let client = self.current();
        if !client.is_connected() {
            return false;
        }
        let options = Options {
            timeout: Some(self.probe_timeout),
            max_attempts: Some(1),
            fail_fast: true,
            ..Options::default()
        };
        let ping = client.with_options(&options);
        matches!(timeout(self.probe_timeout, ping.ping(None)).await, Ok(pong) if is_answer(&pong))
    }

    /// Throws the client away, with its connection: a dropped client alone would leak it.
    fn replace(&self, handle: &mut ConnectHandle) {
        let Ok(fresh) = self.builder.build() else { return };
        let connecting = fresh.connect();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        std::mem::replace(handle, connecting).abort();
        self.metrics.was_replaced();
        warn!(database = self.database, "made a new connection to Redis");
    }
}
