//! What a job shares with others, in a cluster: there the list of its owner and its `Idempotency-Key` have slots of
//! their own, so no script reaches them together with the job. Each step is made so that whoever dies after it has
//! left nothing that the next does not put right.
//!
//! A job gets its place in the list before it is made: a list passes over a job that is not there, and drops it only
//! when it has not come for a while.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fred::{
    clients::Client,
    interfaces::{
        HashesInterface as _, KeysInterface as _, ListInterface as _, SortedSetsInterface as _,
    },
    types::{Key, Value},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    error::{Error, Result},
    ids::{JobId, Sha256Hex},
    jobs::{
        list::{FIELDS, PageQuery},
        model::parse_time,
    },
    store::{
        Database, JobRetention, Keyspace, Partition, REINDEX_QUEUE, Redis, Script, idempotency_key,
        job_key, user_jobs_keys,
    },
};

static RESERVE_IDEMPOTENCY_KEY: Script =
    Script::new(include_str!("../../../migrations-lua/jobs/idempotency_reserve.lua")).idempotent();
static ADD_TO_OWNER_INDEX: Script =
    Script::new(include_str!("../../../migrations-lua/jobs/owner_index_add.lua")).idempotent();
static REMOVE_FROM_OWNER_INDEX: Script =
    Script::new(include_str!("../../../migrations-lua/jobs/owner_index_remove.lua")).idempotent();
static READ_OWNER_INDEX: Script =
    Script::new(include_str!("../../../migrations-lua/jobs/owner_index_page.lua")).idempotent();

/// A job that was announced comes within this, or never.
const RESERVATION_TIMEOUT: Duration = Duration::from_mins(1);
/// Records that are read at once.
const MAX_CONCURRENCY: usize = 64;

/// Which job a request with an `Idempotency-Key` is about.
pub(in crate::jobs) enum Reservation {
    /// A new one, by this request.
    New(JobId),
    /// One that another attempt is making, or died before it did: who makes it first has made it.
    InProgress(JobId),
    /// One that there is.
    Existing(JobId),
}

/// Says which job the request stands for, `id` if it is the first.
///
/// # Errors
///
/// [`Error::IdempotencyConflict`] if the key came with another request before.
pub(in crate::jobs) async fn reserve_idempotency_key(
    redis: &Redis,
    retention: JobRetention,
    (owner, hash): (&Sha256Hex, &Sha256Hex),
    (id, fingerprint): (JobId, &str),
) -> Result<Reservation> {
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_caller(owner));
    let mut abandoned = String::new();
    loop {
        let names = vec![Key::from(idempotency_key(owner, hash))];
        let args = vec![
            Value::from(fingerprint),
            Value::from(id.to_string()),
            Value::try_from(retention.ttl_secs)?,
            Value::from(abandoned.as_str()),
        ];
        let answer: Vec<String> = RESERVE_IDEMPOTENCY_KEY.run(keyspace, names, args).await?;
        let (Some(present), Some(age_ms)) = (answer.get(1), answer.get(2)) else {
            return Ok(Reservation::New(id));
        };
        let mut words = present.split(' ');
        let is_same = words.next() == Some(fingerprint);
        let made: JobId = words.next().unwrap_or_default().parse()?;
        if made == id {
            // An attempt whose answer was lost.
            return Ok(Reservation::New(id));
        }
        let may_come =
            age_ms.parse().is_ok_and(|it| Duration::from_millis(it) < RESERVATION_TIMEOUT);
        match (exists(redis, made).await?, is_same) {
            (true, true) => return Ok(Reservation::Existing(made)),
            (false, true) if may_come => return Ok(Reservation::InProgress(made)),
            (false, _) if !may_come => abandoned.clone_from(present),
            _ => return Err(Error::IdempotencyConflict),
        }
    }
}

