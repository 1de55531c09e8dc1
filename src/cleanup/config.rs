//! Settings of the cleanup.

use std::time::Duration;

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Time, check_between};

/// How Redis is kept clean.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Time between cleanups, of all processes together; `0s` for none but those that are asked for.
    #[serde(with = "Time")]
    pub every: Duration,
    /// Keys that Redis looks at in one step, during which it answers nobody else: 200 take it about a millisecond.
    pub batch: usize,
    /// The part of the time that cleanups, and changes of stored data, may work; the rest of it they pause.
    pub pace: f64,
    /// Jobs without a change, and keys without a TTL that nobody has used, are removed after this; never before `jobs.ttl`.
    #[serde(with = "Time")]
    pub max_age: Duration,
    /// What a gone job left is removed when nobody has used it for this long.
    #[serde(with = "Time")]
    pub orphan_grace: Duration,
}

impl Config {
    pub(crate) fn check(&self) -> Result<()> {
        let years = Duration::from_hours(24 * 366);
        if !self.every.is_zero() {
            check_between("every", self.every, Duration::from_secs(1), years)?;
        }
        check_between("max_age", self.max_age, Duration::from_secs(1), years)?;
        check_between("orphan_grace", self.orphan_grace, Duration::ZERO, years)?;
        if !(10..=10_000).contains(&self.batch) {
            bail!("batch is {}; it has to be between 10 and 10000", self.batch);
        }
        if !(0.01..=1.0).contains(&self.pace) {
            bail!("pace is {}; it has to be between 0.01 and 1", self.pace);
        }
        Ok(())
    }
}
