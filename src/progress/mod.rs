//! Records and reads the progress of jobs.

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

/// Settings of progress streams.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Approximate number of events that a job's stream keeps.
    pub stream_length: u64,
}

/// Redis trims streams by whole nodes of 100 entries. The event hub relies on streams of at least this length.
pub(crate) const MIN_STREAM_LENGTH: u64 = 100;

impl Config {
    pub(crate) fn validate(&self) -> AnyResult<()> {
        if self.stream_length < MIN_STREAM_LENGTH {
            bail!(
                "stream_length is {}; it must be at least {MIN_STREAM_LENGTH}",
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

    /// The maximum number of files of a job.
    pub(crate) fn max_files(&self) -> usize {
        self.max_files
    }

    /// Records the progress of some files of a job, in one step: percents, states and stream entries.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::JobNotFound`], [`crate::error::Error::FileNotFound`], or
    /// [`crate::error::Error::InvalidTransition`] for a job that has ended or is being cancelled, so that its worker stops.
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
    /// The errors of [`Progress::report`], and [`crate::error::Error::Validation`] for an invalid percent or message.
    pub(crate) async fn report_file(
        &self,
        job: JobId,
        file: FileId,
        percent: u8,
        message: Option<String>,
    ) -> Result<RecordSummary> {
        self.report(job, &[ProgressUpdate::new(file, percent, message, None)?]).await
    }

    /// Records the progress of a whole job, from a worker that does not report single files.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::JobNotFound`], or [`crate::error::Error::InvalidTransition`] for a job that has ended or is
    /// being cancelled.
    pub(crate) async fn report_overall(
        &self,
        job: JobId,
        percent: u8,
        message: Option<String>,
    ) -> Result<()> {
        store::report_overall(&self.redis, self.retention, job, percent, message).await
    }
}
