//! Cached values that all processes share, readable by the seed's `RedisCache`.
//!
//! What is missing is computed by one caller of all processes, and the others are woken by its value ([`flight`]).
//! A value is computed anew shortly before it becomes stale, by one caller at random (`XFetch`: Vattani, Chierichetti,
//! Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015), and after that served stale as long as
//! its terms allow while one caller computes it.

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
    single_flight::Flights,
    store::{Claim, Fresh, Opened},
};
use crate::{
    error::{Error, Result},
    ids::Tag,
    settings::{Time, check_between},
    store::{CacheKey, Redis},
    tasks::Tasks,
};

/// How values are cached.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// By how much, at random, a value lives shorter than it may.
    pub jitter_percent: u32,
    /// A value is computed anew before it becomes stale, the earlier the longer that takes: 1.0 suits most, 0 is never
    /// early.
    pub early_refresh: f64,
    /// The longest that a computation may take; then another caller may try.
    #[serde(with = "Time")]
    pub compute_timeout: Duration,
}

impl Config {
    pub(crate) fn check(&self) -> AnyResult<()> {
        let ms = Duration::from_millis;
        check_between("compute_timeout", self.compute_timeout, ms(10), ms(60_000))?;
        if self.jitter_percent > 50 {
            bail!("jitter_percent is {}; it has to be between 0 and 50", self.jitter_percent);
        }
        if !(0.0..=100.0).contains(&self.early_refresh) {
            bail!("early_refresh is {}; it has to be between 0 and 100", self.early_refresh);
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
    tasks: Tasks,
    flights: Flights,
    /// One for each computation that may run at once.
    places: Semaphore,
}

/// How long a value is good, and with what it goes.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Fresh for this long.
    pub(crate) ttl: Duration,
    /// Then served stale for this long while it is computed anew.
    pub(crate) stale_for: Duration,
    /// Whether a hit makes it fresh for as long again.
    pub(crate) slides: bool,
    pub(crate) tags: Vec<Tag>,
}

/// A computation: JSON text, or that there is no value. It runs only if its result is needed.
pub(crate) type Computation = BoxFuture<'static, Result<Option<Bytes>>>;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Hit,
    Stale,
    Miss,
    Negative,
}

impl Outcome {
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
pub(crate) struct Entry {
    pub(crate) json: Bytes,
    pub(crate) fresh_for: Duration,
}

/// What a look into the cache found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) outcome: Outcome,
    /// Absent when there is none, be that known from the cache or not.
    pub(crate) entry: Option<Entry>,
}

impl Cache {
    pub(crate) fn new(redis: Redis, config: Config, tasks: Tasks) -> Self {
        const MAX_COMPUTATIONS: usize = 64;
        Self(Arc::new(Inner {
            redis,
            config,
            tasks,
            flights: Flights::default(),
            places: Semaphore::new(MAX_COMPUTATIONS),
        }))
    }

