//! Settings of authentication.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, time::Duration};

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::{
    ids::Sha256Hex,
    settings::Environment,
    settings::{HumanDuration, Secret, validate_range},
};

/// Limits of one key that replace those of the policies, by policy name.
pub(crate) type Limits = BTreeMap<String, NonZeroU32>;

/// Live keys per name: the old and the new one during a rotation.
pub(super) const MAX_KEYS_PER_NAME: usize = 2;

/// Authentication.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How API keys are authenticated.
    pub mode: Mode,
    /// Keys for mode `keys`, in addition to the keys stored in Redis. Two keys may have the same name, for rotation. In
    /// the environment variable, the list is JSON.
    #[serde(deserialize_with = "keys_or_json")]
    #[schemars(extend("x-json" = true))]
    pub keys: Vec<KeyConfig>,
    /// How long the keys stored in Redis keep working after they were last loaded from Redis; after that they get 503.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub stored_keys_grace: Duration,
    /// Secrets of at least 16 characters that sign stream tickets. The first one signs; signatures of all are
    /// accepted. If empty, a secret is generated and stored in Redis.
    pub ticket_secrets: Vec<Secret>,
    /// The lifetime of a stream ticket; at least `jobs.ttl`.
    #[serde(with = "HumanDuration")]
    pub ticket_ttl: Duration,
}

/// How API keys are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Every key is accepted and has all roles; its hash identifies the caller.
    Open,
    /// Only configured keys and keys stored in Redis are accepted.
    Keys,
}

/// A configured key. Only its hash is configured.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// The name of its owner, for the log.
    pub name: String,
    /// SHA-256 of the key in lower-case hex.
    pub sha256: String,
    /// The roles of the key.
    pub roles: Vec<Role>,
    /// Limits that replace those of the policies, by policy name.
    #[serde(default)]
    pub limits: Limits,
}

/// The role of a key.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Deserialize,
    Serialize,
    clap::ValueEnum,
    utoipa::ToSchema,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Creates, reads and cancels its own jobs.
    Client,
    /// Reports progress and results of any job.
    Worker,
    /// Operates the service.
    Admin,
}

impl Config {
    pub(crate) fn validate(&self, environment: Environment, jobs_ttl: Duration) -> Result<()> {
        const MIN_SECRET_LEN: usize = 16;
        if environment == Environment::Production && self.mode == Mode::Open {
            bail!("mode is \"open\", which accepts every key; in production it must be \"keys\"");
        }
        if environment == Environment::Production && self.ticket_secrets.is_empty() {
            bail!(
                "ticket_secrets is empty; in production set I2M__AUTH__TICKET_SECRETS or I2M__AUTH__TICKET_SECRETS_FILE"
            );
        }
        if self.ticket_secrets.iter().any(|secret| secret.expose().len() < MIN_SECRET_LEN) {
            bail!("ticket_secrets contains a secret shorter than {MIN_SECRET_LEN} characters");
        }
        let (secs, days) = (Duration::from_secs, |days: u64| Duration::from_hours(24 * days));
        validate_range("stored_keys_grace", self.stored_keys_grace, secs(1), days(365))?;
        if self.ticket_ttl < jobs_ttl {
            bail!(
                "ticket_ttl is {:?}; it must be at least jobs.ttl, which is {jobs_ttl:?}",
                self.ticket_ttl
            );
        }
        self.validate_keys()
    }

    fn validate_keys(&self) -> Result<()> {
        for key in &self.keys {
            if let Err(reason) = Sha256Hex::try_from(key.sha256.clone()) {
                bail!("keys: sha256 of {:?}: {reason}", key.name);
            }
            if key.roles.is_empty() {
                bail!("keys: {:?} needs at least one of the roles client, worker, admin", key.name);
            }
            if self.key_count(&key.name) > MAX_KEYS_PER_NAME {
                bail!("keys: {:?} has more than {MAX_KEYS_PER_NAME} live keys", key.name);
            }
        }
        Ok(())
    }

    /// The number of configured keys with this name.
    pub(super) fn key_count(&self, name: &str) -> usize {
        self.keys.iter().filter(|key| key.name == name).count()
    }
}

/// Deserializes a list of keys, or JSON text of one, as set by `I2M__AUTH__KEYS` and `I2M__AUTH__KEYS_FILE`.
fn keys_or_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KeyConfig>, D::Error> {
    struct ListOrJson;

    impl<'de> Visitor<'de> for ListOrJson {
        type Value = Vec<KeyConfig>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of keys, or a list of keys as JSON text")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            Deserialize::deserialize(SeqAccessDeserializer::new(list))
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            serde_json::from_str(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_any(ListOrJson)
}
