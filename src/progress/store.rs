//! Progress in Redis: one function, one round trip.
//!
//! * `progress:{job_id}:{file_id}` string: percent
//! * `stream:progress:{job_id}` stream: what changed, see `migrations-lua/shared/job.lua`

use std::collections::HashMap;

use fred::{
    clients::Client,
    interfaces::StreamsInterface as _,
    types::{Key, Value},
};
use futures_util::future::try_join_all;

use super::{report::Report, snapshot::Entry};
use crate::{
    error::{Error, Result},
    ids::{FileId, JobId, StreamId},
    jobs::{Status, record_lifecycle_events},
    store::{Database, JobRetention, Keyspace, Partition, Redis, Script, job_key, stream_key},
};

static REPORT: Script =
    Script::job_write(include_str!("../../migrations-lua/progress/report.lua")).idempotent();

static OVERALL: Script =
    Script::job_write(include_str!("../../migrations-lua/progress/report_job.lua")).idempotent();

static CHECK: Script =
    Script::new(include_str!("../../migrations-lua/progress/job_liveness.lua")).idempotent();

/// How many of the reports changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct Recorded {
    pub(crate) recorded: u64,
    /// From an older attempt, or of a file that is finished.
    pub(crate) ignored: u64,
}

/// Records the progress of some files of a job: all of them or, on an error, none.
///
/// # Errors
///
/// [`Error::JobNotFound`], [`Error::FileNotFound`], or [`Error::WrongStatus`] for a job that is over.
pub(super) async fn report(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    reports: &[Report],
) -> Result<Recorded> {
    let args = reports.iter().flat_map(|it| {
        [
            Value::from(it.file_id.to_string()),
            Value::from(it.progress.to_string()),
            Value::from(it.attempt.to_string()),
            Value::from(it.message.as_ref().map(|text| format!("m{text}")).unwrap_or_default()),
        ]
    });
    let answer: Vec<Value> = REPORT.run_for_job(redis, job, retention, args.collect()).await?;
    let number = |i: usize| answer.get(i).and_then(Value::as_u64).unwrap_or(0);
    let text = |i: usize| answer.get(i).and_then(Value::as_string).unwrap_or_default();
    match text(0).as_str() {
        "recorded" => {
            record_lifecycle_events(&redis.metrics().jobs, &text(3));
            Ok(Recorded { recorded: number(1), ignored: number(2) })
        }
        "missing" => Err(Error::JobNotFound(job)),
        "unknown_file" => {
            let file = text(1).parse::<FileId>()?;
            Err(Error::FileNotFound { job, file })
        }
        _ => Err(Error::WrongStatus { job, present: text(1), wanted: "processing" }),
    }
}

/// Records the progress of a job as a whole.
pub(super) async fn report_overall(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
    percent: u8,
    message: Option<String>,
) -> Result<()> {
    let message = message.map(|it| format!("m{it}")).unwrap_or_default();
    let args = vec![Value::from(percent.to_string()), Value::from(message)];
    let answer: Vec<Value> = OVERALL.run_for_job(redis, job, retention, args).await?;
    let text = |i: usize| answer.get(i).and_then(Value::as_string).unwrap_or_default();
    match text(0).as_str() {
        "recorded" => {
            record_lifecycle_events(&redis.metrics().jobs, &text(2));
            Ok(())
        }
        "missing" => Err(Error::JobNotFound(job)),
        _ => Err(Error::WrongStatus { job, present: text(1), wanted: "processing" }),
    }
}

/// Reads what came after the given entries, at most `count` of each stream, without waiting: one call, or in a
/// cluster one for each partition, all at once.
pub(crate) async fn read_new(
    redis: &Redis,
    after: &[(JobId, StreamId)],
    count: u64,
) -> Result<HashMap<JobId, Vec<Entry>>> {
    let groups = redis.group_by_keyspace(Database::Progress, after.iter().copied(), |it| {
        Partition::for_job(it.0)
    });
    let reads = groups.iter().map(|(keyspace, after)| read_new_at(*keyspace, after, count));
    let mut found = HashMap::new();
    for streams in try_join_all(reads).await? {
        found.extend(streams);
    }
    Ok(found)
}

async fn read_new_at(
    keyspace: Keyspace<'_>,
    after: &[(JobId, StreamId)],
    count: u64,
) -> Result<Vec<(JobId, Vec<Entry>)>> {
    let read = |client: Client| async move {
        let keys: Vec<Key> = after.iter().map(|it| keyspace.key(&stream_key(it.0))).collect();
        let ids: Vec<String> = after.iter().map(|it| it.1.to_string()).collect();
        client.xread::<Value, _, _>(Some(count), None, keys, ids).await
    };
    let answer = keyspace.call_idempotent(read).await?;
    if answer.is_null() {
        return Ok(Vec::new());
    }
    let streams = answer.into_map().map_err(|error| corrupt(&error))?.inner();
    let parse = |(key, entries): (Key, Value)| {
        let (_, job) = key.as_str()?.rsplit_once(':')?;
        Some((job.parse().ok()?, parse_entries(entries)))
    };
    Ok(streams.into_iter().filter_map(parse).collect())
}