    /// The value at `key`, without computing it.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn get(&self, key: &CacheKey) -> Result<Found> {
        let found = match self.open(key, None).await? {
            Opened::Value { json, is_stale, fresh_for, .. } => found(json, is_stale, fresh_for),
            Opened::Negative => Found { outcome: Outcome::Negative, entry: None },
            Opened::Claimed | Opened::Waiting { .. } | Opened::Missing | Opened::Unreadable(_) => {
                Found { outcome: Outcome::Miss, entry: None }
            }
        };
        self.note(key, found.outcome);
        Ok(found)
    }

    /// The value at `key`; if it is missing, what `computation` makes of it, which is then stored under `terms`. That
    /// there is none is remembered for `negative_ttl`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; [`Error::Origin`] when the computation failed or took too long.
    pub(crate) async fn get_or_set(
        &self,
        key: &CacheKey,
        terms: Terms,
        negative_ttl: Duration,
        computation: Computation,
    ) -> Result<Found> {
        let job = single_flight::Job { key: key.clone(), terms, negative_ttl, claim: self.claim() };
        let found = match self.open(key, Some(job.claim)).await? {
            Opened::Value { json, is_stale, fresh_for, is_claimed } => {
                if is_claimed {
                    self.compute_beside(job, computation);
                }
                found(json, is_stale, fresh_for)
            }
            Opened::Negative => Found { outcome: Outcome::Negative, entry: None },
            missing => {
                let claimed_by = match missing {
                    Opened::Claimed => Some(job.claim.token),
                    Opened::Waiting { by, .. } => by,
                    _ => None,
                };
                let entry = self.fly(job, computation, claimed_by).await?;
                Found { outcome: Outcome::Miss, entry }
            }
        };
        self.note(key, found.outcome);
        Ok(found)
    }

    /// Stores a value whatever there is, or is being computed. Returns until when it is fresh and when it is gone.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn put(
        &self,
        key: &CacheKey,
        json: Bytes,
        terms: &Terms,
    ) -> Result<[DateTime<Utc>; 2]> {
        let fresh = Fresh { json: Some(json), claim: None, cost: Duration::ZERO };
        let stored = store::put(&self.0.redis, key, fresh, &self.with_jitter(terms)).await?;
        let reason = "superseded without a claim".to_owned();
        stored.ok_or(Error::Corrupt { what: "answer of a script", reason })
    }

    /// Removes a value, and what is known of there being none. Says whether there was a value.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn remove(&self, key: &CacheKey) -> Result<bool> {
        Ok(store::remove(&self.0.redis, key.as_str()).await? > 0)
    }

    /// Opens a key; what is no JSON there is removed, and missing.
    async fn open(&self, key: &CacheKey, claim: Option<Claim>) -> Result<Opened> {
        let Some(of) = claim else { return self.open_with(key, None).await };
        let (cache, key) = (self.clone(), key.clone());
        let mut unheard = UnheardClaim { cache, key, of, is_heard: false };
        let opened = self.open_with(&unheard.key, claim).await?;
        // From here on whoever asked answers for the claim.
        unheard.is_heard = true;
        Ok(opened)
    }

    async fn open_with(&self, key: &CacheKey, claim: Option<Claim>) -> Result<Opened> {
        // Not for ever: somebody may store nothing but nonsense.
        for _ in 0..2 {
            match store::open(&self.0.redis, key, claim).await? {
                Opened::Unreadable(bytes) => {
                    self.0.redis.metrics().cache.corrupt.inc();
                    warn!(key = key.as_str(), "a cached value is no JSON; it is removed");
                    store::discard(&self.0.redis, key, bytes).await?;
                }
                opened => return Ok(opened),
            }
        }
        Ok(Opened::Missing)
    }

    fn claim(&self) -> Claim {
        /// For storing the result.
        const TO_FINISH: Duration = Duration::from_millis(500);
        Claim {
            token: Uuid::new_v4(),
            lasts: self.0.config.compute_timeout + TO_FINISH,
            // Exponentially distributed, so that of many callers some are early and few are late.
            early: -(1.0 - fastrand::f64()).ln() * self.0.config.early_refresh,
        }
    }

    /// Values that were stored together shall not end together.
    fn with_jitter(&self, terms: &Terms) -> Terms {
        let share = f64::from(self.0.config.jitter_percent) / 100.0 * fastrand::f64();
        Terms { ttl: terms.ttl.mul_f64(1.0 - share), ..terms.clone() }
    }

    /// The one place that knows what looks into the cache found.
    fn note(&self, key: &CacheKey, outcome: Outcome) {
        let metrics = &self.0.redis.metrics().cache;
        match outcome {
            Outcome::Hit => metrics.hit.inc(),
            Outcome::Stale => metrics.stale.inc(),
            Outcome::Miss => metrics.miss.inc(),
            Outcome::Negative => metrics.negative.inc(),
        };
        debug!(key = key.as_str(), outcome = outcome.as_str(), "cache");
    }
}

/// A claim that may have been granted to a caller that went before it heard so: nobody else shall wait for it.
struct UnheardClaim {
    cache: Cache,
    key: CacheKey,
    of: Claim,
    is_heard: bool,
}

impl Drop for UnheardClaim {
    fn drop(&mut self) {
        if self.is_heard {
            return;
        }
        let (cache, key, token) = (self.cache.clone(), self.key.clone(), self.of.token);
        self.cache.0.tasks.spawn_unguarded("cache claim", async move {
            // What cannot be given up ends of itself.
            _ = store::abandon(&cache.0.redis, &key, token, Duration::from_millis(1)).await;
        });
    }
}

fn found(json: Bytes, is_stale: bool, fresh_for: Duration) -> Found {
    let outcome = if is_stale { Outcome::Stale } else { Outcome::Hit };
    Found { outcome, entry: Some(Entry { json, fresh_for }) }
}
