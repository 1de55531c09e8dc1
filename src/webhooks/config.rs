//! Settings of webhooks.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::signature::Key;
use crate::settings::{HumanDuration, Secret, validate_range};

/// Notifying URLs of job owners when jobs end.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Signing secrets in the format of Standard Webhooks: `whsec_` and base64 of 24 to 64 bytes. Each secret adds a
    /// signature. If empty, webhooks are off and jobs with a `webhook_url` are rejected.
    pub secrets: Vec<Secret>,
    /// Networks that webhooks may reach although their addresses are not public, such as `10.0.0.0/8`.
    #[schemars(with = "Vec<String>")]
    pub allowed_networks: Vec<IpNet>,
    /// Allow `http://` URLs; otherwise only `https://`.
    pub allow_http: bool,
    /// Time-out of an attempt.
    #[serde(with = "HumanDuration")]
    pub timeout: Duration,
    /// Maximum number of concurrent attempts per process.
    #[schemars(extend("x-tuning" = true))]
    pub concurrency: usize,
    /// Interval at which due webhooks are claimed.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub poll_interval: Duration,
    /// Maximum number of attempts per webhook.
    pub max_tries: u32,
    /// Delay before the second attempt. Each further delay is three times as long ...
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub first_delay: Duration,
    /// ... up to this maximum.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub max_delay: Duration,
}

impl Config {
    pub(crate) fn validate(&self) -> Result<()> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        for secret in &self.secrets {
            Key::parse(secret.expose()).context("secrets")?;
        }
        validate_range("timeout", self.timeout, ms(10), secs(120))?;
        validate_range("poll_interval", self.poll_interval, ms(10), secs(60))?;
        validate_range("first_delay", self.first_delay, ms(1), secs(3600))?;
        validate_range("max_delay", self.max_delay, self.first_delay, secs(86_400))?;
        if !(1..=1000).contains(&self.concurrency) || !(1..=100).contains(&self.max_tries) {
            bail!("concurrency has to be between 1 and 1000, and max_tries between 1 and 100");
        }
        Ok(())
    }

    /// Time for which no other process claims a webhook that this process has claimed.
    pub(super) fn lease(&self) -> Duration {
        const TIME_TO_RECORD: Duration = Duration::from_secs(5);
        self.timeout + TIME_TO_RECORD
    }

    /// The delay after `tries` failed attempts. Up to 10 % random jitter spreads the retries.
    pub(super) fn delay_after(&self, tries: u32) -> Duration {
        let factor = 3_u32.saturating_pow(tries.saturating_sub(1));
        let delay = self.first_delay.saturating_mul(factor).min(self.max_delay);
        delay + delay.mul_f64(fastrand::f64() / 10.0)
    }
}
