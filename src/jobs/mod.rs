//! What a job is, its lifecycle and its rules.

mod model;
mod new_job;
mod result;
pub(crate) mod routes;
mod status;
mod store;

use std::time::Duration;

use anyhow::{Result as AnyResult, bail};
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    model::{Job, JobFile, parse_percent},
    new_job::NewJob,
    result::FileResult,
    status::{FileStatus, Status},
};
use crate::{
    auth::Caller,
    config::check_between,
    error::{Error, Result},
    ids::{ApiKeyHash, FileId, JobId},
    redis::{Redis, Retention},
};

/// What a job may be.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A job is kept this long after its last change.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// Files in a job.
    pub max_files: usize,
    /// The largest picture.
    pub max_file_size: ByteSize,
    /// The largest `params`.
    pub max_params_size: ByteSize,
    /// The largest result of a file.
    pub max_result_size: ByteSize,
}

impl Config {
    pub(crate) fn check(&self) -> AnyResult<()> {
        const MAX_FILES: usize = 1000;
        check_between(
            "ttl",
            self.ttl,
            Duration::from_secs(1),
            Duration::from_hours(8784),
        )?;
        if !(1..=MAX_FILES).contains(&self.max_files) {
            bail!("max_files is {}; it has to be between 1 and {MAX_FILES}", self.max_files);
        }
        Ok(())
    }
}

/// The jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs {
    redis: Redis,
    config: Config,
    retention: Retention,
}

impl Jobs {
    pub(crate) fn new(redis: Redis, config: Config, retention: Retention) -> Self {
        Self { redis, config, retention }
    }

    /// Creates a job for `owner`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] or [`Error::TooManyFiles`] says what is wrong with `new`.
    pub(crate) async fn create(&self, owner: &ApiKeyHash, new: &NewJob) -> Result<Job> {
        let id = JobId::random();
        store::create(&self.redis, self.retention, id, owner, new.check(&self.config)?).await
    }

    /// The job `id`, whoever owns it.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`].
    pub(crate) async fn get(&self, id: JobId) -> Result<Job> {
        self.find(id).await?.ok_or(Error::JobNotFound(id))
    }

    /// The job `id`, if there is one, whoever owns it.
    pub(crate) async fn find(&self, id: JobId) -> Result<Option<Job>> {
        store::read(&self.redis, self.retention, id).await
    }

    /// The job `id` as far as it is `caller`'s business.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`] for a job that is somebody else's, just as for none.
    pub(crate) async fn get_for(&self, caller: &Caller, id: JobId) -> Result<Job> {
        let job = self.get(id).await?;
        if caller.sees_all_jobs() || job.owner.as_ref() == Some(&caller.hash) {
            return Ok(job);
        }
        Err(Error::JobNotFound(id))
    }

    /// Stores the result of a file; the last file ends the job. Returns the job's status.
    ///
    /// # Errors
    ///
    /// As [`FileResult::check`] and the lifecycle say.
    pub(crate) async fn finish_file(
        &self,
        job: JobId,
        file: FileId,
        result: &FileResult,
    ) -> Result<Status> {
        result.check(self.config.max_result_size).map_err(Error::Invalid)?;
        let json = result.to_json(file)?;
        let outcome = store::Outcome {
            status: result.status(),
            attempt: result.attempt(),
            json: &json,
            error: result.error(),
        };
        store::finish_file(&self.redis, self.retention, job, file, outcome).await
    }

    /// The stored result of a file, as JSON text.
    ///
    /// # Errors
    ///
    /// [`Error::FileNotFound`] while there is none.
    pub(crate) async fn result(&self, job: JobId, file: FileId) -> Result<String> {
        store::result(&self.redis, job, file).await?.ok_or(Error::FileNotFound { job, file })
    }

    /// Moves a job to another status. The same request twice is no error.
    ///
    /// # Errors
    ///
    /// [`Error::WrongStatus`] if the job's status does not allow it.
    pub(crate) async fn transition(&self, id: JobId, to: Status) -> Result<Status> {
        store::transition(&self.redis, self.retention, id, to).await
    }

    /// Makes good an end that another program wrote to the record only. The job's status, if it exists.
    pub(crate) async fn settle(&self, id: JobId) -> Result<Option<Status>> {
        store::settle(&self.redis, self.retention, id).await
    }
}
