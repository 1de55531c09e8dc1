//! Job records in Redis: one function, one round trip, one script over all databases.
//!
//! * `job:{id}` hash, `job:{id}:status` string, `job:{id}:files` list, `session:{id}` string: the seed's
//! * `job:{id}:file:{file_id}` string: result JSON
//! * `job:{id}:states` hash: `file_id` to `status:attempt:error`, ours
//! * `user_jobs:{api_key_hash}` set, and beside it `…:by_time`, sorted by creation

use std::{borrow::Cow, collections::HashMap};

use chrono::{DateTime, Utc};
use fred::{
    interfaces::{KeysInterface as _, SortedSetsInterface as _},
    types::Value,
};

pub(crate) mod cluster;
mod create;

pub(super) use self::create::{CreateArgs, Created, create, reserve_job};
use super::{
    lifecycle_metrics,
    model::{Job, JobFile, parse_percent, parse_time},
    status::Status,
};
use crate::{
    celery::TaskMessage,
    error::{Error, Result},
    ids::{FileId, JobId, Sha256Hex, StreamId},
    store::{
        CANCELLING, Database, JobRetention, Partition, Redis, Script, members_older_than,
        result_key,
    },
};

static READ: Script =
    Script::job_read(include_str!("../../../migrations-lua/jobs/read.lua")).idempotent();
static FINISH_FILE: Script =
    Script::job_write(include_str!("../../../migrations-lua/jobs/finish_file.lua")).idempotent();
static TRANSITION: Script =
    Script::job_write(include_str!("../../../migrations-lua/jobs/transition.lua")).idempotent();
static CANCEL: Script =
    Script::job_write(include_str!("../../../migrations-lua/jobs/cancel.lua")).idempotent();
// The second time it finds the attempt that it began, and cannot tell whose that is.
static RETRY: Script = Script::job_write(include_str!("../../../migrations-lua/jobs/retry.lua"));
static DELETE: Script =
    Script::job_write(include_str!("../../../migrations-lua/jobs/delete.lua")).idempotent();
static RECONCILE_TERMINAL_STATE: Script =
    Script::job_write(include_str!("../../../migrations-lua/jobs/reconcile_terminal.lua"))
        .idempotent();

/// Reads a job whole, as of one moment; `None` if there is none.
pub(super) async fn read(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Option<Job>> {
    let answer = read_with(redis, retention, job, "").await?;
    Ok(answer.map(|(job, _)| job))
}

/// As [`read`], with the newest entry of the job's progress stream.
pub(super) async fn read_with_head(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Option<(Job, StreamId)>> {
    let answer = read_with(redis, retention, job, "head").await?;
    let id = |head: &Value| head.as_str()?.parse().ok();
    Ok(answer.map(|(job, head)| (job, head.first().and_then(id).unwrap_or(StreamId::ZERO))))
}

/// The job, and what more of it was asked for.
async fn read_with(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    more: &'static str,
) -> Result<Option<(Job, Vec<Value>)>> {
    let args = vec![Value::from_static_str(more)];
    let answer: Value = READ.run_for_job(redis, job, retention, args).await?;
    let mut parts = answer.into_array().into_iter().map(Value::into_array);
    let mut next = || parts.next().unwrap_or_default();
    if next().first().and_then(Value::as_str).as_deref() != Some("job") {
        return Ok(None);
    }
    let stored =
        Stored { owner: next(), record: next(), files: next(), states: next(), percents: next() };
    Ok(Some((stored.to_job(job), next())))
}

/// A job as `read.lua` tells it. Other programs write these keys too, so what is missing or wrong is left out.
struct Stored {
    owner: Vec<Value>,
    record: Vec<Value>,
    files: Vec<Value>,
    states: Vec<Value>,
    percents: Vec<Value>,
}

impl Stored {
    /// What `record` has, in the script's order.
    const FIELDS: [&str; 13] = [
        "total_files",
        "completed_files",
        "failed_files",
        "status",
        "overall",
        "attempt",
        "created_at",
        "updated_at",
        "started_at",
        "ended_at",
        "terminal_id",
        "error",
        "params",
    ];

    fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        let index = Self::FIELDS.iter().position(|it| *it == name)?;
        self.record.get(index)?.as_str().filter(|it| !it.is_empty())
    }

    fn count(&self, name: &str) -> u32 {
        self.field(name).and_then(|it| it.parse().ok()).unwrap_or(0)
    }

    fn time(&self, name: &str) -> Option<DateTime<Utc>> {
        self.field(name).and_then(|it| parse_time(&it))
    }

    fn files(&self) -> Vec<JobFile> {
        let n = self.percents.len().max(self.files.len());
        let mut states = vec![None; n];
        let (pairs, _) = self.states.as_chunks::<2>();
        for [file, state] in pairs {
            let file = file.as_str().and_then(|it| it.parse::<FileId>().ok());
            if let Some(entry) = file.and_then(|it| states.get_mut(it.index())) {
                *entry = state.as_str();
            }
        }
        let file = |(index, state): (usize, Option<Cow<'_, str>>)| {
            let json = self.files.get(index).and_then(Value::as_str);
            let percent = self.percents.get(index).and_then(Value::as_str);
            JobFile::from_stored(index, json.as_deref(), state.as_deref(), percent.as_deref())
        };
        states.into_iter().enumerate().map(file).collect()
    }

    fn to_job(&self, id: JobId) -> Job {
        let files = self.files();
        let status = self.field("status");
        let status = Status::from_stored(status.as_deref().unwrap_or("pending"));
        let shares: u32 = files.iter().map(|it| u32::from(it.progress_contribution())).sum();
        let computed = shares.checked_div(u32::try_from(files.len()).unwrap_or(0)).unwrap_or(0);
        let stored = self.field("overall").map_or(0, |it| parse_percent(&it));
        let owner = self.owner.first().and_then(Value::as_string);
        Job {
            id,
            owner: owner.and_then(|it| Sha256Hex::try_from(it).ok()),
            status,
            total_files: self.count("total_files"),
            completed_files: self.count("completed_files"),
            failed_files: self.count("failed_files"),
            progress: if status.has_results() {
                100
            } else if status.is_terminal() {
                stored
            } else {
                stored.max(u8::try_from(computed).unwrap_or(100))
            },
            created_at: self.time("created_at"),
            updated_at: self.time("updated_at"),
            started_at: self.time("started_at"),
            ended_at: self.time("ended_at"),
            attempt: self.count("attempt").max(1),
            error: self.field("error").map(Cow::into_owned),
            params: self.field("params").and_then(|it| serde_json::from_str(&it).ok()),
            files,
            terminal_id: self.field("terminal_id").and_then(|it| it.parse().ok()),
        }
    }
}

/// The outcome of a worker's report on one file, said once.
pub(super) struct FileResultRecord<'a> {
    pub(super) status: &'static str,
    pub(super) attempt: u32,
    pub(super) json: &'a str,
    pub(super) error: &'a str,
}

