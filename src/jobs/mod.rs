//! Jobs and their lifecycle.

mod coalesce;
mod config;
mod create;
mod lifecycle_metrics;
mod list;
mod model;
mod owner_index_refresh;
pub(crate) mod result;
mod status;
mod status_cache;
mod store;

use std::{sync::Arc, time::Duration};

use self::{
    coalesce::ReadCoalescer, create::ValidatedJob, status_cache::CachedStatus,
    store::cluster::Reservation,
};
pub(crate) use self::{
    config::Config,
    create::CreateJobRequest,
    lifecycle_metrics::record as record_lifecycle_events,
    list::{Cursor, Filter, Page, Summary},
    model::{Job, JobFile, parse_percent},
    result::FileResult,
    status::{FileStatus, Status},
};
use crate::{
    auth::Caller,
    celery::{Celery, TaskMessage, TaskRequest},
    error::{Error, Result},
    ids::{FileId, JobId, Sha256Hex, StreamId},
    observability::metrics::Metrics,
    store::{JobRetention, Redis},
};

/// Creates, reads and changes jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs {
    redis: Redis,
    config: Config,
    retention: JobRetention,
    celery: Option<Celery>,
    reads: Arc<ReadCoalescer<JobId, Option<Arc<Job>>>>,
    statuses: Arc<ReadCoalescer<JobId, Option<CachedStatus>>>,
}

/// The headers of a request to create a job.
#[derive(Debug, Default)]
pub(crate) struct CreateContext {
    /// Hash of the `Idempotency-Key`.
    pub(crate) idempotency: Option<Sha256Hex>,
    /// W3C Trace Context.
    pub(crate) traceparent: Option<String>,
}

impl Jobs {
    pub(crate) fn new(
        redis: Redis,
        config: Config,
        retention: JobRetention,
        celery: Option<Celery>,
    ) -> Self {
        Self { redis, config, retention, celery, reads: Arc::default(), statuses: Arc::default() }
    }

    /// The metrics of this process.
    pub(crate) fn metrics(&self) -> &Metrics {
        self.redis.metrics()
    }

    /// Creates a job for `owner` and sends its tasks to workers. Returns the job, and whether an earlier identical
    /// request created it.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] or [`Error::TooManyFiles`] if `new` is invalid; [`Error::IdempotencyConflict`] if the key was
    /// used for a different request.
    pub(crate) async fn create(
        &self,
        owner: &Sha256Hex,
        new: &CreateJobRequest,
        circumstances: &CreateContext,
    ) -> Result<(Job, bool)> {
        let validated = new.validate(&self.config)?;
        let idempotency = circumstances.idempotency.as_ref();
        let reservation =
            store::reserve_job(&self.redis, self.retention, owner, &validated, idempotency).await?;
        let (id, is_new) = match reservation {
            Reservation::New(id) => (id, true),
            Reservation::InProgress(id) => (id, false),
            Reservation::Existing(id) => {
                return Ok((self.replayed_response(id, owner, &validated).await?, true));
            }
        };
        let tasks = self.initial_tasks(id, new, &validated, circumstances)?;
        let args =
            store::CreateArgs { id, owner, validated: &validated, idempotency, tasks: &tasks };
        match store::create(&self.redis, self.retention, args).await? {
            store::Created::Job(job) => {
                if let Some(celery) = &self.celery {
                    celery.send(&tasks).await;
                }
                Ok((*job, false))
            }
            store::Created::Replayed(existing) => {
                // The job has these tasks only if a call of this request created it and the reply was lost.
                let is_own = is_new && existing == id;
                if let (true, Some(celery)) = (is_own, &self.celery) {
                    celery.send(&tasks).await;
                }
                Ok((self.replayed_response(existing, owner, &validated).await?, !is_own))
            }
        }
    }

    fn initial_tasks(
        &self,
        job: JobId,
        new: &CreateJobRequest,
        validated: &ValidatedJob,
        circumstances: &CreateContext,
    ) -> Result<Vec<TaskMessage>> {
        let Some(celery) = &self.celery else { return Ok(Vec::new()) };
        let file = |(index, json): (usize, &String)| {
            (FileId::from_index(index), serde_json::from_str(json).unwrap_or_default())
        };
        celery.build_messages(&TaskRequest {
            job,
            attempt: 1,
            files: validated.files.iter().enumerate().map(file).collect(),
            params: new.params(),
            traceparent: circumstances.traceparent.as_deref(),
        })
    }