/// The key that a deleted job was made under is free again.
pub(in crate::jobs) async fn release_idempotency_key(
    redis: &Redis,
    owner: &Sha256Hex,
    noted: &str,
) -> Result<()> {
    let Some((_, name)) = redis.layout().parse(noted) else { return Ok(()) };
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_caller(owner));
    keyspace.call_idempotent(|client| async move { client.del(keyspace.key(name)).await }).await
}

async fn exists(redis: &Redis, job: JobId) -> Result<bool> {
    let keyspace = keyspace_for(redis, job);
    keyspace
        .call_idempotent(|client| async move { client.exists(keyspace.key(&job_key(job))).await })
        .await
}

/// Gives a job its place in the list of its owner, by the time of now unless it has one.
pub(in crate::jobs) async fn add_to_owner_index(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    job: JobId,
) -> Result<()> {
    add_all_to_owner_index(redis, retention, owner, &[(job, String::new())]).await
}

/// The same for jobs that were created at these Unix milliseconds.
pub(in crate::jobs) async fn add_all_to_owner_index(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    jobs: &[(JobId, String)],
) -> Result<()> {
    let mut args = vec![Value::try_from(retention.ttl_secs)?];
    for (job, created_ms) in jobs {
        args.extend([Value::from(job.to_string()), Value::from(created_ms.as_str())]);
    }
    let (keyspace, names) = owner_index(redis, owner);
    ADD_TO_OWNER_INDEX.run::<i64>(keyspace, names, args).await.map(|_| ())
}

/// Takes jobs out of the list of their owner.
pub(in crate::jobs) async fn remove_from_owner_index(
    redis: &Redis,
    owner: &Sha256Hex,
    jobs: &[JobId],
) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let args = jobs.iter().map(|it| Value::from(it.to_string())).collect();
    let (keyspace, names) = owner_index(redis, owner);
    REMOVE_FROM_OWNER_INDEX.run::<i64>(keyspace, names, args).await.map(|_| ())
}

/// What stands in a list.
pub(in crate::jobs) struct IndexedJob {
    pub(in crate::jobs) job: JobId,
    /// Its place, as Redis spells the score.
    pub(in crate::jobs) score: String,
    /// The job's record as lists show it, if there is one.
    pub(in crate::jobs) fields: Option<Fields>,
}

/// The fields of [`FIELDS`], and the JSON of the first file.
type Fields = Vec<Option<String>>;

/// Reads some of `owner`'s jobs, newest first. What has gone is taken out of the list.
pub(in crate::jobs) async fn read_index_page(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    wanted: &PageQuery<'_>,
) -> Result<Vec<IndexedJob>> {
    let (keyspace, names) = owner_index(redis, owner);
    let args = vec![
        Value::from(wanted.n.to_string()),
        Value::from(wanted.score),
        Value::from(wanted.after),
        Value::from(wanted.oldest),
    ];
    let (_, now_ms, flat, unsorted): (String, String, Vec<String>, Vec<String>) =
        READ_OWNER_INDEX.run(keyspace, names, args).await?;
    if !unsorted.is_empty() {
        index_foreign_jobs(redis, retention, owner, &unsorted).await?;
    }
    let listed = flat.chunks_exact(2).filter_map(|it| Some((it[0].parse().ok()?, it[1].clone())));
    let reads = listed.map(|(job, score): (JobId, String)| async move {
        let fields = record(redis, job).await?;
        Ok::<_, Error>(IndexedJob { job, score, fields })
    });
    let reads: Vec<_> = reads.collect();
    let jobs: Vec<_> = stream::iter(reads).buffered(MAX_CONCURRENCY).try_collect().await?;
    let now_ms: u64 = now_ms.parse().unwrap_or(0);
    let is_late = |score: &str| {
        let age = now_ms.saturating_sub(score.parse().unwrap_or(0));
        Duration::from_millis(age) > RESERVATION_TIMEOUT
    };
    let gone = jobs.iter().filter(|it| it.fields.is_none() && is_late(&it.score));
    let gone: Vec<JobId> = gone.map(|it| it.job).collect();
    remove_from_owner_index(redis, owner, &gone).await?;
    Ok(jobs)
}

