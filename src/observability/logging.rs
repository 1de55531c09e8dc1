//! Log output: one JSON object per line, or a readable format on a terminal.

use std::io::IsTerminal as _;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::observability::traces::{self, Traces};

/// Level and format of the log.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Level, or a `tracing` filter such as `info,image2model_gateway=debug`.
    pub level: String,
    /// Format of a log line.
    pub format: Format,
}

/// Format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Readable text for a terminal.
    Pretty,
    /// `pretty` on a terminal, otherwise `json`.
    #[serde(rename = "")]
    Auto,
}

impl Config {
    pub(crate) fn filter(&self) -> Result<EnvFilter> {
        Ok(EnvFilter::try_new(&self.level)?)
    }
}

/// Starts logging for the process, and the export of traces if one is configured.
///
/// # Errors
///
/// If the filter is invalid, or logging was started before.
pub(crate) fn init(config: &Config, traces: Option<&Traces>) -> Result<()> {
    let pretty = match config.format {
        Format::Json => false,
        Format::Pretty => true,
        Format::Auto => std::io::stdout().is_terminal(),
    };
    let filter = config.filter()?.add_directive(format!("{}=off", traces::TARGET).parse()?);
    let log = tracing_subscriber::fmt::layer();
    let log = if pretty {
        log.with_target(false).compact().with_filter(filter).boxed()
    } else {
        let log = log.json().flatten_event(true).with_current_span(false).with_span_list(false);
        log.with_filter(filter).boxed()
    };
    let spans = Targets::new().with_target(traces::TARGET, tracing::Level::TRACE);
    let exported = traces.map(|traces| {
        tracing_opentelemetry::layer().with_tracer(traces.tracer()).with_filter(spans)
    });
    let started = tracing_subscriber::registry().with(log).with(exported).try_init();
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}