    /// The job in the state in which it was created.
    async fn replayed_response(
        &self,
        id: JobId,
        owner: &Sha256Hex,
        validated: &ValidatedJob,
    ) -> Result<Job> {
        let created_at = self.get(id).await?.created_at;
        Ok(Job { created_at, updated_at: created_at, ..Job::new(id, owner, validated) })
    }

    /// A page of `owner`'s jobs.
    pub(crate) async fn list(&self, owner: &Sha256Hex, filter: &Filter) -> Result<Page> {
        list::page(&self.redis, self.retention, owner, filter).await
    }

    /// Cancels a job: immediately if no Celery worker has one of its tasks, else when the workers stop, and at the
    /// latest after `celery.cancel_grace`. Returns the new status.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTransition`] for a job with another terminal status.
    pub(crate) async fn cancel(&self, id: JobId) -> Result<Status> {
        let grace =
            self.celery.as_ref().map_or(Duration::ZERO, |celery| celery.config().cancel_grace);
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let tasks = match store::cancel(&self.redis, self.retention, id, grace_ms).await? {
            store::CancelReply::AlreadyTerminal(Status::Cancelled) => return Ok(Status::Cancelled),
            store::CancelReply::AlreadyTerminal(status) => {
                let present = status.as_str().to_owned();
                return Err(Error::InvalidTransition {
                    job: id,
                    current: present,
                    requested: "cancelled",
                });
            }
            store::CancelReply::Cancelling(tasks) => tasks,
        };
        let no_worker_has_tasks = match &self.celery {
            Some(celery) if !tasks.is_empty() => celery.revoke(&tasks).await?,
            _ => true,
        };
        if no_worker_has_tasks {
            self.transition(id, Status::Cancelled).await
        } else {
            Ok(Status::Cancelling)
        }
    }

