//! Owner indexes and `Idempotency-Key`s in a cluster, where they have other slots than the job, so that one script
//! cannot access them together. After a crash between two steps, a later call repairs the state
//! (`docs/adr/0012-cluster-partitions.md`).
//!
//! A job is added to the index of its owner before it is created: pages skip a job that does not exist, and remove it
//! from the index only after [`RESERVATION_TIMEOUT`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::unknown_outcome;
use crate::{
    error::{Error, Result},
    ids::{JobId, Sha256Hex},
    jobs::{
        list::{FIELDS, PageQuery},
        model::parse_time,
    },
    store::{
        Database, JobRetention, Keyspace, Partition, REINDEX_QUEUE, Redis, Script,
        client::{
            Client, HashesInterface as _, Key, KeysInterface as _, ListInterface as _,
            SortedSetsInterface as _, Value,
        },
        idempotency_key, job_key, user_jobs_keys,
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

/// A reserved job that does not exist after this time is abandoned.
const RESERVATION_TIMEOUT: Duration = Duration::from_mins(1);
/// Number of records that are read concurrently.
const MAX_CONCURRENCY: usize = 64;

/// The job that a request to create a job stands for.
pub(in crate::jobs) enum Reservation {
    /// A new job of this request.
    New(JobId),
    /// The job of an identical request that is still running, or that crashed. Both requests create the same job, and
    /// the first one wins.
    InProgress(JobId),
    /// A job that exists.
    Existing(JobId),
}

/// Reserves an `Idempotency-Key`, given by its owner and its hash, for the job `id` of a request, unless it is reserved
/// for another job.
///
/// # Errors
///
/// [`Error::IdempotencyConflict`] if the key was used for a different request.
pub(in crate::jobs) async fn reserve_idempotency_key(
    redis: &Redis,
    retention: JobRetention,
    (owner, key_hash): (&Sha256Hex, &Sha256Hex),
    (id, request_hash): (JobId, &str),
) -> Result<Reservation> {
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_caller(owner));
    let mut abandoned = String::new();
    loop {
        let names = vec![Key::from(idempotency_key(owner, key_hash))];
        let args = vec![
            Value::from(request_hash),
            Value::from(id.to_string()),
            Value::try_from(retention.ttl_secs)?,
            Value::from(abandoned.as_str()),
        ];
        let reply: Vec<String> = RESERVE_IDEMPOTENCY_KEY.run(keyspace, names, args).await?;
        let (current, age_ms) = match reply.as_slice() {
            [outcome] if outcome == "reserved" => return Ok(Reservation::New(id)),
            [outcome, current, age_ms] if outcome == "taken" => (current, age_ms),
            other => {
                return Err(unknown_outcome("jobs/idempotency_reserve reply", &other.join(" ")));
            }
        };
        let mut words = current.split(' ');
        let is_same_request = words.next() == Some(request_hash);
        let reserved: JobId = words.next().unwrap_or_default().parse()?;
        if reserved == id {
            // A call of this request reserved the key, and its reply was lost.
            return Ok(Reservation::New(id));
        }
        let is_pending =
            age_ms.parse().is_ok_and(|age| Duration::from_millis(age) < RESERVATION_TIMEOUT);
        match (exists(redis, reserved).await?, is_same_request) {
            (true, true) => return Ok(Reservation::Existing(reserved)),
            (false, true) if is_pending => return Ok(Reservation::InProgress(reserved)),
            (false, _) if !is_pending => abandoned.clone_from(current),
            _ => return Err(Error::IdempotencyConflict),
        }
    }
}

/// Deletes the reservation of a deleted job. `stored_key` is the Redis key that the record of the job contained.
pub(in crate::jobs) async fn release_idempotency_key(
    redis: &Redis,
    owner: &Sha256Hex,
    stored_key: &str,
) -> Result<()> {
    let Some((_, name)) = redis.layout().parse(stored_key) else { return Ok(()) };
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_caller(owner));
    keyspace.call_idempotent(|client| async move { client.del(keyspace.key(name)).await }).await
}

async fn exists(redis: &Redis, job: JobId) -> Result<bool> {
    let keyspace = keyspace_for(redis, job);
    keyspace
        .call_idempotent(|client| async move { client.exists(keyspace.key(&job_key(job))).await })
        .await
}

/// Adds a job to the index of its owner with the current time, unless the index has it already.
pub(in crate::jobs) async fn add_to_owner_index(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    job: JobId,
) -> Result<()> {
    add_all_to_owner_index(redis, retention, owner, &[(job, String::new())]).await
}

/// Adds jobs with their creation times in Unix milliseconds. An empty string means the current time.
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

/// Removes jobs from the index of their owner.
pub(in crate::jobs) async fn remove_from_owner_index(
    redis: &Redis,
    owner: &Sha256Hex,
    jobs: &[JobId],
) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let args = jobs.iter().map(|job| Value::from(job.to_string())).collect();
    let (keyspace, names) = owner_index(redis, owner);
    REMOVE_FROM_OWNER_INDEX.run::<i64>(keyspace, names, args).await.map(|_| ())
}

/// An entry of an owner index.
pub(in crate::jobs) struct IndexedJob {
    pub(in crate::jobs) job: JobId,
    /// The score, in the format of Redis.
    pub(in crate::jobs) score: String,
    /// `None` if the job does not exist.
    pub(in crate::jobs) fields: Option<Fields>,
}

