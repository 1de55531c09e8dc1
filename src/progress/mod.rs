//! Progress of jobs: recorded by workers, read at once, or followed by browsers.

pub(crate) mod report;
pub(crate) mod snapshot;
pub(crate) mod store;

use anyhow::{Result as AnyResult, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::report::ProgressUpdate;
pub(crate) use self::{snapshot::JobSnapshot, store::RecordSummary};
use crate::{
    error::Result,
    ids::{FileId, JobId},
    store::{JobRetention, Redis},
};

/// What is kept of a job's progress.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// About how many events a job's stream keeps.
    pub stream_length: u64,
}

/// Redis trims streams by whole nodes of a hundred entries; the hub counts on that many being kept.
pub(crate) const MIN_STREAM_LENGTH: u64 = 100;

impl Config {
    pub(crate) fn validate(&self) -> AnyResult<()> {
        if self.stream_length < MIN_STREAM_LENGTH {
            bail!(
                "stream_length is {}; it has to be at least {MIN_STREAM_LENGTH}",
                self.stream_length
            );
        }
        Ok(())
    }
}

/// Records progress. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Progress {
    redis: Redis,
    retention: JobRetention,
    max_files: usize,
}

impl Progress {
    pub(crate) fn new(redis: Redis, retention: JobRetention, max_files: usize) -> Self {
        Self { redis, retention, max_files }
    }

    /// The most files that one job has.
    pub(crate) fn max_files(&self) -> usize {
        self.max_files
    }

    /// Records the progress of some files of a job, in one step: percents, states and events.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::WrongStatus`] for a job that is over or being cancelled, so that its worker stops.
    pub(crate) async fn report(
        &self,
        job: JobId,
        reports: &[ProgressUpdate],
    ) -> Result<RecordSummary> {
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
    ) -> Result<RecordSummary> {
        self.report(job, &[ProgressUpdate::new(file, percent, message, None)?]).await
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
