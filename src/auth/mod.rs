//! Who may call: API keys and their roles, and tickets that let a browser follow a job.

mod extract;
mod ticket;

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Result as AnyResult, bail};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    extract::{Admin, Caller, Client, ClientOrAdmin, Reader, Worker},
    ticket::Tickets,
};
use crate::{
    config::{Deployment, Secret},
    error::{Error, Result},
    ids::Sha256Hex,
};

/// Who may call.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How a presented key is judged.
    pub mode: Mode,
    /// The keys of mode `keys`.
    pub keys: Vec<KeyConfig>,
    /// Secrets that sign stream tickets; the first signs.
    pub ticket_secrets: Vec<Secret>,
    /// How long a ticket is good for.
    #[serde(with = "humantime_serde")]
    pub ticket_ttl: Duration,
}

/// How a presented key is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Any key has all roles; its hash is the identity.
    Open,
    /// Only configured keys.
    Keys,
}

/// A configured key: never the key, only its hash.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Who has it, for the log.
    pub name: String,
    /// Lower-case hex SHA-256 of the key.
    pub sha256: String,
    /// What it may do.
    pub roles: Vec<Role>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
    pub(crate) fn check(&self, environment: Deployment) -> AnyResult<()> {
        const MIN_SECRET_LEN: usize = 16;
        if environment == Deployment::Production && self.mode == Mode::Open {
            bail!("mode is \"open\", which lets anybody in; in production it has to be \"keys\"");
        }
        if environment == Deployment::Production && self.ticket_secrets.is_empty() {
            bail!(
                "ticket_secrets is empty; in production set I2M__AUTH__TICKET_SECRETS or its _FILE"
            );
        }
        if self.ticket_secrets.iter().any(|it| it.expose().len() < MIN_SECRET_LEN) {
            bail!("ticket_secrets holds a secret shorter than {MIN_SECRET_LEN} characters");
        }
        for key in &self.keys {
            if let Err(reason) = Sha256Hex::try_from(key.sha256.clone()) {
                bail!("keys: sha256 of {:?}: {reason}", key.name);
            }
            if key.roles.is_empty() {
                bail!("keys: {:?} has no role; it needs one of client, worker, admin", key.name);
            }
            if self.keys.iter().filter(|it| it.name == key.name).count() > 2 {
                bail!("keys: {:?} has more than two live keys", key.name);
            }
        }
        Ok(())
    }
}

/// The keys that are let in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApiKeys(Arc<Known>);

enum Known {
    Anybody,
    These(HashMap<Sha256Hex, (Arc<str>, Vec<Role>)>),
}

impl ApiKeys {
    pub(crate) fn new(config: &Config) -> Self {
        let known = match config.mode {
            Mode::Open => Known::Anybody,
            Mode::Keys => Known::These(
                config
                    .keys
                    .iter()
                    .filter_map(|it| {
                        let hash = Sha256Hex::try_from(it.sha256.clone()).ok()?;
                        Some((hash, (Arc::from(it.name.as_str()), it.roles.clone())))
                    })
                    .collect(),
            ),
        };
        Self(Arc::new(known))
    }

    /// Who presents `key`. Only its hash is looked up, so timing tells nothing about other keys.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidKey`].
    pub(crate) fn identify(&self, key: &str) -> Result<Caller> {
        let hash = Sha256Hex::of(key);
        match self.0.as_ref() {
            Known::Anybody => {
                let roles = vec![Role::Client, Role::Worker, Role::Admin];
                Ok(Caller { name: Arc::from(hash.short()), hash, roles })
            }
            Known::These(keys) => {
                let (name, roles) = keys.get(&hash).ok_or(Error::InvalidKey)?;
                Ok(Caller { name: name.clone(), hash, roles: roles.clone() })
            }
        }
    }
}