/// Stores the result of a file; the last file ends the job. Sent twice, it counts once.
///
/// # Errors
///
/// [`Error::JobNotFound`], [`Error::FileNotFound`], [`Error::StaleAttempt`], or [`Error::InvalidTransition`] if the
/// job ended without this file.
pub(super) async fn finish_file(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    file: FileId,
    outcome: FileResultRecord<'_>,
) -> Result<Status> {
    let args = vec![
        Value::from(file.to_string()),
        Value::from(outcome.status),
        Value::from(outcome.attempt.to_string()),
        Value::from(outcome.json),
        Value::from(outcome.error),
    ];
    let answer: Vec<Option<String>> = FINISH_FILE.run_for_job(redis, job, retention, args).await?;
    let said = answer.get(1).cloned().flatten().unwrap_or_default();
    match answer.first().and_then(Option::as_deref) {
        Some("stored" | "duplicate") => {
            let milestones = answer.get(2).cloned().flatten().unwrap_or_default();
            lifecycle_metrics::record(&redis.metrics().jobs, &milestones);
            Ok(Status::from_stored(&said))
        }
        Some("missing") => Err(Error::JobNotFound(job)),
        Some("unknown_file") => Err(Error::FileNotFound { job, file }),
        Some("stale") => Err(Error::StaleAttempt { file, present: said.parse().unwrap_or(0) }),
        _ => Err(Error::InvalidTransition { job, current: said, requested: outcome.status }),
    }
}

/// Moves a job to `to`, with what follows from it, in one atomic step. Returns the status it then has, which
/// is `Partial` or `Failed` for a `Completed` job with failed files.
///
/// # Errors
///
/// [`Error::JobNotFound`], or [`Error::InvalidTransition`] if its present status does not allow it.
pub(super) async fn transition(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    to: Status,
    error: &str,
) -> Result<Status> {
    let mut args = vec![Value::from(to.as_str()), Value::from(error)];
    args.extend(to.allowed_from().iter().map(|it| Value::from(it.as_str())));
    let answer: Vec<String> = TRANSITION.run_for_job(redis, job, retention, args).await?;
    lifecycle_metrics::record(&redis.metrics().jobs, answer.get(2).map_or("", String::as_str));
    let (outcome, status) = status_reply(answer);
    match outcome.as_str() {
        "moved" => Ok(Status::from_stored(&status)),
        "missing" => Err(Error::JobNotFound(job)),
        _ => Err(Error::InvalidTransition { job, current: status, requested: to.as_str() }),
    }
}

