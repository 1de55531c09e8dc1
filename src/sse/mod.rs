//! Server-Sent Events: follows the progress streams of jobs and feeds them to many browsers.

#[cfg(feature = "bench-internals")]
pub mod bench_support;
pub(crate) mod body;
pub(crate) mod frame;
pub(crate) mod hub;
pub(crate) mod last_event_id;
pub(crate) mod session;
pub(crate) mod stream_limit;
pub(crate) mod writer;

use std::time::Duration;

use anyhow::{Result as AnyResult, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::hub::Hub;
use crate::settings::{HumanDuration, validate_range};

/// How browsers are served.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SseConfig {
    /// What lets a browser in.
    pub access: Access,
    /// Time between comments that keep a connection open.
    #[serde(with = "HumanDuration")]
    pub heartbeat: Duration,
    /// Browsers come back after this, plus up to as much again at random.
    #[serde(with = "HumanDuration")]
    pub retry: Duration,
    /// A stream without `?timeout=` ends after this.
    #[serde(with = "HumanDuration")]
    pub default_timeout: Duration,
    /// Streams per process; further ones are told to come back later.
    pub max_streams: usize,
    /// Of those, from one address.
    pub max_streams_per_ip: usize,
    /// Of those, with one key, or with tickets for one job.
    pub max_streams_per_caller: usize,
    /// Threads that write events to browsers; 0 is one a core, at most 64.
    pub writers: usize,
    /// Events kept in memory per watched job; older ones are read from the stream.
    pub ring_length: usize,
    /// Time between looks for changes that came without a signal.
    #[serde(with = "HumanDuration")]
    pub sweep_interval: Duration,
    /// Time between looks for an end that stands in the record only.
    #[serde(with = "HumanDuration")]
    pub status_check: Duration,
}

/// What lets a browser in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A ticket in the URL, or a key.
    Ticket,
    /// Knowing the job's id.
    JobId,
}

impl SseConfig {
    /// When a browser comes back: between `retry` and twice that, so that not all come back at once.
    pub(crate) fn jittered_retry(&self) -> Duration {
        self.retry + self.retry.mul_f64(fastrand::f64())
    }

    fn stream_limits(&self) -> stream_limit::StreamLimits {
        stream_limit::StreamLimits {
            total: self.max_streams,
            per_ip: self.max_streams_per_ip,
            per_caller: self.max_streams_per_caller,
        }
    }

    pub(crate) fn validate(&self) -> AnyResult<()> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        validate_range("heartbeat", self.heartbeat, ms(100), secs(600))?;
        validate_range("retry", self.retry, ms(1), secs(600))?;
        validate_range("default_timeout", self.default_timeout, secs(1), secs(86_400))?;
        validate_range("sweep_interval", self.sweep_interval, ms(10), secs(600))?;
        validate_range("status_check", self.status_check, ms(10), secs(3600))?;
        if self.ring_length == 0 {
            bail!("ring_length is 0; it has to be at least 1");
        }
        Ok(())
    }
}
