//! The seed's counters and gauges, shared by all processes; and `/metrics`, which lists them beside this process' own.
//!
//! Changes are gathered here and written every `metrics.flush_interval`, all names in one round trip. A batch has a
//! number, which Redis remembers, and is tried until Redis has answered for it: so each change counts once, also
//! when an answer was lost or Redis was away, for as long as this process lives. A process that is killed loses
//! what it gathered since the last flush.

pub(crate) mod store;

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Result as AnyResult, bail};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    ids::MetricName,
    settings::{Time, check_between},
    store::Redis,
    tasks::Tasks,
};

/// Counters and gauges that all processes share, and what `/metrics` asks of Redis.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Time between writes to Redis.
    #[serde(with = "Time")]
    pub flush_interval: Duration,
    /// A counter or gauge is kept this long after its last change.
    #[serde(with = "Time")]
    pub ttl: Duration,
    /// Names that may wait to be written, and that `/metrics` lists.
    pub max_names: usize,
    /// The longest that `/metrics` waits for Redis.
    #[serde(with = "Time")]
    pub scrape_timeout: Duration,
}

impl Config {
    pub(crate) fn check(&self) -> AnyResult<()> {
        // A script takes so many keys at once.
        const MAX_NAMES: usize = 5000;
        let (ms, hours) = (Duration::from_millis, Duration::from_hours);
        check_between("flush_interval", self.flush_interval, ms(10), ms(60_000))?;
        check_between("ttl", self.ttl, ms(60_000), hours(8784))?;
        check_between("scrape_timeout", self.scrape_timeout, ms(10), ms(10_000))?;
        if !(1..=MAX_NAMES).contains(&self.max_names) {
            bail!("max_names is {}; it has to be between 1 and {MAX_NAMES}", self.max_names);
        }
        Ok(())
    }
}

/// A change of a shared metric.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// To be added to the counter.
    Increment(u64),
    /// To be the gauge's value.
    Value(f64),
}

/// Both of a name's metrics, as they stand in Redis.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) count: Option<f64>,
    pub(crate) value: Option<f64>,
}

/// The shared counters and gauges. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Counters(Arc<Inner>);

struct Inner {
    redis: Redis,
    config: Config,
    pending: Mutex<Changes>,
    writer: tokio::sync::Mutex<Writer>,
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Changes {
    counts: HashMap<MetricName, u64>,
    values: HashMap<MetricName, f64>,
}

/// Numbers batches, and keeps the one that Redis has not answered for.
struct Writer {
    id: Uuid,
    n_batches: u64,
    unanswered: Option<Changes>,
}

impl Changes {
    fn len(&self) -> usize {
        self.counts.len() + self.values.len()
    }

    fn has_room_for(&self, name: &MetricName, change: Change, max_names: usize) -> bool {
        let is_there = match change {
            Change::Increment(_) => self.counts.contains_key(name),
            Change::Value(_) => self.values.contains_key(name),
        };
        is_there || self.len() < max_names
    }
}

impl Counters {
    pub(crate) fn start(redis: Redis, config: Config, tasks: &Tasks) -> Self {
        let writer = Writer { id: Uuid::new_v4(), n_batches: 0, unanswered: None };
        let counters = Self(Arc::new(Inner {
            redis,
            config,
            pending: Mutex::default(),
            writer: tokio::sync::Mutex::new(writer),
        }));
        tasks.spawn("shared metrics", counters.clone().run(tasks.shutdown()));
        counters
    }

    async fn run(self, shutdown: CancellationToken) {
        let mut ticks = interval(self.0.config.flush_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_failing = false;
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let flushed = self.flush().await;
            if let Err(error) = &flushed
                && !was_failing
            {
                warn!(%error, "shared metrics wait for Redis");
            }
            was_failing = flushed.is_err();
        }
    }

    /// Takes note of a change, to be written soon.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when as many names wait as may.
    pub(crate) fn note(&self, name: MetricName, change: Change) -> Result<()> {
        let metrics = &self.0.redis.metrics().shared;
        let mut pending = self.0.pending.lock();
        if !pending.has_room_for(&name, change, self.0.config.max_names) {
            metrics.dropped.inc();
            return Err(Error::Busy("too many metrics wait to be written; please try again"));
        }
        match change {
            Change::Increment(by) => {
                let sum = pending.counts.entry(name).or_default();
                *sum = sum.saturating_add(by).min(i64::MAX as u64);
            }
            Change::Value(value) => drop(pending.values.insert(name, value)),
        }
        metrics.pending.set(i64::try_from(pending.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Writes what waits. What cannot be written now is kept.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn flush(&self) -> Result<()> {
        let mut writer = self.0.writer.lock().await;
        // The batch that failed, and then what has come since.
        while self.next_batch(&mut writer) {
            self.write(&mut writer).await?;
        }
        Ok(())
    }

    fn next_batch(&self, writer: &mut Writer) -> bool {
        if writer.unanswered.is_some() {
            return true;
        }
        let mut pending = self.0.pending.lock();
        if pending.len() == 0 {
            return false;
        }
        self.0.redis.metrics().shared.pending.set(0);
        writer.n_batches += 1;
        writer.unanswered = Some(std::mem::take(&mut *pending));
        true
    }

    async fn write(&self, writer: &mut Writer) -> Result<()> {
        let Some(changes) = &writer.unanswered else { return Ok(()) };
        let metrics = &self.0.redis.metrics().shared;
        match store::flush(&self.0.redis, &self.0.config, (writer.id, writer.n_batches), changes)
            .await
        {
            Ok(n_refused) => {
                metrics.flushed.inc();
                metrics.dropped.inc_by(n_refused);
                if n_refused > 0 {
                    warn!(n_refused, "shared metrics whose keys are no numbers were not changed");
                }
                writer.unanswered = None;
                Ok(())
            }
            Err(error) => {
                metrics.flush_failures.inc();
                Err(error)
            }
        }
    }

    /// The longest that a scrape waits for Redis.
    pub(crate) fn scrape_timeout(&self) -> Duration {
        self.0.config.scrape_timeout
    }

    /// The metrics that were changed last, at most `metrics.max_names` of them.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn list(&self) -> Result<store::Listed> {
        store::list(&self.0.redis, &self.0.config).await
    }

    /// What all processes have written, and this one has gathered.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn read(&self, name: &MetricName) -> Result<Reading> {
        self.flush().await?;
        store::read(&self.0.redis, &self.0.config, name).await
    }
}
