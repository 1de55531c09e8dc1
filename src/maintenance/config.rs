//! Settings of the cleanup.

use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::config::check_between;

/// How Redis is kept clean.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Time between cleanups, of all processes together; zero for none.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// The most keys that Redis looks at in one step.
    pub batch: usize,
    /// The part of the time that may be worked.
    pub pace: f64,
    /// Older data is removed, unless jobs are kept longer than that.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// What a gone job left is removed when nobody has used it for this long.
    #[serde(with = "humantime_serde")]
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
