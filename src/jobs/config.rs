//! Settings of jobs.

use std::time::Duration;

use anyhow::{Result, bail};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{HumanDuration, HumanSize, validate_range};

/// Limits of jobs.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How long a job is kept after its last change.
    #[serde(with = "HumanDuration")]
    pub ttl: Duration,
    /// Maximum number of files of a job.
    pub max_files: usize,
    /// Maximum size of a picture.
    #[schemars(with = "HumanSize")]
    pub max_file_size: ByteSize,
    /// TTL of a cached status. Every change by this service deletes it at once; other programs' changes may be visible
    /// only after this time.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub status_cache_ttl: Duration,
    /// Maximum size of a job's `params` as JSON text.
    #[schemars(with = "HumanSize")]
    pub max_params_size: ByteSize,
    /// Maximum size of a file's result as JSON text.
    #[schemars(with = "HumanSize")]
    pub max_result_size: ByteSize,
}

impl Config {
    pub(crate) fn validate(&self) -> Result<()> {
        const MAX_FILES: usize = 1000;
        validate_range("ttl", self.ttl, Duration::from_secs(1), Duration::from_hours(8784))?;
        if !(1..=MAX_FILES).contains(&self.max_files) {
            bail!("max_files is {}; it must be between 1 and {MAX_FILES}", self.max_files);
        }
        Ok(())
    }
}
