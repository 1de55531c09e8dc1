//! What a job is, its lifecycle and its rules.

mod coalesce;
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

use anyhow::{Result as AnyResult, bail};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    coalesce::ReadCoalescer, create::ValidatedJob, status_cache::CachedStatus,
    store::cluster::Reservation,
};
pub(crate) use self::{
    create::CreateJobRequest,
    lifecycle_metrics::record as count_milestones,
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
    settings::{HumanDuration, HumanSize, validate_range},
    store::{JobRetention, Redis},
};

/// What a job may be.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A job is kept this long after its last change.
    #[serde(with = "HumanDuration")]
    pub ttl: Duration,
    /// The most files of a job.
    pub max_files: usize,
    /// The largest picture.
    #[schemars(with = "HumanSize")]
    pub max_file_size: ByteSize,
    /// How long a cached status is believed that no change of ours has dropped.
    #[serde(with = "HumanDuration")]
    pub status_cache_ttl: Duration,
    /// The largest `params` of a job, as JSON text.
    #[schemars(with = "HumanSize")]
    pub max_params_size: ByteSize,
    /// The largest result of a file, as JSON text.
    #[schemars(with = "HumanSize")]
    pub max_result_size: ByteSize,
}

impl Config {
    pub(crate) fn validate(&self) -> AnyResult<()> {
        const MAX_FILES: usize = 1000;
        validate_range("ttl", self.ttl, Duration::from_secs(1), Duration::from_hours(8784))?;
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
    retention: JobRetention,
    celery: Option<Celery>,
    reads: Arc<ReadCoalescer<JobId, Option<Arc<Job>>>>,
    statuses: Arc<ReadCoalescer<JobId, Option<CachedStatus>>>,
}

/// What a request to create a job carries beside its body.
#[derive(Debug, Default)]
pub(crate) struct CreateContext {
    /// The hash of its `Idempotency-Key`.
    pub(crate) idempotency: Option<Sha256Hex>,
    /// Its W3C Trace Context.
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

    /// What the process measures.
    pub(crate) fn metrics(&self) -> &Metrics {
        self.redis.metrics()
    }

    /// Creates a job for `owner` and hands it to workers. The flag says that the same request had made it before.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] or [`Error::TooManyFiles`] says what is wrong with `new`;
    /// [`Error::IdempotencyConflict`].
    pub(crate) async fn create(
        &self,
        owner: &Sha256Hex,
        new: &CreateJobRequest,
        circumstances: &CreateContext,
    ) -> Result<(Job, bool)> {
        let checked = new.validate(&self.config)?;
        let hash = circumstances.idempotency.as_ref();
        let (id, is_ours) =
            match store::reserve_job(&self.redis, self.retention, owner, &checked, hash).await? {
                Reservation::New(id) => (id, true),
                Reservation::InProgress(id) => (id, false),
                Reservation::Existing(id) => {
                    return Ok((self.replayed_response(id, owner, &checked).await?, true));
                }
            };
        let tasks = self.initial_tasks(id, new, &checked, circumstances)?;
        let idempotency = circumstances.idempotency.as_ref();
        let record = store::CreateArgs { id, owner, checked: &checked, idempotency, tasks: &tasks };
        match store::create(&self.redis, self.retention, record).await? {
            store::Created::Job(job) => {
                if let Some(celery) = &self.celery {
                    celery.send(&tasks).await;
                }
                Ok((*job, false))
            }
            store::Created::Replayed(made) => {
                // Made by an attempt of this very request, whose answer was lost; else its tasks are others.
                let is_ours = is_ours && made == id;
                if let (true, Some(celery)) = (is_ours, &self.celery) {
                    celery.send(&tasks).await;
                }
                Ok((self.replayed_response(made, owner, &checked).await?, !is_ours))
            }
        }
    }

    fn initial_tasks(
        &self,
        job: JobId,
        new: &CreateJobRequest,
        checked: &ValidatedJob,
        circumstances: &CreateContext,
    ) -> Result<Vec<TaskMessage>> {
        let Some(celery) = &self.celery else { return Ok(Vec::new()) };
        let file = |(i, it): (usize, &String)| {
            (FileId::from_index(i), serde_json::from_str(it).unwrap_or_default())
        };
        celery.build_messages(&TaskRequest {
            job,
            attempt: 1,
            files: checked.files.iter().enumerate().map(file).collect(),
            params: new.params(),
            traceparent: circumstances.traceparent.as_deref(),
        })
    }

    /// The job as it was when it was created.
    async fn replayed_response(
        &self,
        id: JobId,
        owner: &Sha256Hex,
        checked: &ValidatedJob,
    ) -> Result<Job> {
        let now = self.get(id).await?;
        let mut then = Job::new(id, owner, checked);
        (then.created_at, then.updated_at) = (now.created_at, now.created_at);
        Ok(then)
    }

