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
use crate::settings::{Time, check_between};

/// How browsers are served.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SseConfig {
    /// What lets a browser in.
    pub access: Access,
    /// Time between comments that keep a connection open.
    #[serde(with = "Time")]
    pub heartbeat: Duration,
    /// Browsers come back after this, plus up to as much again at random.
    #[serde(with = "Time")]
    pub retry: Duration,
    /// A stream without `?timeout=` ends after this.
    #[serde(with = "Time")]
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
    #[serde(with = "Time")]
    pub sweep_interval: Duration,
    /// Time between looks for an end that stands in the record only.
    #[serde(with = "Time")]
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

    fn most_streams(&self) -> stream_limit::Most {
        stream_limit::Most {
            in_all: self.max_streams,
            of_an_address: self.max_streams_per_ip,
            of_a_caller: self.max_streams_per_caller,
        }
    }

    pub(crate) fn check(&self) -> AnyResult<()> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        check_between("heartbeat", self.heartbeat, ms(100), secs(600))?;
        check_between("retry", self.retry, ms(1), secs(600))?;
        check_between("default_timeout", self.default_timeout, secs(1), secs(86_400))?;
        check_between("sweep_interval", self.sweep_interval, ms(10), secs(600))?;
        check_between("status_check", self.status_check, ms(10), secs(3600))?;
        if self.ring_length == 0 {
            bail!("ring_length is 0; it has to be at least 1");
        }
        Ok(())
    }
}
