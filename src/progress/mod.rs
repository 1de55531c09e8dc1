//! Progress of jobs: recorded by workers, read at once, or followed by browsers.

#[cfg(feature = "bench-internals")]
pub mod bench;
mod cursor;
mod follow;
mod follower;
mod frame;
mod hub;
mod places;
mod report;
pub(crate) mod routes;
mod store;
mod stream;
mod view;
mod writer;

use std::time::Duration;

use anyhow::{Result as AnyResult, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::hub::Hub;
pub(crate) use self::report::Report;
pub(crate) use self::stream::come_back_after;
use self::{store::Recorded, view::View};
use crate::{
    config::{Time, check_between},
    error::Result,
    ids::{FileId, JobId},
    redis::{Redis, Retention},
};

/// What is kept of a job's progress.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// About how many events a job's stream keeps.
    pub stream_length: u64,
}

/// Redis trims streams by whole nodes of a hundred entries; the hub counts on that many being kept.
const MIN_STREAM_LENGTH: u64 = 100;

impl Config {
    pub(crate) fn check(&self) -> AnyResult<()> {
        if self.stream_length < MIN_STREAM_LENGTH {
            bail!(
                "stream_length is {}; it has to be at least {MIN_STREAM_LENGTH}",
                self.stream_length
            );
        }
        Ok(())
    }
}

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

    fn most_streams(&self) -> places::Most {
        places::Most {
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

/// Records progress. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Progress {
    redis: Redis,
    retention: Retention,
    max_files: usize,
}

impl Progress {
    pub(crate) fn new(redis: Redis, retention: Retention, max_files: usize) -> Self {
        Self { redis, retention, max_files }
    }

    /// Records the progress of some files of a job, in one step: percents, states and events.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::WrongStatus`] for a job that is over or being cancelled, so that its worker stops.
    pub(crate) async fn report(&self, job: JobId, reports: &[Report]) -> Result<Recorded> {
        store::report(&self.redis, self.retention, job, reports).await
    }

    /// Records the progress of one file.
    ///
    /// # Errors
    ///
    /// As [`Progress::report`].
    pub(crate) async fn report_file(
        &self,
        job: JobId,
        file: FileId,
        percent: u8,
        message: Option<String>,
    ) -> Result<Recorded> {
        self.report(job, &[Report::checked(file, percent, message, None)?]).await
    }

    /// Records the progress of a job as a whole, from a worker that says nothing of files.
    ///
    /// # Errors
    ///
    /// As [`Progress::report`].
    pub(crate) async fn report_overall(
        &self,
        job: JobId,
        percent: u8,
        message: Option<String>,
    ) -> Result<()> {
        store::report_overall(&self.redis, self.retention, job, percent, message).await
    }
}
