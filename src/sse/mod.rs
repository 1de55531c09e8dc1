//! Server-Sent Events: reads the progress streams of watched jobs and sends their events to many browsers.
//!
//! The [`hub`] reads each stream once per process. A [`session`] is the state of one connection, which a
//! [`writer`] thread or a response [`body`] sends.

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

/// Server-Sent Events to browsers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SseConfig {
    /// Credential that a browser needs to open a stream.
    pub access: Access,
    /// Time between the comments that keep an idle connection open.
    #[serde(with = "HumanDuration")]
    pub heartbeat: Duration,
    /// Minimum time before a browser reconnects. A random time of up to the same length is added.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub retry: Duration,
    /// Maximum duration of a stream without `?timeout=`.
    #[serde(with = "HumanDuration")]
    pub default_timeout: Duration,
    /// Maximum number of open streams per process. Further browsers are asked to reconnect later.
    pub max_streams: usize,
    /// Maximum number of open streams per client address.
    pub max_streams_per_ip: usize,
    /// Maximum number of open streams per API key, or per job for streams that were opened with tickets.
    pub max_streams_per_caller: usize,
    /// Number of threads that write events to browsers, at most 64. 0 means one per core.
    #[schemars(extend("x-tuning" = true))]
    pub writers: usize,
    /// Events kept in memory per watched job. Older events are read from Redis.
    #[schemars(extend("x-tuning" = true))]
    pub ring_length: usize,
    /// Time between reads of each watched stream without a notification, to find changes that were not published.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub reconcile_interval: Duration,
    /// Time between checks of each watched job's record, to find jobs that ended without a stream entry.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub status_check_interval: Duration,
}

/// The credential that a browser needs to open a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A ticket in the URL or an API key.
    Ticket,
    /// None beyond the job's id.
    JobId,
}

impl SseConfig {
    /// A random time between `retry` and twice `retry`, so that browsers do not reconnect all at once.
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
        validate_range("reconcile_interval", self.reconcile_interval, ms(10), secs(600))?;
        validate_range("status_check_interval", self.status_check_interval, ms(10), secs(3600))?;
        if self.ring_length == 0 {
            bail!("ring_length is 0; it must be at least 1");
        }
        Ok(())
    }
}
