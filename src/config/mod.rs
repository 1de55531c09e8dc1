//! Joins the settings of all features and loads them: defaults, then a file, then the environment.

pub(crate) mod cors;
mod reference;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use config::{File, FileFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Environment;

pub(crate) use self::reference::{defaults_file, reference};

const DEFAULTS: &str = include_str!("../../config/default.toml");
/// Defaults of settings that are marked `x-tuning`: nearly no installation changes them.
const TUNING: &str = include_str!("../../config/tuning.toml");
const PREFIX: &str = "I2M";
const SEPARATOR: &str = "__";

/// Settings that are lists of strings, which the environment separates by commas.
const ENV_LIST_KEYS: [&str; 9] = [
    "cors.origins",
    "auth.ticket_secrets",
    "rate_limit.exempt",
    "rate_limit.trusted_proxies",
    "redis.nodes",
    "redis.sentinels",
    "redis.allowed_eviction_policies",
    "webhooks.secrets",
    "webhooks.allowed_networks",
];

/// All settings. Each section belongs to the feature of its name; see `config/default.toml`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Kind of environment; production rejects unsafe settings.
    pub environment: Environment,
    /// HTTP listener and its limits.
    pub server: crate::http::Config,
    /// Connection to Redis.
    pub redis: crate::redis::Config,
    /// API keys and stream tickets.
    pub auth: crate::auth::Config,
    /// Limits and lifetime of jobs.
    pub jobs: crate::jobs::Config,
    /// Hand-off of jobs to Celery workers.
    pub celery: crate::celery::Config,
    /// Stored progress of jobs.
    pub progress: crate::progress::Config,
    /// Server-Sent Events to browsers.
    pub sse: crate::sse::SseConfig,
    /// Rate limits.
    pub rate_limit: crate::rate_limit::Config,
    /// Distributed locks.
    pub locks: crate::locks::Config,
    /// Cache of computed values.
    pub cache: crate::cache::Config,
    /// Cache of model metadata.
    pub models: crate::models::Config,
    /// Webhooks about ended jobs.
    pub webhooks: crate::webhooks::Config,
    /// Thresholds of the health report.
    pub health: crate::health::Config,
    /// Shared metrics and `/metrics`.
    pub shared_metrics: crate::counters::Config,
    /// Removal of stale keys from Redis.
    pub cleanup: crate::cleanup::Config,
    /// Cross-origin requests of browsers.
    pub cors: crate::config::cors::CorsConfig,
    /// Export of OpenTelemetry traces.
    pub traces: crate::observability::traces::Config,
    /// Level and format of the log.
    pub log: crate::observability::logging::Config,
}

impl Config {
    /// Reads the defaults, then `file`, then `environment` (pairs of name and value).
    ///
    /// # Errors
    ///
    /// If a setting is unknown or invalid; the message names the setting, its value and the allowed values.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let variables = expand_file_vars(environment)?;
        let mut builder = config::Config::builder()
            .add_source(File::from_str(DEFAULTS, FileFormat::Toml))
            .add_source(File::from_str(TUNING, FileFormat::Toml));
        if let Some(path) = file {
            if !path.is_file() {
                bail!("configuration file {} does not exist", path.display());
            }
            builder = builder.add_source(File::from(path.to_owned()).format(FileFormat::Toml));
        }
        let mut from_environment = config::Environment::with_prefix(PREFIX)
            .prefix_separator(SEPARATOR)
            .separator(SEPARATOR)
            .try_parsing(true)
            .list_separator(",")
            .ignore_empty(true)
            .source(Some(variables));
        for list in ENV_LIST_KEYS {
            from_environment = from_environment.with_list_parse_key(list);
        }
        let merged = builder
            .add_source(from_environment)
            .build()
            .context("cannot read the configuration")?;
        let config: Self = serde_path_to_error::deserialize(merged.clone())
            .map_err(|error| annotate_error(&merged, error))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks values and combinations of settings that their types cannot express.
    fn validate(&self) -> Result<()> {
        self.server.validate().context("server")?;
        self.redis.validate().context("redis")?;
        self.auth.validate(self.environment, self.jobs.ttl).context("auth")?;
        self.jobs.validate().context("jobs")?;
        self.celery.validate().context("celery")?;
        self.progress.validate().context("progress")?;
        self.sse.validate().context("sse")?;
        self.rate_limit.validate(self.jobs.max_files).context("rate_limit")?;
        self.locks.validate().context("locks")?;
        self.cache.validate().context("cache")?;
        self.models.validate().context("models")?;
        self.traces.validate().context("traces")?;
        self.webhooks.validate().context("webhooks")?;
        self.health.validate().context("health")?;
        self.shared_metrics.validate().context("shared_metrics")?;
        self.cleanup.validate().context("cleanup")?;
        for key in &self.auth.keys {
            let checked = self.rate_limit.validate_limits(&key.limits, self.jobs.max_files);
            checked.with_context(|| format!("auth.keys: limits of {:?}", key.name))?;
        }
        self.validate_telemetry()
    }

    fn validate_telemetry(&self) -> Result<()> {
        self.log.filter().map(|_| ()).context("log.level")
    }

    /// The effective settings as TOML, with secrets masked.
    ///
    /// # Errors
    ///
    /// If a value cannot be represented in TOML; all current ones can.
    pub fn to_masked_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

/// The environment variable that sets `path`.
fn env_var_name(path: &str) -> String {
    format!("{PREFIX}{SEPARATOR}{}", path.to_uppercase().replace('.', SEPARATOR))
}

/// Adds the path of the setting, its environment variable and the allowed values to a parse error.
fn annotate_error(
    merged: &config::Config,
    error: serde_path_to_error::Error<config::ConfigError>,
) -> anyhow::Error {
    let path = error.path().to_string();
    let mut cause = error.into_inner().to_string();
    // For an unknown variant, only the message of serde_json lists the allowed ones.
    if let Ok(tree) = merged.clone().try_deserialize::<serde_json::Value>()
        && let Err(precise) = serde_path_to_error::deserialize::<_, Config>(tree)
        && precise.path().to_string() == path
        && precise.inner().to_string().starts_with("unknown variant")
    {
        cause = precise.into_inner().to_string();
    }
    let variable = env_var_name(&path);
    if path == "." {
        anyhow::anyhow!("invalid configuration: {cause}")
    } else {
        anyhow::anyhow!("invalid setting {path} (environment variable {variable}): {cause}")
    }
}

/// Replaces `I2M__X_FILE=path` by `I2M__X=contents`, without the trailing newline of the file.
fn expand_file_vars(
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<HashMap<String, String>> {
    let mut variables: HashMap<String, String> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && name[PREFIX.len()..].starts_with(SEPARATOR))
        .collect();
    let files: Vec<String> =
        variables.keys().filter(|name| name.ends_with("_FILE")).cloned().collect();
    for name in files {
        let path = PathBuf::from(variables.remove(&name).unwrap_or_default());
        let target = name.trim_end_matches("_FILE").to_owned();
        if variables.contains_key(&target) {
            bail!("{target} and {name} are both set; remove one of them");
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}, the file named by {name}", path.display()))?;
        variables.insert(target, text.trim_end_matches(['\r', '\n']).to_owned());
    }
    Ok(variables)
}
