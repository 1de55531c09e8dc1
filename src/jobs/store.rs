//! Job records in Redis: one function, one round trip, one script over all databases.
//!
//! * `job:{id}` hash, `job:{id}:status` string, `job:{id}:files` list, `session:{id}` string: the seed's
//! * `job:{id}:file:{file_id}` string: result JSON
//! * `job:{id}:states` hash: `file_id` to `status:attempt:error`, ours
//! * `user_jobs:{api_key_hash}` set, and beside it `…:by_time`, sorted by creation

use std::collections::HashMap;

use fred::{interfaces::KeysInterface as _, types::Value};

use super::{
    model::{Job, JobFile, parse_percent, parse_time},
    new_job::Checked,
    status::Status,
};
use crate::{
    error::{Error, Result},
    ids::{ApiKeyHash, FileId, JobId, StreamId},
    redis::{Database, Redis, Retention, Script, result_key},
};

static CREATE: Script = Script::new(include_str!("../../migrations-lua/jobs/create.lua"));
static READ: Script = Script::new(include_str!("../../migrations-lua/jobs/read.lua"));
static FINISH_FILE: Script = Script::new(include_str!("../../migrations-lua/jobs/finish_file.lua"));
static TRANSITION: Script = Script::new(include_str!("../../migrations-lua/jobs/transition.lua"));
static SETTLE: Script = Script::new(include_str!("../../migrations-lua/jobs/settle.lua"));

/// Creates `id`, pending, owned by `owner`.
///
/// # Errors
///
/// [`Error::JobExists`].
pub(super) async fn create(
    redis: &Redis,
    retention: Retention,
    id: JobId,
    owner: &ApiKeyHash,
    new: Checked,
) -> Result<Job> {
    let mut args = vec![Value::from(owner.as_str()), Value::from(new.params.as_str())];
    args.extend(new.files.iter().map(|it| Value::from(it.as_str())));
    let answer: Vec<String> = CREATE.run(redis, id, retention, args).await?;
    let ["created", created_at, first_event] =
        answer.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        return Err(Error::JobExists(id));
    };
    let created_at = parse_time(created_at);
    let files: Vec<JobFile> = new
        .files
        .iter()
        .enumerate()
        .map(|(i, json)| JobFile::from_stored(i, Some(json), None, None))
        .collect();
    Ok(Job {
        id,
        owner: Some(owner.clone()),
        status: Status::Pending,
        total_files: u32::try_from(files.len()).unwrap_or(u32::MAX),
        completed_files: 0,
        failed_files: 0,
        progress: 0,
        created_at,
        updated_at: created_at,
        started_at: None,
        ended_at: None,
        error: None,
        params: serde_json::from_str(&new.params).ok(),
        files,
        terminal_id: None,
        last_event_id: first_event.parse().unwrap_or(StreamId::ZERO),
    })
}

/// Reads a job whole, as of one moment; `None` if there is none.
pub(super) async fn read(redis: &Redis, retention: Retention, job: JobId) -> Result<Option<Job>> {
    let answer: Value = READ.run(redis, job, retention, vec![Value::from("")]).await?;
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
        owner: owner.into_iter().flatten().next().and_then(|it| ApiKeyHash::try_from(it).ok()),
        status,
        total_files: count("total_files"),
        completed_files: count("completed_files"),
        failed_files: count("failed_files"),
        progress: if status.is_success() {
            100
        } else {
            stored.max(u8::try_from(computed).unwrap_or(100))
        },
        created_at: time("created_at"),
        updated_at: time("updated_at"),
        started_at: time("started_at"),
        ended_at: time("ended_at"),
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
    let answer: Vec<Option<String>> = FINISH_FILE.run(redis, job, retention, args).await?;
    let said = answer.get(1).cloned().flatten().unwrap_or_default();
    match answer.first().and_then(Option::as_deref) {
        Some("stored" | "duplicate") => Ok(Status::from_stored(&said)),
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
) -> Result<Status> {
    let mut args = vec![Value::from(to.as_str()), Value::from("")];
    args.extend(to.sources().iter().map(|it| Value::from(it.as_str())));
    let (outcome, status) = tagged(TRANSITION.run(redis, job, retention, args).await?);
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
    let (outcome, status) = tagged(SETTLE.run(redis, job, retention, Vec::new()).await?);
    Ok((outcome != "missing").then(|| Status::from_stored(&status)))
}

/// The stored result of a file, as it was written.
pub(super) async fn result(redis: &Redis, job: JobId, file: FileId) -> Result<Option<String>> {
    redis
        .call(Database::Jobs, |client| async move { client.get(result_key(job, file)).await })
        .await
}

fn tagged(answer: Vec<String>) -> (String, String) {
    let mut parts = answer.into_iter();
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}
