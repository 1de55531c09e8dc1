//! Joins the features' settings and loads them: defaults, then a file, then the environment.

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

pub(crate) use self::reference::reference;

const DEFAULTS: &str = include_str!("../../config/default.toml");
const PREFIX: &str = "I2M";
const SEPARATOR: &str = "__";

/// Settings that are lists of text; in the environment they are separated by commas.
const LISTS: [&str; 9] = [
    "cors.origins",
    "auth.ticket_secrets",
    "rate_limit.allow",
    "rate_limit.trusted_proxies",
    "redis.nodes",
    "redis.sentinels",
    "redis.eviction_policies",
    "webhooks.secrets",
    "webhooks.allowed_networks",
];

/// All settings; each section belongs to the feature of its name. See `config/default.toml`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the service runs.
    pub environment: Environment,
    /// The listener and its limits.
    pub server: crate::http::Config,
    /// How Redis is reached.
    pub redis: crate::redis::Config,
    /// Who may call.
    pub auth: crate::auth::Config,
    /// What a job may be.
    pub jobs: crate::jobs::Config,
    /// How jobs reach Celery workers.
    pub celery: crate::celery::Config,
    /// What is kept of a job's progress.
    pub progress: crate::progress::Config,
    /// How browsers are served.
    pub sse: crate::sse::SseConfig,
    /// How often callers may call.
    pub rate_limit: crate::rate_limit::Config,
    /// What callers may ask of locks.
    pub locks: crate::locks::Config,
    /// How values are cached.
    pub cache: crate::cache::Config,
    /// What is cached of models.
    pub models: crate::models::Config,
    /// How ends of jobs are told to their owners' URLs.
    pub webhooks: crate::webhooks::Config,
    /// When Redis is well.
    pub health: crate::health::Config,
    /// What all processes count together, and `/metrics`.
    pub metrics: crate::counters::Config,
    /// How Redis is kept clean.
    pub maintenance: crate::cleanup::Config,
    /// Which browsers may call.
    pub cors: crate::config::cors::CorsConfig,
    /// Where traces go.
    pub traces: crate::observability::traces::Config,
    /// What is logged.
    pub log: crate::observability::logging::Config,
}

impl Config {
    /// Reads the defaults, then `file`, then `environment` (pairs of name and value).
    ///
    /// # Errors
    ///
    /// Names the setting, what it got and what is allowed.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let variables = resolve_files(environment)?;
        let mut builder =
            config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = file {
            if !path.is_file() {
                bail!("there is no configuration file {}", path.display());
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
        for list in LISTS {
            from_environment = from_environment.with_list_parse_key(list);
        }
        let merged = builder
            .add_source(from_environment)
            .build()
            .context("the configuration cannot be read")?;
        let config: Self = serde_path_to_error::deserialize(merged.clone())
            .map_err(|error| explain(&merged, error))?;
        config.check()?;
        Ok(config)
    }

    /// What no single setting can say of itself.
    fn check(&self) -> Result<()> {
        self.server.check().context("server")?;
        self.redis.check().context("redis")?;
        self.auth.check(self.environment, self.jobs.ttl).context("auth")?;
        self.jobs.check().context("jobs")?;
        self.celery.check().context("celery")?;
        self.progress.check().context("progress")?;
        self.sse.check().context("sse")?;
        self.rate_limit.check(self.jobs.max_files).context("rate_limit")?;
        self.locks.check().context("locks")?;
        self.cache.check().context("cache")?;
        self.models.check().context("models")?;
        self.traces.check().context("traces")?;
        self.webhooks.check().context("webhooks")?;
        self.health.check().context("health")?;
        self.metrics.check().context("metrics")?;
        self.maintenance.check().context("maintenance")?;
        for key in &self.auth.keys {
            let checked = self.rate_limit.check_limits(&key.limits, self.jobs.max_files);
            checked.with_context(|| format!("auth.keys: limits of {:?}", key.name))?;
        }
        self.telemetry_check()
    }

    fn telemetry_check(&self) -> Result<()> {
        self.log.filter().map(|_| ()).context("log.level")
    }

    /// The effective settings as TOML, secrets masked.
    ///
    /// # Errors
    ///
    /// If a value has no form in TOML, which none of ours lacks.
    pub fn to_masked_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

/// The variable in the environment that sets `path`.
fn variable(path: &str) -> String {
    format!("{PREFIX}{SEPARATOR}{}", path.to_uppercase().replace('.', SEPARATOR))
}

fn explain(
    merged: &config::Config,
    error: serde_path_to_error::Error<config::ConfigError>,
) -> anyhow::Error {
    let path = error.path().to_string();
    let mut cause = error.into_inner().to_string();
    // Of a bad choice this crate does not say what is allowed; serde_json does.
    if let Ok(tree) = merged.clone().try_deserialize::<serde_json::Value>()
        && let Err(better) = serde_path_to_error::deserialize::<_, Config>(tree)
        && better.path().to_string() == path
        && better.inner().to_string().starts_with("unknown variant")
    {
        cause = better.into_inner().to_string();
    }
    let variable = variable(&path);
    if path == "." {
        anyhow::anyhow!("bad configuration: {cause}")
    } else {
        anyhow::anyhow!("bad setting {path} (in the environment {variable}): {cause}")
    }
}

/// Replaces `I2M__X_FILE=path` by `I2M__X=contents`, without the file's last line end.
fn resolve_files(
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<HashMap<String, String>> {
    let mut variables: HashMap<String, String> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && name[PREFIX.len()..].starts_with(SEPARATOR))
        .collect();
    let files: Vec<String> = variables.keys().filter(|it| it.ends_with("_FILE")).cloned().collect();
    for name in files {
        let path = PathBuf::from(variables.remove(&name).unwrap_or_default());
        let target = name.trim_end_matches("_FILE").to_owned();
        if variables.contains_key(&target) {
            bail!("{target} and {name} are both set; one of them has to go");
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{name} names {}, which cannot be read", path.display()))?;
        variables.insert(target, text.trim_end_matches(['\r', '\n']).to_owned());
    }
    Ok(variables)
}
