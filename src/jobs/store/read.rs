//! Reads whole jobs.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::unknown_outcome;
use crate::{
    error::Result,
    ids::{FileId, JobId, Sha256Hex, StreamId},
    jobs::{
        model::{Job, JobFile, parse_percent, parse_time},
        status::Status,
    },
    store::{JobRetention, Redis, Script, client::Value},
};

static READ: Script =
    Script::job_read(include_str!("../../../migrations-lua/jobs/read.lua")).idempotent();

/// Reads a whole job at one point in time. Returns `None` if it does not exist.
pub(in crate::jobs) async fn read(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Option<Job>> {
    let found = read_with(redis, retention, job, "").await?;
    Ok(found.map(|(job, _)| job))
}

/// Reads a job like [`read`], and the id of the newest entry of its progress stream.
pub(in crate::jobs) async fn read_with_head(
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

/// The stored results of a job's files, in the order of the files. Skips results that are not valid JSON.
pub(in crate::jobs) async fn results(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Vec<serde_json::Value>> {
    let found = read_with(redis, retention, job, "results").await?;
    let results = found.map(|(_, results)| results).unwrap_or_default();
    let parse = |json: &Value| serde_json::from_str(&json.as_str()?).ok();
    Ok(results.iter().filter_map(parse).collect())
}
