//! Cached values that all processes share. The seed's `RedisCache` can read them.
//!
//! A missing value is computed by one caller of all processes; the other callers wait and are notified
//! ([`single_flight`]). A value is refreshed shortly before it becomes stale, by one caller at random (`XFetch`:
//! Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015). A stale value is
//! served for as long as its policy allows while one caller refreshes it.

pub(crate) mod invalidate;
mod single_flight;
mod store;

use std::{sync::Arc, time::Duration};

use anyhow::{Result as AnyResult, bail};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use uuid::Uuid;

use self::{
    single_flight::{ComputeRequest, SingleFlight},
    store::{ComputeLease, NewValue, OpenReply},
};
use crate::{
    error::{Error, Result},
    ids::Tag,
    settings::{HumanDuration, validate_range},
    store::{CacheKey, Redis},
    tasks::TaskSupervisor,
};

/// The cache.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The maximum percentage by which a TTL is shortened at random, so that values do not expire at the same time.
    #[schemars(extend("x-tuning" = true))]
    pub jitter_percent: u32,
    /// How eagerly values are refreshed before they become stale, relative to the time that computing them takes (the
    /// beta of `XFetch`). 1.0 is a good default; 0 never refreshes early.
    #[schemars(extend("x-tuning" = true))]
    pub early_refresh: f64,
    /// The maximum time of a computation. After it, another caller may compute the value.
    #[serde(with = "HumanDuration")]
    pub compute_timeout: Duration,
}

impl Config {
    pub(crate) fn validate(&self) -> AnyResult<()> {
        let ms = Duration::from_millis;
        validate_range("compute_timeout", self.compute_timeout, ms(10), ms(60_000))?;
        if self.jitter_percent > 50 {
            bail!("jitter_percent is {}; it must be between 0 and 50", self.jitter_percent);
        }
        if !(0.0..=100.0).contains(&self.early_refresh) {
            bail!("early_refresh is {}; it must be between 0 and 100", self.early_refresh);
        }
        Ok(())
    }
}

/// The cache. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cache(Arc<Inner>);

struct Inner {
    redis: Redis,
    config: Config,
    tasks: TaskSupervisor,
    flights: SingleFlight,
    /// One permit per concurrent computation.
    compute_permits: Semaphore,
}

/// The lifetime of a value, and its tags.
#[derive(Clone, Debug)]
pub(crate) struct CachePolicy {
    /// How long the value is fresh.
    pub(crate) ttl: Duration,
    /// How long the value is served as stale after that, while it is refreshed.
    pub(crate) stale_for: Duration,
    /// Whether a hit restarts the TTL.
    pub(crate) slides: bool,
    pub(crate) tags: Vec<Tag>,
}

/// A computation of a value as JSON text, or of `None` if there is no value. It is polled only if its result is needed.
pub(crate) type ComputeFn = BoxFuture<'static, Result<Option<Bytes>>>;

/// The result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheStatus {
    Hit,
    Stale,
    Miss,
    /// It is cached that there is no value.
    Negative,
}

impl CacheStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Negative => "negative",
        }
    }
}

/// A value as JSON text.
#[derive(Clone, Debug)]
pub(crate) struct CachedValue {
    pub(crate) json: Bytes,
    pub(crate) fresh_for: Duration,
}

/// The reply to a lookup.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) outcome: CacheStatus,
    /// `None` if there is no value, whether this was cached or computed.
    pub(crate) entry: Option<CachedValue>,
}

impl Lookup {
    fn value(json: Bytes, is_stale: bool, fresh_for: Duration) -> Self {
        let outcome = if is_stale { CacheStatus::Stale } else { CacheStatus::Hit };
        Self { outcome, entry: Some(CachedValue { json, fresh_for }) }
    }

    fn negative() -> Self {
        Self { outcome: CacheStatus::Negative, entry: None }
    }
}

impl Cache {
    pub(crate) fn new(redis: Redis, config: Config, tasks: TaskSupervisor) -> Self {
        const MAX_COMPUTATIONS: usize = 64;
        Self(Arc::new(Inner {
            redis,
            config,
            tasks,
            flights: SingleFlight::default(),
            compute_permits: Semaphore::new(MAX_COMPUTATIONS),
        }))
    }

