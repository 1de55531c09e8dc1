//! Who may call: the settings.

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
    settings::{Secret, Time, check_between},
};

/// Limits of one key instead of those of the policies, by their names.
pub(crate) type Limits = BTreeMap<String, NonZeroU32>;

/// Live keys of one name: the old and the new one, while they are rotated.
pub(super) const MAX_KEYS_OF_A_NAME: usize = 2;

/// Who may call.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How a presented key is judged.
    pub mode: Mode,
    /// The keys of mode `keys`, beside those kept in Redis. Two may have one name, so that they can be rotated. In the
    /// environment, the same as JSON.
    #[serde(deserialize_with = "keys_or_json")]
    #[schemars(extend("x-json" = true))]
    pub keys: Vec<KeyConfig>,
    /// Keys kept in Redis are let in for this long after Redis could last be asked for them; then they get 503.
    #[serde(with = "Time")]
    pub stored_keys_grace: Duration,
    /// Secrets that sign stream tickets, 16 characters or more; the first signs, all are accepted. Empty: one is made and
    /// kept in Redis.
    pub ticket_secrets: Vec<Secret>,
    /// How long a stream ticket is good for: at least as long as its job is kept (`jobs.ttl`).
    #[serde(with = "Time")]
    pub ticket_ttl: Duration,
}

/// How a presented key is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Any key has all roles; its hash is the identity.
    Open,
    /// Only known keys.
    Keys,
}

/// A configured key: never the key, only its hash.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Who has it, for the log.
    pub name: String,
    /// Lower-case hex SHA-256 of the key.
    pub sha256: String,
    /// What it may do.
    pub roles: Vec<Role>,
    /// Other limits than those of the policies.
    #[serde(default)]
    pub limits: Limits,
}

/// What a key may do.
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
    /// Create, read, cancel own jobs.
    Client,
    /// Report progress and results of any job.
    Worker,
    /// Operate the service.
    Admin,
}

impl Config {
    pub(crate) fn check(&self, environment: Environment, jobs_ttl: Duration) -> Result<()> {
        const MIN_SECRET_LEN: usize = 16;
        if environment == Environment::Production && self.mode == Mode::Open {
            bail!("mode is \"open\", which lets anybody in; in production it has to be \"keys\"");
        }
        if environment == Environment::Production && self.ticket_secrets.is_empty() {
            bail!(
                "ticket_secrets is empty; in production set I2M__AUTH__TICKET_SECRETS or its _FILE"
            );
        }
        if self.ticket_secrets.iter().any(|it| it.expose().len() < MIN_SECRET_LEN) {
            bail!("ticket_secrets holds a secret shorter than {MIN_SECRET_LEN} characters");
        }
        let (secs, days) = (Duration::from_secs, |n: u64| Duration::from_hours(24 * n));
        check_between("stored_keys_grace", self.stored_keys_grace, secs(1), days(365))?;
        if self.ticket_ttl < jobs_ttl {
            bail!(
                "ticket_ttl is {:?}; a job is kept for {jobs_ttl:?} (jobs.ttl), and its ticket has to last as long",
                self.ticket_ttl
            );
        }
        self.check_keys()
    }

    fn check_keys(&self) -> Result<()> {
        for key in &self.keys {
            if let Err(reason) = Sha256Hex::try_from(key.sha256.clone()) {
                bail!("keys: sha256 of {:?}: {reason}", key.name);
            }
            if key.roles.is_empty() {
                bail!("keys: {:?} has no role; it needs one of client, worker, admin", key.name);
            }
            if self.n_keys_named(&key.name) > MAX_KEYS_OF_A_NAME {
                bail!("keys: {:?} has more than two live keys", key.name);
            }
        }
        Ok(())
    }

    pub(super) fn n_keys_named(&self, name: &str) -> usize {
        self.keys.iter().filter(|it| it.name == name).count()
    }
}

/// A list of keys; from the environment, or the file that `I2M__AUTH__KEYS_FILE` names, the same as JSON.
fn keys_or_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KeyConfig>, D::Error> {
    struct ListOrJson;

    impl<'de> Visitor<'de> for ListOrJson {
        type Value = Vec<KeyConfig>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of keys, or the same as JSON text")
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