    /// A page of `owner`'s jobs.
    pub(crate) async fn list(&self, owner: &Sha256Hex, filter: &Filter) -> Result<Page> {
        list::page(&self.redis, self.retention, owner, filter).await
    }

    /// Cancels a job: at once what waits or has no Celery worker, else as soon as workers heed it, and after the
    /// grace they have in any case. Returns the status the job then has.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTransition`] for a job that ended otherwise.
    pub(crate) async fn cancel(&self, id: JobId) -> Result<Status> {
        let grace = self.celery.as_ref().map_or(Duration::ZERO, |it| it.config().cancel_grace);
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
            store::CancelReply::Tasks(tasks) => tasks,
        };
        let nobody_has_it = match &self.celery {
            Some(celery) if !tasks.is_empty() => celery.revoke(&tasks).await?,
            _ => true,
        };
        if nobody_has_it {
            self.transition(id, Status::Cancelled).await
        } else {
            Ok(Status::Cancelling)
        }
    }

    /// Ends the jobs whose workers did not heed their cancellation in time. Returns how many.
    pub(crate) async fn force_overdue_cancellations(&self) -> Result<usize> {
        let overdue = store::overdue_cancellations(&self.redis).await?;
        for id in &overdue {
            // Once more: whoever began may have crashed before the tasks were taken back.
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

    /// Begins a new attempt of the files that did not succeed, and of no others. `traceparent` is the request's.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTransition`] for a job that is not over, or has nothing to retry.
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
        let open = job.files.iter().filter(|it| it.status != FileStatus::Completed);
        let params = job.params.clone().unwrap_or_default();
        celery.build_messages(&TaskRequest {
            job: job.id,
            attempt: job.attempt + 1,
            files: open.map(|it| (it.file_id, it.to_task_payload())).collect(),
            params: &params,
            traceparent,
        })
    }

    /// Removes every key of a job, after taking its tasks back.
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

    /// How many tasks are served before this job, while it waits in a Celery queue.
    pub(crate) async fn queue_position(&self, job: &Job) -> Result<Option<u64>> {
        match &self.celery {
            Some(celery) if job.status == Status::Pending => celery.queue_position(job.id).await,
            _ => Ok(None),
        }
    }

    /// The job `id`, whoever owns it.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`].
    pub(crate) async fn get(&self, id: JobId) -> Result<Arc<Job>> {
        self.find(id).await?.ok_or(Error::JobNotFound(id))
    }

    /// The job `id`, if there is one, whoever owns it; one for all who asked before it was read.
    pub(crate) async fn find(&self, id: JobId) -> Result<Option<Arc<Job>>> {
        let read = async || {
            let job = store::read(&self.redis, self.retention, id).await?;
            Ok(job.map(Arc::new))
        };
        self.reads.read(id, read).await
    }

    /// As [`Jobs::find`], with the newest entry of the job's progress stream.
    pub(crate) async fn find_with_stream_head(&self, id: JobId) -> Result<Option<(Job, StreamId)>> {
        store::read_with_head(&self.redis, self.retention, id).await
    }

    /// The job `id` as far as it is `caller`'s business.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`] for a job that is somebody else's, just as for none.
    pub(crate) async fn get_visible_to(&self, caller: &Caller, id: JobId) -> Result<Arc<Job>> {
        let job = self.get(id).await?;
        if caller.can_view(job.owner.as_ref()) { Ok(job) } else { Err(Error::JobNotFound(id)) }
    }

    /// Whether a worker's result is one.
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    pub(crate) fn validate_result(&self, result: &FileResult) -> Result<(), String> {
        result.validate(self.config.max_result_size)
    }

    /// Stores a result that was checked; the last file ends the job. Returns the job's status.
    ///
    /// # Errors
    ///
    /// As the lifecycle says.
    pub(crate) async fn finish_file(
        &self,
        job: JobId,
        file: FileId,
        result: &FileResult,
    ) -> Result<Status> {
        let json = result.to_json(file)?;
        let outcome = store::FileResultRecord {
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

    /// The stored results of all files that have one, in their order.
    pub(crate) async fn results(&self, job: JobId) -> Result<Vec<serde_json::Value>> {
        store::results(&self.redis, self.retention, job).await
    }

    /// Moves a job to another status. The same request twice is no error.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTransition`] if the job's status does not allow it.
    pub(crate) async fn transition(&self, id: JobId, to: Status) -> Result<Status> {
        self.transition_with_error(id, to, "").await
    }

    /// [`Jobs::transition`] with what went wrong, for people.
    pub(crate) async fn transition_with_error(
        &self,
        id: JobId,
        to: Status,
        error: &str,
    ) -> Result<Status> {
        store::transition(&self.redis, self.retention, id, to, error).await
    }

    /// Makes good an end that another program wrote to the record only. The job's status, if it exists.
    pub(crate) async fn reconcile_terminal_state(&self, id: JobId) -> Result<Option<Status>> {
        store::reconcile_terminal_state(&self.redis, self.retention, id).await
    }
}