async fn record(redis: &Redis, job: JobId) -> Result<Option<Fields>> {
    let keyspace = keyspace_for(redis, job);
    let read = |client: Client| async move {
        let both = client.pipeline();
        both.hmget::<(), _, _>(keyspace.key(&job_key(job)), FIELDS.to_vec()).await?;
        both.lindex::<(), _>(keyspace.key(&format!("{}:files", job_key(job))), 0).await?;
        both.all::<(Vec<Option<String>>, Option<String>)>().await
    };
    let (mut fields, first_file) = keyspace.call_idempotent(read).await?;
    // Without total_files it is no job: the seed's update_job_status makes such a ghost out of an expired one.
    if fields.get(2).is_none_or(Option::is_none) {
        return Ok(None);
    }
    fields[0] = Some(job.to_string());
    fields.push(first_file);
    Ok(Some(fields))
}

/// Jobs that other programs added stand in the set only; those that exist get their place by time.
async fn index_foreign_jobs(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    unsorted: &[String],
) -> Result<()> {
    let (mut known, mut gone) = (Vec::new(), Vec::new());
    for job in unsorted.iter().filter_map(|it| it.parse::<JobId>().ok()) {
        let fields = record(redis, job).await?;
        let created = fields.as_ref().and_then(|it| it.get(6)?.as_deref()).and_then(parse_ms);
        match created {
            Some(ms) => known.push((job, ms.to_string())),
            None => gone.push(job),
        }
    }
    if !known.is_empty() {
        add_all_to_owner_index(redis, retention, owner, &known).await?;
    }
    remove_from_owner_index(redis, owner, &gone).await
}

fn parse_ms(created_at: &str) -> Option<i64> {
    parse_time(created_at).map(|it: DateTime<Utc>| it.timestamp_millis())
}

fn owner_index<'a>(redis: &'a Redis, owner: &Sha256Hex) -> (Keyspace<'a>, Vec<Key>) {
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_caller(owner));
    (keyspace, user_jobs_keys(owner).map(Key::from).to_vec())
}

fn keyspace_for(redis: &Redis, job: JobId) -> Keyspace<'_> {
    redis.keyspace(Database::Jobs, Partition::for_job(job))
}

/// Jobs of a place whose lists have to be renewed, at most `n`.
pub(in crate::jobs) async fn jobs_to_reindex(keyspace: Keyspace<'_>, n: i64) -> Result<Vec<JobId>> {
    let oldest = |client: Client| async move {
        let (key, last) = (keyspace.key(REINDEX_QUEUE), n - 1);
        client.zrange::<Vec<String>, _, _, _>(key, 0, last, None, false, None, false).await
    };
    Ok(keyspace.call_idempotent(oldest).await?.iter().filter_map(|it| it.parse().ok()).collect())
}

/// Renews the list that `job` stands in, and takes its mark away.
pub(in crate::jobs) async fn refresh_owner_index(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<()> {
    let keyspace = keyspace_for(redis, job);
    let read = |client: Client| async move {
        let fields = vec!["api_key_hash", "created_at"];
        client.hmget::<Vec<Option<String>>, _, _>(keyspace.key(&job_key(job)), fields).await
    };
    if let [Some(owner), Some(created_at)] = keyspace.call_idempotent(read).await?.as_slice()
        && let (Ok(owner), Some(ms)) = (Sha256Hex::try_from(owner.clone()), parse_ms(created_at))
    {
        add_all_to_owner_index(redis, retention, &owner, &[(job, ms.to_string())]).await?;
    }
    let done = |client: Client| async move {
        client.zrem::<(), _, _>(keyspace.key(REINDEX_QUEUE), job.to_string()).await
    };
    keyspace.call_idempotent(done).await
}