    /// Cancels the jobs whose workers did not stop in time. Returns the number of such jobs.
    pub(crate) async fn force_overdue_cancellations(&self) -> Result<usize> {
        let overdue = store::overdue_cancellations(&self.redis).await?;
        for id in &overdue {
            // The process that began the cancellation may have crashed before it revoked the tasks.
            let ended = match self.cancel(*id).await {
                Ok(Status::Cancelling) => self.transition(*id, Status::Cancelled).await.map(|_| ()),
                other => other.map(|_| ()),
            };
            match ended {
                Ok(()) => (),
                Err(Error::JobNotFound(_) | Error::InvalidTransition { .. }) => {
                    store::clear_cancellation(&self.redis, *id).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(overdue.len())
    }

    /// Begins a new attempt of the files that did not succeed. `traceparent` is the W3C Trace Context of the request.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTransition`] for a job that has not ended or has no file to retry.
    pub(crate) async fn retry(&self, id: JobId, traceparent: Option<&str>) -> Result<Arc<Job>> {
        const MAX_TRIES: usize = 3;
        for _ in 0..MAX_TRIES {
            let job = self.get(id).await?;
            let tasks = self.retry_tasks(&job, traceparent)?;
            if store::retry(&self.redis, self.retention, id, job.attempt, &tasks).await? {
                if let Some(celery) = &self.celery {
                    celery.send(&tasks).await;
                }
                break;
            }
        }
        self.get(id).await
    }

    fn retry_tasks(&self, job: &Job, traceparent: Option<&str>) -> Result<Vec<TaskMessage>> {
        let Some(celery) = &self.celery else { return Ok(Vec::new()) };
        let to_retry = job.files.iter().filter(|file| file.status != FileStatus::Completed);
        let params = job.params.clone().unwrap_or_default();
        celery.build_messages(&TaskRequest {
            job: job.id,
            attempt: job.attempt + 1,
            files: to_retry.map(|file| (file.file_id, file.to_task_payload())).collect(),
            params: &params,
            traceparent,
        })
    }

    /// Revokes the tasks of a job and deletes all its keys.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`].
    pub(crate) async fn delete(&self, id: JobId) -> Result<()> {
        match self.cancel(id).await {
            Ok(_) | Err(Error::InvalidTransition { .. }) => (),
            Err(error) => return Err(error),
        }
        store::delete(&self.redis, self.retention, id).await.map(|_| ())
    }

    /// The number of tasks before this job, while it waits in a Celery queue.
    pub(crate) async fn queue_position(&self, job: &Job) -> Result<Option<u64>> {
        match &self.celery {
            Some(celery) if job.status == Status::Pending => celery.queue_position(job.id).await,
            _ => Ok(None),
        }
    }

    /// The job `id` of any owner.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`].
    pub(crate) async fn get(&self, id: JobId) -> Result<Arc<Job>> {
        self.find(id).await?.ok_or(Error::JobNotFound(id))
    }

    /// The job `id` of any owner, if it exists. Concurrent reads are coalesced.
    pub(crate) async fn find(&self, id: JobId) -> Result<Option<Arc<Job>>> {
        let read = async || {
            let job = store::read(&self.redis, self.retention, id).await?;
            Ok(job.map(Arc::new))
        };
        self.reads.read(id, read).await
    }

    /// Returns a job like [`Jobs::find`], and the id of the newest entry of its progress stream.
    pub(crate) async fn find_with_stream_head(&self, id: JobId) -> Result<Option<(Job, StreamId)>> {
        store::read_with_head(&self.redis, self.retention, id).await
    }

    /// The job `id`, if `caller` may see it.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`], also for a job of another owner.
    pub(crate) async fn get_visible_to(&self, caller: &Caller, id: JobId) -> Result<Arc<Job>> {
        let job = self.get(id).await?;
        if caller.can_view(job.owner.as_ref()) { Ok(job) } else { Err(Error::JobNotFound(id)) }
    }

    /// Validates the result of a worker.
    ///
    /// # Errors
    ///
    /// A message for the worker that names the invalid field.
    pub(crate) fn validate_result(&self, result: &FileResult) -> Result<(), String> {
        result.validate(self.config.max_result_size)
    }

    /// Stores a valid result; the last file ends the job. Returns the status of the job.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`], [`Error::FileNotFound`], [`Error::StaleAttempt`], or [`Error::InvalidTransition`] if the job
    /// ended without this file.
    pub(crate) async fn finish_file(
        &self,
        job: JobId,
        file: FileId,
        result: &FileResult,
    ) -> Result<Status> {
        let json = result.to_json(file)?;
        let record = store::FileResultRecord {
            status: result.status(),
            attempt: result.attempt(),
            json: &json,
            error: result.error(),
        };
        store::finish_file(&self.redis, self.retention, job, file, record).await
    }

    /// The stored result of a file, as JSON text.
    ///
    /// # Errors
    ///
    /// [`Error::FileNotFound`] if the file has no result.
    pub(crate) async fn result(&self, job: JobId, file: FileId) -> Result<String> {
        store::result(&self.redis, job, file).await?.ok_or(Error::FileNotFound { job, file })
    }

    /// The stored results of the files that have one, in the order of the files.
    pub(crate) async fn results(&self, job: JobId) -> Result<Vec<serde_json::Value>> {
        store::results(&self.redis, self.retention, job).await
    }

    /// Sets a job to another status. A repeated request has no effect and succeeds.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`], or [`Error::InvalidTransition`] if the current status does not allow it.
    pub(crate) async fn transition(&self, id: JobId, to: Status) -> Result<Status> {
        self.transition_with_error(id, to, "").await
    }

    /// Works like [`Jobs::transition`], with an error message for people.
    pub(crate) async fn transition_with_error(
        &self,
        id: JobId,
        to: Status,
        error: &str,
    ) -> Result<Status> {
        store::transition(&self.redis, self.retention, id, to, error).await
    }

    /// Completes a terminal status that another program set only in the record. Returns the status of the job, if it
    /// exists.
    pub(crate) async fn reconcile_terminal_state(&self, id: JobId) -> Result<Option<Status>> {
        store::reconcile_terminal_state(&self.redis, self.retention, id).await
    }
}
