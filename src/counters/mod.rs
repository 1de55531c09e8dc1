//! The seed's counters and gauges, which all processes share. `/metrics` lists them after the metrics of the process.
//!
//! Changes are collected in memory and written every `shared_metrics.flush_interval`, all names in one round trip. Each
//! batch has a number that Redis stores, and is retried until Redis confirms it. So each change is applied once, even
//! if a reply is lost or Redis is unavailable, as long as the process lives. A process that is killed loses the
//! changes since its last flush.

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
    settings::{HumanDuration, validate_range},
    store::Redis,
    tasks::TaskSupervisor,
};

/// Counters and gauges that all processes share, and the part of `/metrics` that is read from Redis.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The interval of writes to Redis.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub flush_interval: Duration,
    /// The TTL of a counter or gauge after its last change.
    #[serde(with = "HumanDuration")]
    pub ttl: Duration,
    /// The maximum number of names with pending changes, and of shared metrics in `/metrics`.
    #[schemars(extend("x-tuning" = true))]
    pub max_names: usize,
    /// The maximum time that `/metrics` waits for Redis.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub scrape_timeout: Duration,
}

impl Config {
    pub(crate) fn validate(&self) -> AnyResult<()> {
        // `unpack` in `list.lua` is limited to slightly less than 8000 values.
        const MAX_NAMES: usize = 5000;
        let (ms, hours) = (Duration::from_millis, Duration::from_hours);
        validate_range("flush_interval", self.flush_interval, ms(10), ms(60_000))?;
        validate_range("ttl", self.ttl, ms(60_000), hours(8784))?;
        validate_range("scrape_timeout", self.scrape_timeout, ms(10), ms(10_000))?;
        if !(1..=MAX_NAMES).contains(&self.max_names) {
            bail!("max_names is {}; it must be between 1 and {MAX_NAMES}", self.max_names);
        }
        Ok(())
    }
}

/// A change of a shared metric.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// Adds to the counter.
    Increment(u64),
    /// Sets the gauge.
    Value(f64),
}

/// The counter and the gauge of a name, as stored in Redis.
#[derive(Debug, Default)]
pub(crate) struct SharedMetric {
    pub(crate) count: Option<f64>,
    pub(crate) value: Option<f64>,
}

/// The shared counters and gauges. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Counters(Arc<Inner>);

struct Inner {
    redis: Redis,
    config: Config,
    pending: Mutex<PendingChanges>,
    writer: tokio::sync::Mutex<Writer>,
}

/// Changes that are not yet written.
#[derive(Debug, Default)]
struct PendingChanges {
    counts: HashMap<MetricName, u64>,
    values: HashMap<MetricName, f64>,
}

/// Numbers the batches, and keeps the one that Redis has not confirmed.
struct Writer {
    id: Uuid,
    batch_number: u64,
    unconfirmed: Option<PendingChanges>,
}

impl PendingChanges {
    fn len(&self) -> usize {
        self.counts.len() + self.values.len()
    }

    fn has_room_for(&self, name: &MetricName, change: Change, max_names: usize) -> bool {
        let is_pending = match change {
            Change::Increment(_) => self.counts.contains_key(name),
            Change::Value(_) => self.values.contains_key(name),
        };
        is_pending || self.len() < max_names
    }
}

impl Counters {
    pub(crate) fn start(redis: Redis, config: Config, tasks: &TaskSupervisor) -> Self {
        let writer = Writer { id: Uuid::new_v4(), batch_number: 0, unconfirmed: None };
        let counters = Self(Arc::new(Inner {
            redis,
            config,
            pending: Mutex::default(),
            writer: tokio::sync::Mutex::new(writer),
        }));
        tasks.spawn_critical("shared metrics", counters.clone().run(tasks.shutdown_token()));
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
                warn!(%error, "writing shared metrics failed; they stay pending");
            }
            was_failing = flushed.is_err();
        }
    }

    /// Records a change, which the next flush writes.
    ///
    /// # Errors
    ///
    /// [`Error::Overloaded`] when `shared_metrics.max_names` names have pending changes.
    pub(crate) fn record(&self, name: MetricName, change: Change) -> Result<()> {
        let metrics = &self.0.redis.metrics().shared;
        let mut pending = self.0.pending.lock();
        if !pending.has_room_for(&name, change, self.0.config.max_names) {
            metrics.dropped.inc();
            return Err(Error::Overloaded("too many shared metrics are pending; please try again"));
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

    /// Writes all pending changes. After a failure, they stay pending.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn flush(&self) -> Result<()> {
        let mut writer = self.0.writer.lock().await;
        // The batch that failed before, if any, and then the changes since.
        while self.next_batch(&mut writer) {
            self.write(&mut writer).await?;
        }
        Ok(())
    }

    fn next_batch(&self, writer: &mut Writer) -> bool {
        if writer.unconfirmed.is_some() {
            return true;
        }
        let mut pending = self.0.pending.lock();
        if pending.len() == 0 {
            return false;
        }
        self.0.redis.metrics().shared.pending.set(0);
        writer.batch_number += 1;
        writer.unconfirmed = Some(std::mem::take(&mut *pending));
        true
    }

    async fn write(&self, writer: &mut Writer) -> Result<()> {
        let Some(changes) = &writer.unconfirmed else { return Ok(()) };
        let metrics = &self.0.redis.metrics().shared;
        match store::flush(&self.0.redis, &self.0.config, (writer.id, writer.batch_number), changes)
            .await
        {
            Ok(rejected) => {
                metrics.flushed.inc();
                metrics.dropped.inc_by(rejected);
                if rejected > 0 {
                    warn!(rejected, "shared metrics whose keys have another type were not changed");
                }
                writer.unconfirmed = None;
                Ok(())
            }
            Err(error) => {
                metrics.flush_failures.inc();
                Err(error)
            }
        }
    }

    /// The maximum time that a scrape waits for Redis.
    pub(crate) fn scrape_timeout(&self) -> Duration {
        self.0.config.scrape_timeout
    }

    /// The most recently changed metrics, at most `shared_metrics.max_names`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn list(&self) -> Result<store::ListReply> {
        store::list(&self.0.redis, &self.0.config).await
    }

    /// The counter and the gauge of a name, after the pending changes of this process are written.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn read(&self, name: &MetricName) -> Result<SharedMetric> {
        self.flush().await?;
        store::read(&self.0.redis, &self.0.config, name).await
    }
}
