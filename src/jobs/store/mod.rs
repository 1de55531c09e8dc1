//! Job records in Redis: one function, one round trip, one script over all databases.
//!
//! * `job:{id}` hash, `job:{id}:status` string, `job:{id}:files` list, `session:{id}` string: the seed's
//! * `job:{id}:file:{file_id}` string: result JSON
//! * `job:{id}:states` hash: `file_id` to `status:attempt:error`, ours
//! * `user_jobs:{api_key_hash}` set, and beside it `…:by_time`, sorted by creation

use std::collections::HashMap;

use fred::{
    interfaces::{KeysInterface as _, SortedSetsInterface as _},
    types::Value,
};

mod create;
pub(super) mod spread;

pub(super) use self::create::{Created, NewRecord, create, reserve};
use super::{
    milestones,
    model::{Job, JobFile, parse_percent, parse_time},
    status::Status,
};
use crate::{
    celery::Parcel,
    error::{Error, Result},
    ids::{FileId, JobId, Sha256Hex, StreamId},
    redis::{CANCELLING, Database, Partition, Redis, Retention, Script, oldest, result_key},
};

static READ: Script =
    Script::about_job(include_str!("../../../migrations-lua/jobs/read.lua")).repeatable();
static FINISH_FILE: Script =
    Script::about_job(include_str!("../../../migrations-lua/jobs/finish_file.lua")).repeatable();
static TRANSITION: Script =
    Script::about_job(include_str!("../../../migrations-lua/jobs/transition.lua")).repeatable();
static CANCEL: Script =
    Script::about_job(include_str!("../../../migrations-lua/jobs/cancel.lua")).repeatable();
// The second time it finds the attempt that it began, and cannot tell whose that is.
static RETRY: Script = Script::about_job(include_str!("../../../migrations-lua/jobs/retry.lua"));
static DELETE: Script =
    Script::about_job(include_str!("../../../migrations-lua/jobs/delete.lua")).repeatable();
static SETTLE: Script =
    Script::about_job(include_str!("../../../migrations-lua/jobs/settle.lua")).repeatable();

/// Reads a job whole, as of one moment; `None` if there is none.
pub(super) async fn read(redis: &Redis, retention: Retention, job: JobId) -> Result<Option<Job>> {
    let answer: Value = READ.run_on_job(redis, job, retention, vec![Value::from("")]).await?;
    parse_job(job, answer)
        .map_err(|error| Error::Corrupt { what: "job", reason: error.to_string() })
}

fn parse_job(id: JobId, answer: Value) -> Result<Option<Job>, fred::error::Error> {
    let mut parts = answer.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    if next().as_str().as_deref() != Some("job") {
        return Ok(None);
    }
    let owner: Vec<Option<String>> = next().convert()?;
    let record: HashMap<String, String> = next().convert()?;
    let files: Vec<String> = next().convert()?;
    let states: HashMap<String, String> = next().convert()?;
    let percents: Vec<Option<String>> = next().convert()?;
    let last_event_id: String = next().convert()?;

    let field = |name: &str| record.get(name).filter(|it| !it.is_empty()).map(String::as_str);
    let count = |name: &str| field(name).and_then(|it| it.parse::<u32>().ok()).unwrap_or(0);
    let time = |name: &str| field(name).and_then(parse_time);
    let files: Vec<JobFile> = (0..percents.len().max(files.len()))
        .map(|index| {
            let state = states.get(&FileId::from_index(index).to_string());
            let percent = percents.get(index).and_then(Option::as_deref);
            JobFile::from_stored(
                index,
                files.get(index).map(String::as_str),
                state.map(String::as_str),
                percent,
            )
        })
        .collect();
    let status = Status::from_stored(field("status").unwrap_or("pending"));
    let shares: u32 = files.iter().map(|it| u32::from(it.share())).sum();
    let computed = shares.checked_div(u32::try_from(files.len()).unwrap_or(0)).unwrap_or(0);
    let stored = field("overall").map_or(0, parse_percent);
    Ok(Some(Job {
        id,
        owner: owner.into_iter().flatten().next().and_then(|it| Sha256Hex::try_from(it).ok()),
        status,
        total_files: count("total_files"),
        completed_files: count("completed_files"),
        failed_files: count("failed_files"),
        progress: if status.is_success() {
            100
        } else if status.is_terminal() {
            stored
        } else {
            stored.max(u8::try_from(computed).unwrap_or(100))
        },
        created_at: time("created_at"),
        updated_at: time("updated_at"),
        started_at: time("started_at"),
        ended_at: time("ended_at"),
        attempt: count("attempt").max(1),
        error: field("error").map(str::to_owned),
        params: field("params").and_then(|it| serde_json::from_str(it).ok()),
        files,
        terminal_id: field("terminal_id").and_then(|it| it.parse().ok()),
        last_event_id: last_event_id.parse().unwrap_or(StreamId::ZERO),
    }))
}

