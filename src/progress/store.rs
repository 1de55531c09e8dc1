//! Progress in Redis. Each function needs one round trip.
//!
//! * `progress:{job_id}:{file_id}` string: percent
//! * `stream:progress:{job_id}` stream: changes of the job, see `migrations-lua/shared/lifecycle.lua`

use std::collections::HashMap;

use futures_util::future::try_join_all;

use super::{report::ProgressUpdate, snapshot::StreamEntry};
use crate::{
    error::{Error, Result},
    ids::{FileId, JobId, StreamId},
    jobs::{Status, record_lifecycle_events},
    store::{
        Database, JobRetention, Keyspace, Partition, Redis, Script,
        client::{Client, Key, StreamsInterface as _, Value},
        job_key, stream_key,
    },
};

static REPORT: Script =
    Script::job_write(include_str!("../../migrations-lua/progress/report.lua")).idempotent();

static REPORT_JOB: Script =
    Script::job_write(include_str!("../../migrations-lua/progress/report_job.lua")).idempotent();

static JOB_LIVENESS: Script =
    Script::new(include_str!("../../migrations-lua/progress/job_liveness.lua")).idempotent();

/// The number of recorded and ignored reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = Recorded)]
pub(crate) struct RecordSummary {
    pub(crate) recorded: u64,
    /// Reports of an older attempt or of a finished file, and reports that change nothing.
    pub(crate) ignored: u64,
}

/// Records the progress of some files of a job. On an error, no report is recorded.
///
/// # Errors
///
/// [`Error::JobNotFound`], [`Error::FileNotFound`], or [`Error::InvalidTransition`] for a job that has ended or is
/// being cancelled.
pub(super) async fn report(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    reports: &[ProgressUpdate],
) -> Result<RecordSummary> {
    let args = reports.iter().flat_map(|report| {
        [
            Value::from(report.file_id.to_string()),
            Value::from(report.progress.to_string()),
            Value::from(report.attempt.to_string()),
            message_arg(report.message.as_deref()),
        ]
    });
    let reply: Vec<Value> = REPORT.run_for_job(redis, job, retention, args.collect()).await?;
    let number = |index: usize| reply.get(index).and_then(Value::as_u64).unwrap_or(0);
    let text = |index: usize| reply.get(index).and_then(Value::as_string).unwrap_or_default();
    match text(0).as_str() {
        "recorded" => {
            record_lifecycle_events(&redis.metrics().jobs, &text(3));
            Ok(RecordSummary { recorded: number(1), ignored: number(2) })
        }
        "missing" => Err(Error::JobNotFound(job)),
        "unknown_file" => {
            let file = text(1).parse::<FileId>()?;
            Err(Error::FileNotFound { job, file })
        }
        "refused" => {
            Err(Error::InvalidTransition { job, current: text(1), requested: "processing" })
        }
        other => Err(unknown_outcome("progress/report reply", other)),
    }
}

/// Records the progress of a whole job.
///
/// # Errors
///
/// [`Error::JobNotFound`], or [`Error::InvalidTransition`] for a job that has ended or is being cancelled.
pub(super) async fn report_overall(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    percent: u8,
    message: Option<String>,
) -> Result<()> {
    let args = vec![Value::from(percent.to_string()), message_arg(message.as_deref())];
    let reply: Vec<Value> = REPORT_JOB.run_for_job(redis, job, retention, args).await?;
    let text = |index: usize| reply.get(index).and_then(Value::as_string).unwrap_or_default();
    match text(0).as_str() {
        "recorded" => {
            record_lifecycle_events(&redis.metrics().jobs, &text(2));
            Ok(())
        }
        "missing" => Err(Error::JobNotFound(job)),
        "refused" => {
            Err(Error::InvalidTransition { job, current: text(1), requested: "processing" })
        }
        other => Err(unknown_outcome("progress/report_job reply", other)),
    }
}

/// The prefix distinguishes an empty message from a missing one.
fn message_arg(message: Option<&str>) -> Value {
    Value::from(message.map(|text| format!("m{text}")).unwrap_or_default())
}

fn unknown_outcome(reply: &'static str, outcome: &str) -> Error {
    Error::CorruptData { what: reply, reason: format!("unknown outcome {outcome:?}") }
}

/// Reads the entries after the given ones, at most `count` of each stream, without blocking. Sends one call, or in a
/// cluster concurrent calls to all partitions of the jobs.
pub(crate) async fn read_entries_after(
    redis: &Redis,
    after: &[(JobId, StreamId)],
    count: u64,
) -> Result<HashMap<JobId, Vec<StreamEntry>>> {
    let groups = redis.group_by_keyspace(Database::Progress, after.iter().copied(), |(job, _)| {
        Partition::for_job(*job)
    });
    let reads =
        groups.iter().map(|(keyspace, after)| read_entries_after_at(*keyspace, after, count));
    let mut found = HashMap::new();
    for streams in try_join_all(reads).await? {
        found.extend(streams);
    }
    Ok(found)
}