    /// The value at `key`, without computing it.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn get(&self, key: &CacheKey) -> Result<Lookup> {
        let found = match self.open(key, None).await? {
            OpenReply::Value { json, is_stale, fresh_for, .. } => {
                Lookup::value(json, is_stale, fresh_for)
            }
            OpenReply::Negative => Lookup::negative(),
            OpenReply::Leased
            | OpenReply::InProgress { .. }
            | OpenReply::Missing
            | OpenReply::Unreadable(_) => Lookup { outcome: CacheStatus::Miss, entry: None },
        };
        self.record_lookup(key, found.outcome);
        Ok(found)
    }

    /// The value at `key`. If it is missing, the result of `computation`, which is then stored under `terms`. The
    /// result that there is no value is cached for `negative_ttl`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; [`Error::Origin`] when the computation failed or timed out.
    pub(crate) async fn get_or_set(
        &self,
        key: &CacheKey,
        terms: CachePolicy,
        negative_ttl: Duration,
        computation: ComputeFn,
    ) -> Result<Lookup> {
        let lease = self.new_lease();
        let request = ComputeRequest { key: key.clone(), terms, negative_ttl, lease };
        let found = match self.open(key, Some(lease)).await? {
            OpenReply::Value { json, is_stale, fresh_for, is_leased } => {
                if is_leased {
                    self.refresh_in_background(request, computation);
                }
                Lookup::value(json, is_stale, fresh_for)
            }
            OpenReply::Negative => Lookup::negative(),
            missing => {
                let leaseholder = match missing {
                    OpenReply::Leased => Some(lease.token),
                    OpenReply::InProgress { leaseholder, .. } => leaseholder,
                    _ => None,
                };
                let entry = self.get_or_compute(request, computation, leaseholder).await?;
                Lookup { outcome: CacheStatus::Miss, entry }
            }
        };
        self.record_lookup(key, found.outcome);
        Ok(found)
    }

    /// Stores a value, whether one exists, is being computed, or neither. Returns when it becomes stale and when it
    /// expires.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn put(
        &self,
        key: &CacheKey,
        json: Bytes,
        terms: &CachePolicy,
    ) -> Result<[DateTime<Utc>; 2]> {
        let value = NewValue { json: Some(json), lease: None, cost: Duration::ZERO };
        let stored = store::put(&self.0.redis, key, value, &self.with_jitter(terms)).await?;
        let reason = "superseded without a lease".to_owned();
        stored.ok_or(Error::CorruptData { what: "cache/put reply", reason })
    }

    /// Removes a value, also a cached "no value". Returns whether a value existed.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn remove(&self, key: &CacheKey) -> Result<bool> {
        Ok(store::remove(&self.0.redis, key.as_str()).await? > 0)
    }

    /// Looks up a key. With `lease`, also requests the right to compute the value if it is missing or due for a
    /// refresh.
    async fn open(&self, key: &CacheKey, lease: Option<ComputeLease>) -> Result<OpenReply> {
        let Some(requested) = lease else { return self.open_readable(key, None).await };
        let (cache, key) = (self.clone(), key.clone());
        let mut guard = LeaseGuard { cache, key, lease: requested, is_armed: true };
        let reply = self.open_readable(&guard.key, lease).await?;
        // From here on, the caller is responsible for the lease.
        guard.is_armed = false;
        Ok(reply)
    }

    /// Looks up a key. A value that is not JSON is removed, and then missing.
    async fn open_readable(
        &self,
        key: &CacheKey,
        lease: Option<ComputeLease>,
    ) -> Result<OpenReply> {
        // Bounded, because another program may keep storing invalid values.
        for _ in 0..2 {
            match store::open(&self.0.redis, key, lease).await? {
                OpenReply::Unreadable(bytes) => {
                    self.0.redis.metrics().cache.corrupt.inc();
                    warn!(key = key.as_str(), "removing a cached value that is not valid JSON");
                    store::delete_if_equal(&self.0.redis, key, bytes).await?;
                }
                reply => return Ok(reply),
            }
        }
        Ok(OpenReply::Missing)
    }

    fn new_lease(&self) -> ComputeLease {
        /// Time to store the result after the computation.
        const STORE_TIMEOUT: Duration = Duration::from_millis(500);
        ComputeLease {
            token: Uuid::new_v4(),
            ttl: self.0.config.compute_timeout + STORE_TIMEOUT,
            // Exponentially distributed, so that a few of many callers refresh early and hardly any refreshes late.
            early_factor: -(1.0 - fastrand::f64()).ln() * self.0.config.early_refresh,
        }
    }

    /// `terms` with a TTL that is shortened at random, so that values stored together do not expire together.
    fn with_jitter(&self, terms: &CachePolicy) -> CachePolicy {
        let share = f64::from(self.0.config.jitter_percent) / 100.0 * fastrand::f64();
        CachePolicy { ttl: terms.ttl.mul_f64(1.0 - share), ..terms.clone() }
    }

    fn record_lookup(&self, key: &CacheKey, outcome: CacheStatus) {
        let metrics = &self.0.redis.metrics().cache;
        match outcome {
            CacheStatus::Hit => metrics.hit.inc(),
            CacheStatus::Stale => metrics.stale.inc(),
            CacheStatus::Miss => metrics.miss.inc(),
            CacheStatus::Negative => metrics.negative.inc(),
        };
        debug!(key = key.as_str(), outcome = outcome.as_str(), "cache lookup");
    }
}

/// Releases a lease that Redis may have granted to a caller that was cancelled before it got the reply. Otherwise other
/// callers would wait until the lease expires.
struct LeaseGuard {
    cache: Cache,
    key: CacheKey,
    lease: ComputeLease,
    is_armed: bool,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        let (cache, key, token) = (self.cache.clone(), self.key.clone(), self.lease.token);
        self.cache.0.tasks.spawn("cache lease release", async move {
            // If this fails, the lease expires.
            _ = store::release_lease(&cache.0.redis, &key, token, Duration::from_millis(1)).await;
        });
    }
}
