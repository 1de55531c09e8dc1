//! Job records in Redis. Each function needs one round trip; a script changes all databases of a job.
//!
//! * `job:{id}` hash, `job:{id}:status` string, `job:{id}:files` list, `session:{id}` string: keys of the seed
//! * `job:{id}:file:{file_id}` string: result JSON
//! * `job:{id}:states` hash: `file_id` to `status:attempt:note`, a key of this service
//! * `user_jobs:{api_key_hash}` set, and the sorted set `…:by_time`, by creation time: the owner index

use std::collections::HashMap;

pub(crate) mod cluster;
mod create;
mod read;

pub(super) use self::{
    create::{CreateArgs, Created, create, reserve_job},
    read::{read, read_with_head, results},
};
use super::{lifecycle_metrics, status::Status};
use crate::{
    celery::TaskMessage,
    error::{Error, Result},
    ids::{FileId, JobId, Sha256Hex},
    store::{
        CANCELLING, Database, JobRetention, Partition, Redis, Script,
        client::{KeysInterface as _, SortedSetsInterface as _, Value},
        members_older_than, result_key,
    },
};

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