/// The values of [`FIELDS`], followed by the JSON of the first file.
type Fields = Vec<Option<String>>;

/// Reads a page of `owner`'s jobs, newest first, and removes deleted jobs from the index.
pub(in crate::jobs) async fn read_index_page(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    query: &PageQuery<'_>,
) -> Result<Vec<IndexedJob>> {
    let (keyspace, names) = owner_index(redis, owner);
    let args = vec![
        Value::from(query.limit.to_string()),
        Value::from(query.score),
        Value::from(query.after),
        Value::from(query.oldest),
    ];
    let (_, now_ms, scored_ids, unsorted): (String, String, Vec<String>, Vec<String>) =
        READ_OWNER_INDEX.run(keyspace, names, args).await?;
    if !unsorted.is_empty() {
        index_foreign_jobs(redis, retention, owner, &unsorted).await?;
    }
    let (pairs, _) = scored_ids.as_chunks::<2>();
    let indexed = pairs.iter().filter_map(|[id, score]| Some((id.parse().ok()?, score.clone())));
    let reads = indexed.map(|(job, score): (JobId, String)| async move {
        let fields = read_fields(redis, job).await?;
        Ok::<_, Error>(IndexedJob { job, score, fields })
    });
    let reads: Vec<_> = reads.collect();
    let jobs: Vec<_> = stream::iter(reads).buffered(MAX_CONCURRENCY).try_collect().await?;
    let now_ms: u64 = now_ms.parse().unwrap_or(0);
    let is_abandoned = |score: &str| {
        let age = now_ms.saturating_sub(score.parse().unwrap_or(0));
        Duration::from_millis(age) > RESERVATION_TIMEOUT
    };
    let deleted = jobs.iter().filter(|entry| entry.fields.is_none() && is_abandoned(&entry.score));
    let deleted: Vec<JobId> = deleted.map(|entry| entry.job).collect();
    remove_from_owner_index(redis, owner, &deleted).await?;
    Ok(jobs)
}

async fn read_fields(redis: &Redis, job: JobId) -> Result<Option<Fields>> {
    let keyspace = keyspace_for(redis, job);
    let read = |client: Client| async move {
        let pipeline = client.pipeline();
        pipeline.hmget::<(), _, _>(keyspace.key(&job_key(job)), FIELDS.to_vec()).await?;
        pipeline.lindex::<(), _>(keyspace.key(&format!("{}:files", job_key(job))), 0).await?;
        pipeline.all::<(Vec<Option<String>>, Option<String>)>().await
    };
    let (mut fields, first_file) = keyspace.call_idempotent(read).await?;
    // A hash without total_files is not a job: the seed's update_job_status creates such a hash for an expired job.
    if fields.get(2).is_none_or(Option::is_none) {
        return Ok(None);
    }
    fields[0] = Some(job.to_string());
    fields.push(first_file);
    Ok(Some(fields))
}

/// Completes the index for jobs that other programs added only to the set: adds existing jobs to the sorted set, and
/// removes the others from the set.
async fn index_foreign_jobs(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    unsorted: &[String],
) -> Result<()> {
    let (mut existing, mut deleted) = (Vec::new(), Vec::new());
    for job in unsorted.iter().filter_map(|id| id.parse::<JobId>().ok()) {
        let fields = read_fields(redis, job).await?;
        let created_at = fields.as_ref().and_then(|fields| fields.get(6)?.as_deref());
        match created_at.and_then(parse_ms) {
            Some(ms) => existing.push((job, ms.to_string())),
            None => deleted.push(job),
        }
    }
    if !existing.is_empty() {
        add_all_to_owner_index(redis, retention, owner, &existing).await?;
    }
    remove_from_owner_index(redis, owner, &deleted).await
}

fn parse_ms(created_at: &str) -> Option<i64> {
    parse_time(created_at).map(|time: DateTime<Utc>| time.timestamp_millis())
}

fn owner_index<'a>(redis: &'a Redis, owner: &Sha256Hex) -> (Keyspace<'a>, Vec<Key>) {
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_caller(owner));
    (keyspace, user_jobs_keys(owner).map(Key::from).to_vec())
}

fn keyspace_for(redis: &Redis, job: JobId) -> Keyspace<'_> {
    redis.keyspace(Database::Jobs, Partition::for_job(job))
}

/// Jobs of a partition whose owner index has to be refreshed, at most `limit`.
pub(in crate::jobs) async fn jobs_to_reindex(
    keyspace: Keyspace<'_>,
    limit: i64,
) -> Result<Vec<JobId>> {
    let oldest = |client: Client| async move {
        let (key, last) = (keyspace.key(REINDEX_QUEUE), limit - 1);
        client.zrange::<Vec<String>, _, _, _>(key, 0, last, None, false, None, false).await
    };
    let ids = keyspace.call_idempotent(oldest).await?;
    Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
}

/// Refreshes the TTL of the index that contains `job`, and removes the job from the queue.
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
    let remove = |client: Client| async move {
        client.zrem::<(), _, _>(keyspace.key(REINDEX_QUEUE), job.to_string()).await
    };
    keyspace.call_idempotent(remove).await
}
