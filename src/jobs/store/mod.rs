//! Job records in Redis. Each function needs one round trip; a script changes all databases of a job.
//!
//! * `job:{id}` hash, `job:{id}:status` string, `job:{id}:files` list, `session:{id}` string: keys of the seed
//! * `job:{id}:file:{file_id}` string: result JSON
//! * `job:{id}:states` hash: `file_id` to `status:attempt:note`, a key of this service
//! * `user_jobs:{api_key_hash}` set, and the sorted set `…:by_time`, by creation time: the owner index

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
// Not idempotent: a repeated call finds the attempt that the first one began and cannot know which call began it.
static RETRY: Script = Script::job_write(include_str!("../../../migrations-lua/jobs/retry.lua"));
static DELETE: Script =
    Script::job_write(include_str!("../../../migrations-lua/jobs/delete.lua")).idempotent();
static RECONCILE_TERMINAL_STATE: Script =
    Script::job_write(include_str!("../../../migrations-lua/jobs/reconcile_terminal.lua"))
        .idempotent();

/// Reads a whole job at one point in time. Returns `None` if it does not exist.
pub(super) async fn read(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Option<Job>> {
    let found = read_with(redis, retention, job, "").await?;
    Ok(found.map(|(job, _)| job))
}

/// Reads a job like [`read`], and the id of the newest entry of its progress stream.
pub(super) async fn read_with_head(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Option<(Job, StreamId)>> {
    let found = read_with(redis, retention, job, "head").await?;
    let id = |head: &Value| head.as_str()?.parse().ok();
    Ok(found.map(|(job, head)| (job, head.first().and_then(id).unwrap_or(StreamId::ZERO))))
}

/// Reads a job and its `extra` data: `results`, `head` or an empty string.
async fn read_with(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    extra: &'static str,
) -> Result<Option<(Job, Vec<Value>)>> {
    let args = vec![Value::from_static_str(extra)];
    let reply: Value = READ.run_for_job(redis, job, retention, args).await?;
    let mut parts = reply.into_array().into_iter().map(Value::into_array);
    let mut next = || parts.next().unwrap_or_default();
    match next().first().and_then(Value::as_str).as_deref().unwrap_or_default() {
        "job" => (),
        "missing" => return Ok(None),
        other => return Err(unknown_outcome("jobs/read reply", other)),
    }
    let stored =
        Stored { owner: next(), record: next(), files: next(), states: next(), percents: next() };
    Ok(Some((stored.to_job(job), next())))
}

/// The reply of `jobs/read.lua`. Missing and invalid values are ignored, because other programs write these keys too.
struct Stored {
    owner: Vec<Value>,
    record: Vec<Value>,
    files: Vec<Value>,
    states: Vec<Value>,
    percents: Vec<Value>,
}

impl Stored {
    /// The fields of `record`, in the order of the script.
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
        let index = Self::FIELDS.iter().position(|field| *field == name)?;
        self.record.get(index)?.as_str().filter(|value| !value.is_empty())
    }

    fn count(&self, name: &str) -> u32 {
        self.field(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    fn time(&self, name: &str) -> Option<DateTime<Utc>> {
        self.field(name).and_then(|value| parse_time(&value))
    }

    fn files(&self) -> Vec<JobFile> {
        let file_count = self.percents.len().max(self.files.len());
        let mut states = vec![None; file_count];
        let (pairs, _) = self.states.as_chunks::<2>();
        for [file, state] in pairs {
            let file = file.as_str().and_then(|id| id.parse::<FileId>().ok());
            if let Some(entry) = file.and_then(|id| states.get_mut(id.index())) {
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
        let sum: u32 = files.iter().map(|file| u32::from(file.progress_contribution())).sum();
        let mean = sum.checked_div(u32::try_from(files.len()).unwrap_or(0)).unwrap_or(0);
        let stored = self.field("overall").map_or(0, |percent| parse_percent(&percent));
        let owner = self.owner.first().and_then(Value::as_string);
        Job {
            id,
            owner: owner.and_then(|hash| Sha256Hex::try_from(hash).ok()),
            status,
            total_files: self.count("total_files"),
            completed_files: self.count("completed_files"),
            failed_files: self.count("failed_files"),
            progress: if status.has_results() {
                100
            } else if status.is_terminal() {
                stored
            } else {
                stored.max(u8::try_from(mean).unwrap_or(100))
            },
            created_at: self.time("created_at"),
            updated_at: self.time("updated_at"),
            started_at: self.time("started_at"),
            ended_at: self.time("ended_at"),
            attempt: self.count("attempt").max(1),
            error: self.field("error").map(Cow::into_owned),
            params: self.field("params").and_then(|json| serde_json::from_str(&json).ok()),
            files,
            terminal_id: self.field("terminal_id").and_then(|id| id.parse().ok()),
        }
    }
}

/// The result of one file, as arguments of `jobs/finish_file.lua`.
pub(super) struct FileResultRecord<'a> {
    pub(super) status: &'static str,
    /// 0 means the current attempt.
    pub(super) attempt: u32,
    pub(super) json: &'a str,
    /// An empty string if the file did not fail.
    pub(super) error: &'a str,
}

/// Stores the result of a file; the last file ends the job. A repeated result counts once. Returns the status of the
/// job.
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
    result: FileResultRecord<'_>,
) -> Result<Status> {
    let args = vec![
        Value::from(file.to_string()),
        Value::from(result.status),
        Value::from(result.attempt.to_string()),
        Value::from(result.json),
        Value::from(result.error),
    ];
    let reply: Vec<Option<String>> = FINISH_FILE.run_for_job(redis, job, retention, args).await?;
    let text = |index: usize| reply.get(index).and_then(Option::as_deref).unwrap_or_default();
    match text(0) {
        "stored" | "duplicate" => {
            lifecycle_metrics::record(&redis.metrics().jobs, text(2));
            Ok(Status::from_stored(text(1)))
        }
        "missing" => Err(Error::JobNotFound(job)),
        "unknown_file" => Err(Error::FileNotFound { job, file }),
        "stale" => Err(Error::StaleAttempt { file, present: text(1).parse().unwrap_or(0) }),
        "refused" => Err(Error::InvalidTransition {
            job,
            current: text(1).to_owned(),
            requested: result.status,
        }),
        other => Err(unknown_outcome("jobs/finish_file reply", other)),
    }
}

/// Sets a job to the status `to` in one atomic step, including all consequences. Returns the new status, which is
/// `Partial` or `Failed` instead of `Completed` for a job with failed files.
///
/// # Errors
///
/// [`Error::JobNotFound`], or [`Error::InvalidTransition`] if the current status does not allow it.
pub(super) async fn transition(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    to: Status,
    error: &str,
) -> Result<Status> {
    let mut args = vec![Value::from(to.as_str()), Value::from(error)];
    args.extend(to.allowed_from().iter().map(|status| Value::from(status.as_str())));
    let reply = TRANSITION.run_for_job(redis, job, retention, args).await?;
    let (outcome, status) = status_reply(redis, reply);
    match outcome.as_str() {
        "moved" => Ok(Status::from_stored(&status)),
        "missing" => Err(Error::JobNotFound(job)),
        "refused" => Err(Error::InvalidTransition { job, current: status, requested: to.as_str() }),
        other => Err(unknown_outcome("jobs/transition reply", other)),
    }
}

/// Completes a terminal status that another program set only in the record. Returns the status of the job, if it
/// exists.
pub(super) async fn reconcile_terminal_state(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Option<Status>> {
    let reply = RECONCILE_TERMINAL_STATE.run_for_job(redis, job, retention, Vec::new()).await?;
    let (outcome, status) = status_reply(redis, reply);
    match outcome.as_str() {
        "terminal" | "not_terminal" => Ok(Some(Status::from_stored(&status))),
        "missing" => Ok(None),
        other => Err(unknown_outcome("jobs/reconcile_terminal reply", other)),
    }
}

/// The stored result of a file, unchanged.
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

/// The reply of `jobs/cancel.lua`.
pub(super) enum CancelReply {
    /// The job is being cancelled. The caller must revoke these tasks.
    Cancelling(Vec<TaskMessage>),
    /// The job had already ended.
    AlreadyTerminal(Status),
}

/// Begins to cancel a job. Workers have `grace_ms` to stop.
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
    let reply: Value = CANCEL.run_for_job(redis, job, retention, args).await?;
    let mut parts = reply.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    match next().as_string().unwrap_or_default().as_str() {
        "cancelling" => {
            let stored: HashMap<String, String> = next().convert()?;
            let tasks = stored
                .iter()
                .filter_map(|(id, fields)| TaskMessage::from_stored(id, fields))
                .collect();
            Ok(CancelReply::Cancelling(tasks))
        }
        "already_terminal" => {
            let status = next().as_string().unwrap_or_default();
            Ok(CancelReply::AlreadyTerminal(Status::from_stored(&status)))
        }
        "missing" => Err(Error::JobNotFound(job)),
        other => Err(unknown_outcome("jobs/cancel reply", other)),
    }
}

/// Begins a new attempt of the files that did not succeed. Returns `false` if the current attempt of the job is not
/// `known_attempt`; the caller has to read the job again.
///
/// # Errors
///
/// [`Error::JobNotFound`], or [`Error::InvalidTransition`] for a job that has not ended or has no file to retry.
pub(super) async fn retry(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    known_attempt: u32,
    tasks: &[TaskMessage],
) -> Result<bool> {
    let mut args = vec![Value::from(known_attempt.to_string())];
    args.extend(tasks.iter().flat_map(TaskMessage::script_args));
    let reply = RETRY.run_for_job(redis, job, retention, args).await?;
    let (outcome, status) = status_reply(redis, reply);
    match outcome.as_str() {
        "retrying" => Ok(true),
        "changed" => Ok(false),
        "missing" => Err(Error::JobNotFound(job)),
        "refused" => Err(Error::InvalidTransition { job, current: status, requested: "pending" }),
        other => Err(unknown_outcome("jobs/retry reply", other)),
    }
}

/// Deletes every key of a job. Returns whether the job existed.
pub(super) async fn delete(redis: &Redis, retention: JobRetention, job: JobId) -> Result<bool> {
    let reply: Value = DELETE.run_for_job(redis, job, retention, Vec::new()).await?;
    let mut parts = reply.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    match next().as_string().unwrap_or_default().as_str() {
        "deleted" => (),
        "missing" => return Ok(false),
        other => return Err(unknown_outcome("jobs/delete reply", other)),
    }
    if !redis.layout().is_multi_database() {
        let other_slots: Vec<String> = next().convert()?;
        let [owner, idempotency] = other_slots.as_slice() else { return Ok(true) };
        if let Ok(owner) = Sha256Hex::try_from(owner.clone()) {
            cluster::remove_from_owner_index(redis, &owner, &[job]).await?;
            cluster::release_idempotency_key(redis, &owner, idempotency).await?;
        }
    }
    Ok(true)
}

/// A batch of jobs that are being cancelled and have workers that did not stop in time.
pub(super) async fn overdue_cancellations(redis: &Redis) -> Result<Vec<JobId>> {
    const BATCH_SIZE: usize = 100;
    let overdue = members_older_than(redis, Database::Jobs, CANCELLING, 0, BATCH_SIZE).await?;
    Ok(overdue.iter().filter_map(|id| id.parse().ok()).collect())
}

/// Removes a job that does not exist or has ended from the cancellations.
pub(super) async fn clear_cancellation(redis: &Redis, job: JobId) -> Result<()> {
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_job(job));
    keyspace
        .call_idempotent(|client| async move {
            client.zrem(keyspace.key(CANCELLING), job.to_string()).await
        })
        .await
}

/// The stored results of a job's files, in the order of the files. Skips results that are not valid JSON.
pub(super) async fn results(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Vec<serde_json::Value>> {
    let found = read_with(redis, retention, job, "results").await?;
    let results = found.map(|(_, results)| results).unwrap_or_default();
    let parse = |json: &Value| serde_json::from_str(&json.as_str()?).ok();
    Ok(results.iter().filter_map(parse).collect())
}

/// Splits a reply of outcome, status and lifecycle events, and records the events. All are optional.
fn status_reply(redis: &Redis, reply: Vec<String>) -> (String, String) {
    let mut parts = reply.into_iter();
    let mut next = || parts.next().unwrap_or_default();
    let (outcome, status, events) = (next(), next(), next());
    lifecycle_metrics::record(&redis.metrics().jobs, &events);
    (outcome, status)
}

pub(super) fn unknown_outcome(reply: &'static str, outcome: &str) -> Error {
    Error::CorruptData { what: reply, reason: format!("unknown outcome {outcome:?}") }
}
