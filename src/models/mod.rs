//! Cached model data: stored by workers, read by clients, and fetched from an origin when it is missing.

mod origin;

use std::time::Duration;

use anyhow::{Result as AnyResult, bail};
use bytes::Bytes;
use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::origin::Origin;
use crate::{
    cache::{Cache, Found, Terms},
    error::Result,
    ids::ModelId,
    settings::{Secret, Size, Time, check_between},
    store::CacheKey,
};

/// What is cached of models.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How long a model is fresh that does not say so itself.
    #[serde(with = "Time")]
    pub ttl: Duration,
    /// The longest that a worker may say.
    #[serde(with = "Time")]
    pub max_ttl: Duration,
    /// The largest model, as JSON text.
    #[schemars(with = "Size")]
    pub max_size: ByteSize,
    /// How long clients may keep a model without asking again.
    #[serde(with = "Time")]
    pub client_max_age: Duration,
    /// `GET {origin}/{model_id}` is asked for models that are missing or stale: 200 with JSON, or 404. With https the
    /// system's certificates vouch for it, or those in `SSL_CERT_FILE`. Empty: nobody is.
    pub origin: String,
    /// Shown to the origin as `Authorization: Bearer`.
    pub origin_key: Secret,
    /// How long after its time a model of the origin is served stale while it is fetched anew.
    #[serde(with = "Time")]
    pub stale_for: Duration,
    /// How long it is believed that the origin has no such model.
    #[serde(with = "Time")]
    pub negative_ttl: Duration,
}

impl Config {
    pub(crate) fn check(&self) -> AnyResult<()> {
        let (second, day) = (Duration::from_secs(1), Duration::from_hours(24));
        check_between("max_ttl", self.max_ttl, second, 30 * day)?;
        check_between("ttl", self.ttl, second, self.max_ttl)?;
        check_between("stale_for", self.stale_for, Duration::ZERO, 30 * day)?;
        check_between("negative_ttl", self.negative_ttl, Duration::from_millis(1), day)?;
        if !self.origin.is_empty() && Origin::url(self).is_none() {
            bail!(
                "origin has to be an http or https URL without a user, such as https://models.example.com/v1/"
            );
        }
        Ok(())
    }
}

/// The models. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Models {
    cache: Cache,
    config: Config,
    origin: Option<Origin>,
}

impl Models {
    /// # Errors
    ///
    /// If there is an origin with TLS, and the system has no certificates to trust.
    pub(crate) fn new(cache: Cache, config: Config) -> AnyResult<Self> {
        Ok(Self { cache, origin: Origin::new(&config)?, config })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What is cached of a model, or fetched from the origin if there is one.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::RedisUnavailable`]; [`crate::error::Error::Origin`].
    pub(crate) async fn get(&self, model: &ModelId) -> Result<Found> {
        let key = CacheKey::for_model(model);
        let Some(origin) = &self.origin else { return self.cache.get(&key).await };
        let terms = Terms {
            ttl: self.config.ttl,
            stale_for: self.config.stale_for,
            slides: false,
            tags: Vec::new(),
        };
        let fetch = Box::pin(origin.clone().fetch(model.clone()));
        self.cache.get_or_set(&key, terms, self.config.negative_ttl, fetch).await
    }

    /// Stores a model. Returns until when it is fresh and when it is gone.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::RedisUnavailable`].
    pub(crate) async fn put(
        &self,
        model: &ModelId,
        json: Bytes,
        terms: &Terms,
    ) -> Result<[DateTime<Utc>; 2]> {
        self.cache.put(&CacheKey::for_model(model), json, terms).await
    }

    /// Removes a model; says whether it was there.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::RedisUnavailable`].
    pub(crate) async fn remove(&self, model: &ModelId) -> Result<bool> {
        self.cache.remove(&CacheKey::for_model(model)).await
    }
}
