//! Cached model data: stored by workers, read by clients, and fetched from an origin when missing.

mod origin;

use std::time::Duration;

use anyhow::{Result as AnyResult, bail};
use bytes::Bytes;
use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::origin::OriginClient;
use crate::{
    cache::{Cache, CachePolicy, Lookup},
    error::Result,
    ids::ModelId,
    settings::{HumanDuration, HumanSize, Secret, validate_range},
    store::CacheKey,
};

/// Cached model data.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The default TTL of a model, if the worker sets none.
    #[serde(with = "HumanDuration")]
    pub ttl: Duration,
    /// The maximum TTL that a worker may set.
    #[serde(with = "HumanDuration")]
    pub max_ttl: Duration,
    /// The maximum size of a model as JSON text.
    #[schemars(with = "HumanSize")]
    pub max_size: ByteSize,
    /// The maximum `max-age` of a model in `Cache-Control`.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub client_max_age: Duration,
    /// URL of the service from which missing and stale models are fetched with `GET {origin}/{model_id}`. It responds
    /// with 200 and JSON, or with 404. Certificates of `https` URLs are verified with the system's root certificates,
    /// or those in `SSL_CERT_FILE`. If empty, models are not fetched.
    pub origin: String,
    /// Sent to the origin as `Authorization: Bearer`.
    pub origin_key: Secret,
    /// How long a model of the origin is served as stale after its TTL, while it is refreshed.
    #[serde(with = "HumanDuration")]
    pub stale_for: Duration,
    /// How long a 404 of the origin is cached.
    #[serde(with = "HumanDuration")]
    pub negative_ttl: Duration,
}

impl Config {
    pub(crate) fn validate(&self) -> AnyResult<()> {
        let (second, day) = (Duration::from_secs(1), Duration::from_hours(24));
        validate_range("max_ttl", self.max_ttl, second, 30 * day)?;
        validate_range("ttl", self.ttl, second, self.max_ttl)?;
        validate_range("stale_for", self.stale_for, Duration::ZERO, 30 * day)?;
        validate_range("negative_ttl", self.negative_ttl, Duration::from_millis(1), day)?;
        if !self.origin.is_empty() && OriginClient::parse_url(self).is_none() {
            bail!(
                "origin must be an http or https URL without user and password, such as https://models.example.com/v1/"
            );
        }
        Ok(())
    }
}

/// Reads and writes cached models. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Models {
    cache: Cache,
    config: Config,
    origin: Option<OriginClient>,
}

impl Models {
    /// # Errors
    ///
    /// If the origin uses TLS and the system has no root certificates.
    pub(crate) fn new(cache: Cache, config: Config) -> AnyResult<Self> {
        Ok(Self { cache, origin: OriginClient::new(&config)?, config })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The cached model, or the model as fetched from the origin if one is configured.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::RedisUnavailable`]; [`crate::error::Error::Origin`].
    pub(crate) async fn get(&self, model: &ModelId) -> Result<Lookup> {
        let key = CacheKey::for_model(model);
        let Some(origin) = &self.origin else { return self.cache.get(&key).await };
        let terms = CachePolicy {
            ttl: self.config.ttl,
            stale_for: self.config.stale_for,
            slides: false,
            tags: Vec::new(),
        };
        let fetch = Box::pin(origin.clone().fetch(model.clone()));
        self.cache.get_or_set(&key, terms, self.config.negative_ttl, fetch).await
    }

    /// Stores a model. Returns when it becomes stale and when it expires.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::RedisUnavailable`].
    pub(crate) async fn put(
        &self,
        model: &ModelId,
        json: Bytes,
        terms: &CachePolicy,
    ) -> Result<[DateTime<Utc>; 2]> {
        self.cache.put(&CacheKey::for_model(model), json, terms).await
    }

    /// Removes a model. Returns whether it existed.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::RedisUnavailable`].
    pub(crate) async fn remove(&self, model: &ModelId) -> Result<bool> {
        self.cache.remove(&CacheKey::for_model(model)).await
    }
}