/// How a job stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) exists: bool,
    pub(crate) status: Status,
    /// Whether its stream says the end.
    pub(crate) has_end: bool,
    /// The newest entry of its stream.
    pub(crate) last_id: StreamId,
}

/// How `jobs` stand, in their order.
pub(crate) async fn standings(redis: &Redis, jobs: &[JobId]) -> Result<Vec<Standing>> {
    let groups =
        redis.group_by_keyspace(Database::Jobs, 0..jobs.len(), |it| Partition::for_job(jobs[*it]));
    let checks = groups.iter().map(|(keyspace, group)| async move {
        let jobs: Vec<JobId> = group.iter().map(|it| jobs[*it]).collect();
        Ok::<_, Error>((group, standings_at(redis, *keyspace, &jobs).await?))
    });
    let mut standings = vec![None; jobs.len()];
    for (group, found) in try_join_all(checks).await? {
        for (at, standing) in group.iter().zip(found) {
            standings[*at] = Some(standing);
        }
    }
    standings.into_iter().collect::<Option<_>>().ok_or_else(|| Error::Corrupt {
        what: "answer of a script",
        reason: "too short".to_owned(),
    })
}

async fn standings_at(
    redis: &Redis,
    keyspace: Keyspace<'_>,
    jobs: &[JobId],
) -> Result<Vec<Standing>> {
    let records = jobs.iter().map(|it| Key::from(job_key(*it)));
    let keys = records.chain(jobs.iter().map(|it| Key::from(stream_key(*it)))).collect();
    let args = vec![Value::from_static_str(redis.layout().as_str())];
    let answers: Vec<(u8, String, String, String)> = CHECK.run(keyspace, keys, args).await?;
    let standing = |(exists, end, last_id, status): (u8, String, String, String)| Standing {
        exists: exists == 1,
        status: Status::from_stored(&status),
        has_end: end == "has_terminal_entry",
        last_id: last_id.parse().unwrap_or(StreamId::ZERO),
    };
    Ok(answers.into_iter().map(standing).collect())
}

/// Reads at most `count` entries of one stream from `from` on.
pub(crate) async fn read_range(
    redis: &Redis,
    job: JobId,
    from: StreamId,
    count: u64,
) -> Result<Vec<Entry>> {
    let keyspace = redis.keyspace(Database::Progress, Partition::for_job(job));
    let read = |client: Client| async move {
        let key = keyspace.key(&stream_key(job));
        client.xrange::<Value, _, _, _>(key, from.to_string(), "+", Some(count)).await
    };
    let answer = keyspace.call_idempotent(read).await?;
    Ok(parse_entries(answer))
}

/// Whether entries after `after` may have been trimmed away.
pub(crate) async fn is_trimmed_past(redis: &Redis, job: JobId, after: StreamId) -> Result<bool> {
    let keyspace = redis.keyspace(Database::Progress, Partition::for_job(job));
    let read = |client: Client| async move {
        client.xinfo_stream::<Value, _>(keyspace.key(&stream_key(job)), false, None).await
    };
    let answer: Result<Value> = keyspace.call_idempotent(read).await;
    let info = match answer {
        Ok(info) => info.into_map().map_err(|error| corrupt(&error))?.inner(),
        // No such stream: nothing in it was trimmed.
        Err(Error::Redis(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let field =
        |name: &str| info.iter().find(|it| it.0.as_str() == Some(name)).map(|it| it.1.clone());
    let first = field("first-entry")
        .map(|it| parse_entries(Value::Array(vec![it])))
        .and_then(|it| it.first().map(|e| e.id));
    let Some(first) = first else { return Ok(false) };
    let n_added = field("entries-added").and_then(|it| it.as_u64());
    let n_kept = field("length").and_then(|it| it.as_u64());
    Ok(after < first && (n_added.is_none() || n_added != n_kept))
}

/// Entries as Redis sends them, `[[id, [name, value, …]], …]`. Text that is not UTF-8 is made so: any
/// program may write to a stream, and none may stop the others from being read.
fn parse_entries(entries: Value) -> Vec<Entry> {
    entries.into_array().into_iter().filter_map(parse_entry).collect()
}

fn parse_entry(entry: Value) -> Option<Entry> {
    let mut parts = entry.into_array().into_iter();
    let id = lossy(&parts.next()?).parse().ok()?;
    let mut flat = parts.next()?.into_array().into_iter();
    let mut fields = Vec::with_capacity(flat.len() / 2);
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        fields.push((lossy(&name), lossy(&value)));
    }
    Some(Entry { id, fields })
}

fn lossy(value: &Value) -> String {
    value
        .as_bytes()
        .map(|it| String::from_utf8_lossy(it).into_owned())
        .or_else(|| value.as_string())
        .unwrap_or_default()
}

fn corrupt(error: &fred::error::Error) -> Error {
    Error::Corrupt { what: "progress stream", reason: error.to_string() }
}