/// Completes an end that another program wrote to the record only. Returns the job's status, if it exists.
pub(super) async fn reconcile_terminal_state(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Option<Status>> {
    let answer: Vec<String> =
        RECONCILE_TERMINAL_STATE.run_for_job(redis, job, retention, Vec::new()).await?;
    lifecycle_metrics::record(&redis.metrics().jobs, answer.get(2).map_or("", String::as_str));
    let (outcome, status) = status_reply(answer);
    Ok((outcome != "missing").then(|| Status::from_stored(&status)))
}

/// The stored result of a file, as it was written.
pub(super) async fn result(redis: &Redis, job: JobId, file: FileId) -> Result<Option<String>> {
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_job(job));
    let key = keyspace.key(&result_key(job, file));
    keyspace
        .call_idempotent(|client| {
            let key = key.clone();
            async move { client.get(key).await }
        })
        .await
}

/// What came of beginning to cancel.
pub(super) enum CancelReply {
    /// These tasks have to be taken back.
    Tasks(Vec<TaskMessage>),
    /// The job was over.
    AlreadyTerminal(Status),
}

/// Begins to cancel a job, which workers have `grace_ms` to heed.
///
/// # Errors
///
/// [`Error::JobNotFound`].
pub(super) async fn cancel(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    grace_ms: u64,
) -> Result<CancelReply> {
    let args = vec![Value::from(grace_ms.to_string())];
    let answer: Value = CANCEL.run_for_job(redis, job, retention, args).await?;
    let mut parts = answer.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    match next().as_string().unwrap_or_default().as_str() {
        "cancelling" => {
            let stored: HashMap<String, String> = next().convert()?;
            let tasks =
                stored.iter().filter_map(|(task, it)| TaskMessage::from_stored(task, it)).collect();
            Ok(CancelReply::Tasks(tasks))
        }
        "already_terminal" => Ok(CancelReply::AlreadyTerminal(Status::from_stored(
            &next().as_string().unwrap_or_default(),
        ))),
        _ => Err(Error::JobNotFound(job)),
    }
}

/// Begins a new attempt of what did not succeed. `false` if another attempt than `known_attempt` is the present
/// one, so that the caller has to look again.
///
/// # Errors
///
/// [`Error::JobNotFound`], or [`Error::InvalidTransition`] for a job that is not over or has nothing to retry.
pub(super) async fn retry(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    known_attempt: u32,
    tasks: &[TaskMessage],
) -> Result<bool> {
    let mut args = vec![Value::from(known_attempt.to_string())];
    args.extend(tasks.iter().flat_map(TaskMessage::script_args));
    let (outcome, said) = status_reply(RETRY.run_for_job(redis, job, retention, args).await?);
    match outcome.as_str() {
        "retrying" => Ok(true),
        "changed" => Ok(false),
        "missing" => Err(Error::JobNotFound(job)),
        _ => Err(Error::InvalidTransition { job, current: said, requested: "pending" }),
    }
}

/// Removes every key of a job. Returns whether there was one.
pub(super) async fn delete(redis: &Redis, retention: JobRetention, job: JobId) -> Result<bool> {
    let answer: Value = DELETE.run_for_job(redis, job, retention, Vec::new()).await?;
    let mut parts = answer.into_array().into_iter();
    let was_there = parts.next().and_then(|it| it.as_string()).as_deref() == Some("deleted");
    if was_there && !redis.layout().is_multi_database() {
        let noted: Vec<String> = parts.next().unwrap_or(Value::Null).convert()?;
        let [owner, idempotency] = noted.as_slice() else { return Ok(true) };
        if let Ok(owner) = Sha256Hex::try_from(owner.clone()) {
            cluster::remove_from_owner_index(redis, &owner, &[job]).await?;
            cluster::release_idempotency_key(redis, &owner, idempotency).await?;
        }
    }
    Ok(was_there)
}

/// Jobs whose workers have had their time to stop.
pub(super) async fn overdue_cancellations(redis: &Redis) -> Result<Vec<JobId>> {
    const BATCH_SIZE: usize = 100;
    let due = members_older_than(redis, Database::Jobs, CANCELLING, 0, BATCH_SIZE).await?;
    Ok(due.iter().filter_map(|it| it.parse().ok()).collect())
}

/// A job that is gone is not being cancelled.
pub(super) async fn clear_cancellation(redis: &Redis, job: JobId) -> Result<()> {
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_job(job));
    keyspace
        .call_idempotent(|client| async move {
            client.zrem(keyspace.key(CANCELLING), job.to_string()).await
        })
        .await
}

/// The stored results of a job's files, in their order. What cannot be read is left out.
pub(super) async fn results(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Vec<serde_json::Value>> {
    let answer = read_with(redis, retention, job, "results").await?;
    let results = answer.map(|it| it.1).unwrap_or_default();
    let result = |it: &Value| serde_json::from_str(&it.as_str()?).ok();
    Ok(results.iter().filter_map(result).collect())
}

fn status_reply(answer: Vec<String>) -> (String, String) {
    let mut parts = answer.into_iter();
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}