/// The outcome of a worker's report on one file, said once.
pub(super) struct Outcome<'a> {
    pub(super) status: &'static str,
    pub(super) attempt: u32,
    pub(super) json: &'a str,
    pub(super) error: &'a str,
}

/// Stores the result of a file; the last file ends the job. Sent twice, it counts once.
///
/// # Errors
///
/// [`Error::JobNotFound`], [`Error::FileNotFound`], [`Error::StaleAttempt`], or [`Error::WrongStatus`] if the
/// job ended without this file.
pub(super) async fn finish_file(
    redis: &Redis,
    retention: Retention,
    job: JobId,
    file: FileId,
    outcome: Outcome<'_>,
) -> Result<Status> {
    let args = vec![
        Value::from(file.to_string()),
        Value::from(outcome.status),
        Value::from(outcome.attempt.to_string()),
        Value::from(outcome.json),
        Value::from(outcome.error),
    ];
    let answer: Vec<Option<String>> = FINISH_FILE.run_on_job(redis, job, retention, args).await?;
    let said = answer.get(1).cloned().flatten().unwrap_or_default();
    match answer.first().and_then(Option::as_deref) {
        Some("stored" | "duplicate") => {
            let milestones = answer.get(2).cloned().flatten().unwrap_or_default();
            milestones::count(&redis.metrics().jobs, &milestones);
            Ok(Status::from_stored(&said))
        }
        Some("missing") => Err(Error::JobNotFound(job)),
        Some("unknown_file") => Err(Error::FileNotFound { job, file }),
        Some("stale") => Err(Error::StaleAttempt { file, present: said.parse().unwrap_or(0) }),
        _ => Err(Error::WrongStatus { job, present: said, wanted: outcome.status }),
    }
}

/// Moves a job to `to`, with what follows from it, in one atomic step. Returns the status it then has, which
/// is `Partial` or `Failed` for a `Completed` job with failed files.
///
/// # Errors
///
/// [`Error::JobNotFound`], or [`Error::WrongStatus`] if its present status does not allow it.
pub(super) async fn transition(
    redis: &Redis,
    retention: Retention,
    job: JobId,
    to: Status,
    error: &str,
) -> Result<Status> {
    let mut args = vec![Value::from(to.as_str()), Value::from(error)];
    args.extend(to.sources().iter().map(|it| Value::from(it.as_str())));
    let answer: Vec<String> = TRANSITION.run_on_job(redis, job, retention, args).await?;
    milestones::count(&redis.metrics().jobs, answer.get(2).map_or("", String::as_str));
    let (outcome, status) = tagged(answer);
    match outcome.as_str() {
        "moved" => Ok(Status::from_stored(&status)),
        "missing" => Err(Error::JobNotFound(job)),
        _ => Err(Error::WrongStatus { job, present: status, wanted: to.as_str() }),
    }
}

/// Completes an end that another program wrote to the record only. Returns the job's status, if it exists.
pub(super) async fn settle(
    redis: &Redis,
    retention: Retention,
    job: JobId,
) -> Result<Option<Status>> {
    let answer: Vec<String> = SETTLE.run_on_job(redis, job, retention, Vec::new()).await?;
    milestones::count(&redis.metrics().jobs, answer.get(2).map_or("", String::as_str));
    let (outcome, status) = tagged(answer);
    Ok((outcome != "missing").then(|| Status::from_stored(&status)))
}

/// The stored result of a file, as it was written.
pub(super) async fn result(redis: &Redis, job: JobId, file: FileId) -> Result<Option<String>> {
    let place = redis.at(Database::Jobs, Partition::of_job(job));
    let key = place.key(&result_key(job, file));
    place
        .read(|client| {
            let key = key.clone();
            async move { client.get(key).await }
        })
        .await
}

