//! Settings of the cleanup.

use std::time::Duration;

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{HumanDuration, validate_range};

/// Removal of old and orphaned keys.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Interval of cleanups, across all processes. With `0s` cleanups run only on request.
    #[serde(with = "HumanDuration")]
    pub interval: Duration,
    /// Keys per step. Redis serves no other client during a step; 200 keys take about a millisecond.
    #[schemars(extend("x-tuning" = true))]
    pub batch_size: usize,
    /// Fraction of the time that cleanups and data migrations work; the rest of the time they pause.
    #[schemars(extend("x-tuning" = true))]
    pub duty_cycle: f64,
    /// Age after which unchanged jobs and unused keys without a TTL are removed; at least `jobs.ttl`.
    #[serde(with = "HumanDuration")]
    pub max_age: Duration,
    /// Age after which keys that belonged to a deleted job are removed.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub orphan_grace: Duration,
}

impl Config {
    pub(crate) fn validate(&self) -> Result<()> {
        let years = Duration::from_hours(24 * 366);
        if !self.interval.is_zero() {
            validate_range("interval", self.interval, Duration::from_secs(1), years)?;
        }
        validate_range("max_age", self.max_age, Duration::from_secs(1), years)?;
        validate_range("orphan_grace", self.orphan_grace, Duration::ZERO, years)?;
        if !(10..=10_000).contains(&self.batch_size) {
            bail!("batch_size is {}; it has to be between 10 and 10000", self.batch_size);
        }
        if !(0.01..=1.0).contains(&self.duty_cycle) {
            bail!("duty_cycle is {}; it has to be between 0.01 and 1", self.duty_cycle);
        }
        Ok(())
    }
}
