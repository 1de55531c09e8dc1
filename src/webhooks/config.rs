//! Settings of webhooks.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::signature::Key;
use crate::settings::{Secret, Time, check_between};

/// How ends of jobs are told to their owners' URLs.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Secrets as Standard Webhooks has them, `whsec_` and base64 of 24 to 64 bytes; all of them sign. Without any, no job
    /// may have a `webhook_url`.
    pub secrets: Vec<Secret>,
    /// Networks that may be sent to although they are not public, such as `10.0.0.0/8`.
    #[schemars(with = "Vec<String>")]
    pub allowed_networks: Vec<IpNet>,
    /// Whether `http://` will do.
    pub allow_http: bool,
    /// The longest that an attempt may take.
    #[serde(with = "Time")]
    pub timeout: Duration,
    /// Attempts under way at once, in this process.
    pub concurrency: usize,
    /// Time between looks for what is due.
    #[serde(with = "Time")]
    pub tick: Duration,
    /// Attempts before a webhook is given up.
    pub max_tries: u32,
    /// Until the second attempt; then three times as long each time ...
    #[serde(with = "Time")]
    pub first_delay: Duration,
    /// ... and no longer than this.
    #[serde(with = "Time")]
    pub max_delay: Duration,
}

impl Config {
    pub(crate) fn check(&self) -> Result<()> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        for secret in &self.secrets {
            Key::parse(secret.expose()).context("secrets")?;
        }
        check_between("timeout", self.timeout, ms(10), secs(120))?;
        check_between("tick", self.tick, ms(10), secs(60))?;
        check_between("first_delay", self.first_delay, ms(1), secs(3600))?;
        check_between("max_delay", self.max_delay, self.first_delay, secs(86_400))?;
        if !(1..=1000).contains(&self.concurrency) || !(1..=100).contains(&self.max_tries) {
            bail!("concurrency has to be between 1 and 1000, and max_tries between 1 and 100");
        }
        Ok(())
    }

    /// For how long nobody else takes what this process has taken.
    pub(super) fn lease(&self) -> Duration {
        const TO_NOTE_IT: Duration = Duration::from_secs(5);
        self.timeout + TO_NOTE_IT
    }

    /// Until the next attempt after `tries` in vain, up to a tenth more so that not all come at once.
    pub(super) fn delay_after(&self, tries: u32) -> Duration {
        let factor = 3_u32.saturating_pow(tries.saturating_sub(1));
        let delay = self.first_delay.saturating_mul(factor).min(self.max_delay);
        delay + delay.mul_f64(fastrand::f64() / 10.0)
    }
}