/// What came of beginning to cancel.
pub(super) enum Cancelling {
    /// These tasks have to be taken back.
    Tasks(Vec<Parcel>),
    /// The job was over.
    Over(Status),
}

/// Begins to cancel a job, which workers have `grace_ms` to heed.
///
/// # Errors
///
/// [`Error::JobNotFound`].
pub(super) async fn cancel(
    redis: &Redis,
    retention: Retention,
    job: JobId,
    grace_ms: u64,
) -> Result<Cancelling> {
    let args = vec![Value::from(grace_ms.to_string())];
    let answer: Value = CANCEL.run_on_job(redis, job, retention, args).await?;
    let mut parts = answer.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    match next().as_string().unwrap_or_default().as_str() {
        "cancelling" => {
            let stored: HashMap<String, String> = next().convert()?;
            let tasks =
                stored.iter().filter_map(|(task, it)| Parcel::from_stored(task, it)).collect();
            Ok(Cancelling::Tasks(tasks))
        }
        "over" => {
            Ok(Cancelling::Over(Status::from_stored(&next().as_string().unwrap_or_default())))
        }
        _ => Err(Error::JobNotFound(job)),
    }
}

/// Begins a new attempt of what did not succeed. `false` if another attempt than `known_attempt` is the present
/// one, so that the caller has to look again.
///
/// # Errors
///
/// [`Error::JobNotFound`], or [`Error::WrongStatus`] for a job that is not over or has nothing to retry.
pub(super) async fn retry(
    redis: &Redis,
    retention: Retention,
    job: JobId,
    known_attempt: u32,
    tasks: &[Parcel],
) -> Result<bool> {
    let mut args = vec![Value::from(known_attempt.to_string())];
    args.extend(tasks.iter().flat_map(Parcel::script_args));
    let (outcome, said) = tagged(RETRY.run_on_job(redis, job, retention, args).await?);
    match outcome.as_str() {
        "retrying" => Ok(true),
        "changed" => Ok(false),
        "missing" => Err(Error::JobNotFound(job)),
        _ => Err(Error::WrongStatus { job, present: said, wanted: "pending" }),
    }
}

/// Removes every key of a job. Returns whether there was one.
pub(super) async fn delete(redis: &Redis, retention: Retention, job: JobId) -> Result<bool> {
    let answer: Value = DELETE.run_on_job(redis, job, retention, Vec::new()).await?;
    let mut parts = answer.into_array().into_iter();
    let was_there = parts.next().and_then(|it| it.as_string()).as_deref() == Some("deleted");
    if was_there && !redis.layout().is_numbered() {
        let noted: Vec<String> = parts.next().unwrap_or(Value::Null).convert()?;
        let [owner, idempotency] = noted.as_slice() else { return Ok(true) };
        if let Ok(owner) = Sha256Hex::try_from(owner.clone()) {
            spread::unlist(redis, &owner, &[job]).await?;
            spread::free(redis, &owner, idempotency).await?;
        }
    }
    Ok(was_there)
}

/// Jobs whose workers have had their time to stop.
pub(super) async fn overdue_cancellations(redis: &Redis) -> Result<Vec<JobId>> {
    const AT_ONCE: usize = 100;
    let due = oldest(redis, Database::Jobs, CANCELLING, 0, AT_ONCE).await?;
    Ok(due.iter().filter_map(|it| it.parse().ok()).collect())
}

/// A job that is gone is not being cancelled.
pub(super) async fn forget_cancellation(redis: &Redis, job: JobId) -> Result<()> {
    let place = redis.at(Database::Jobs, Partition::of_job(job));
    place
        .read(|client| async move { client.zrem(place.key(CANCELLING), job.to_string()).await })
        .await
}

/// The stored results of a job's files, in their order. What cannot be read is left out.
pub(super) async fn results(
    redis: &Redis,
    retention: Retention,
    job: JobId,
) -> Result<Vec<serde_json::Value>> {
    let answer: Value =
        READ.run_on_job(redis, job, retention, vec![Value::from("results")]).await?;
    let stored: Vec<Option<String>> = match answer.into_array().into_iter().nth(7) {
        Some(results) => results.convert()?,
        None => Vec::new(),
    };
    Ok(stored.iter().flatten().filter_map(|it| serde_json::from_str(it).ok()).collect())
}

fn tagged(answer: Vec<String>) -> (String, String) {
    let mut parts = answer.into_iter();
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}