async fn read_entries_after_at(
    keyspace: Keyspace<'_>,
    after: &[(JobId, StreamId)],
    count: u64,
) -> Result<Vec<(JobId, Vec<StreamEntry>)>> {
    let read = |client: Client| async move {
        let keys: Vec<Key> = after.iter().map(|(job, _)| keyspace.key(&stream_key(*job))).collect();
        let ids: Vec<String> = after.iter().map(|(_, id)| id.to_string()).collect();
        client.xread::<Value, _, _>(Some(count), None, keys, ids).await
    };
    let reply = keyspace.call_idempotent(read).await?;
    if reply.is_null() {
        return Ok(Vec::new());
    }
    let streams = reply.into_map().map_err(|error| corrupt(&error))?.inner();
    let parse = |(key, entries): (Key, Value)| {
        let (_, job) = key.as_str()?.rsplit_once(':')?;
        Some((job.parse().ok()?, parse_entries(entries)))
    };
    Ok(streams.into_iter().filter_map(parse).collect())
}

/// Existence, status and stream position of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobLiveness {
    pub(crate) exists: bool,
    pub(crate) status: Status,
    /// Whether its stream has a terminal entry.
    pub(crate) has_end: bool,
    /// The id of the newest stream entry.
    pub(crate) last_id: StreamId,
}

/// Reads the liveness of `jobs`, in their order.
pub(crate) async fn job_liveness(redis: &Redis, jobs: &[JobId]) -> Result<Vec<JobLiveness>> {
    let groups = redis
        .group_by_keyspace(Database::Jobs, 0..jobs.len(), |index| Partition::for_job(jobs[*index]));
    let reads = groups.iter().map(|(keyspace, group)| async move {
        let jobs: Vec<JobId> = group.iter().map(|index| jobs[*index]).collect();
        Ok::<_, Error>((group, job_liveness_at(redis, *keyspace, &jobs).await?))
    });
    let mut all = vec![None; jobs.len()];
    for (group, found) in try_join_all(reads).await? {
        for (index, liveness) in group.iter().zip(found) {
            all[*index] = Some(liveness);
        }
    }
    all.into_iter().collect::<Option<_>>().ok_or_else(|| Error::CorruptData {
        what: "progress/job_liveness reply",
        reason: "fewer entries than jobs".to_owned(),
    })
}

async fn job_liveness_at(
    redis: &Redis,
    keyspace: Keyspace<'_>,
    jobs: &[JobId],
) -> Result<Vec<JobLiveness>> {
    let records = jobs.iter().map(|job| Key::from(job_key(*job)));
    let keys = records.chain(jobs.iter().map(|job| Key::from(stream_key(*job)))).collect();
    let args = vec![Value::from_static_str(redis.layout().as_str())];
    let replies: Vec<(u8, String, String, String)> = JOB_LIVENESS.run(keyspace, keys, args).await?;
    let liveness =
        |(exists, terminal, last_id, status): (u8, String, String, String)| JobLiveness {
            exists: exists == 1,
            status: Status::from_stored(&status),
            has_end: terminal == "has_terminal_entry",
            last_id: last_id.parse().unwrap_or(StreamId::ZERO),
        };
    Ok(replies.into_iter().map(liveness).collect())
}

/// Reads at most `count` entries of one stream, beginning with `from`.
pub(crate) async fn read_range(
    redis: &Redis,
    job: JobId,
    from: StreamId,
    count: u64,
) -> Result<Vec<StreamEntry>> {
    let keyspace = redis.keyspace(Database::Progress, Partition::for_job(job));
    let read = |client: Client| async move {
        let key = keyspace.key(&stream_key(job));
        client.xrange::<Value, _, _, _>(key, from.to_string(), "+", Some(count)).await
    };
    let reply = keyspace.call_idempotent(read).await?;
    Ok(parse_entries(reply))
}

/// Whether entries after `after` may have been trimmed.
pub(crate) async fn has_gap_after(redis: &Redis, job: JobId, after: StreamId) -> Result<bool> {
    let keyspace = redis.keyspace(Database::Progress, Partition::for_job(job));
    let read = |client: Client| async move {
        client.xinfo_stream::<Value, _>(keyspace.key(&stream_key(job)), false, None).await
    };
    let reply: Result<Value> = keyspace.call_idempotent(read).await;
    let info = match reply {
        Ok(info) => info.into_map().map_err(|error| corrupt(&error))?.inner(),
        // The stream does not exist, so no entry was trimmed.
        Err(Error::Redis(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let field = |name: &str| {
        info.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value.clone())
    };
    let first = field("first-entry").and_then(parse_entry).map(|entry| entry.id);
    let Some(first) = first else { return Ok(false) };
    let added_count = field("entries-added").and_then(|value| value.as_u64());
    let kept_count = field("length").and_then(|value| value.as_u64());
    Ok(after < first && (added_count.is_none() || added_count != kept_count))
}

/// Parses entries in the format of Redis, `[[id, [name, value, …]], …]`. Invalid UTF-8 is replaced, so that an entry of
/// another program does not prevent the other entries from being read.
fn parse_entries(entries: Value) -> Vec<StreamEntry> {
    entries.into_array().into_iter().filter_map(parse_entry).collect()
}

fn parse_entry(entry: Value) -> Option<StreamEntry> {
    let mut parts = entry.into_array().into_iter();
    let id = lossy(&parts.next()?).parse().ok()?;
    let mut flat = parts.next()?.into_array().into_iter();
    let mut fields = Vec::with_capacity(flat.len() / 2);
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        fields.push((lossy(&name), lossy(&value)));
    }
    Some(StreamEntry { id, fields })
}

fn lossy(value: &Value) -> String {
    value
        .as_bytes()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .or_else(|| value.as_string())
        .unwrap_or_default()
}

fn corrupt(error: &crate::store::client::ClientError) -> Error {
    Error::CorruptData { what: "progress stream", reason: error.to_string() }
}
