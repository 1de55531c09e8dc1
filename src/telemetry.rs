//! The log: one JSON object a line, or for people on a terminal.

use std::io::IsTerminal as _;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A level or a `tracing` filter.
    pub level: String,
    /// The form of a line.
    pub format: Format,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For reading on a terminal.
    Pretty,
    /// `Pretty` on a terminal, else `Json`.
    #[serde(rename = "")]
    Auto,
}

impl Config {
    pub(crate) fn filter(&self) -> Result<EnvFilter> {
        Ok(EnvFilter::try_new(&self.level)?)
    }
}

/// Starts logging for the whole process.
///
/// # Errors
///
/// If the filter is not one, or logging has been started before.
pub(crate) fn init(config: &Config) -> Result<()> {
    let pretty = match config.format {
        Format::Json => false,
        Format::Pretty => true,
        Format::Auto => std::io::stdout().is_terminal(),
    };
    let log = tracing_subscriber::fmt().with_env_filter(config.filter()?);
    let started = if pretty {
        log.with_target(false).compact().try_init()
    } else {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}
