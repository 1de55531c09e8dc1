//! The names of keys and channels, the seed's byte for byte. Nothing else in the service spells one.

use std::{fmt, sync::Arc};

use bytes::BytesMut;
use fred::types::Key;

use super::{Layout, Partition};
use crate::ids::{FileId, JobId, MetricName, ModelId, Resource, Sha256Hex, Tag};

/// Celery task ids by their last sign of life, in the jobs database.
pub(crate) const ACTIVE_TASKS: &str = "i2m:active";
/// Celery task ids that were not handed to the broker yet, in the jobs database.
pub(crate) const OUTBOX: &str = "i2m:outbox";
/// Jobs that are being cancelled, by when that ends, in the jobs database.
pub(crate) const CANCELLING: &str = "i2m:cancelling";
/// In a cluster: jobs whose place in their owner's list has to be renewed, by when that was found.
pub(crate) const LISTING: &str = "i2m:listing";
/// Webhooks that wait, `job_id:attempt` by when they are due, in the jobs database.
pub(crate) const WEBHOOKS: &str = "i2m:webhooks";
/// With `job_id:attempt`: a webhook, in the jobs database.
pub(crate) const WEBHOOK_PREFIX: &str = "i2m:webhook:";
/// With a Celery task id: which job it works on, in the jobs database.
pub(crate) const TASK_PREFIX: &str = "i2m:task:";

/// What the keys of all cached values begin with, in the cache database.
pub(crate) const CACHED: &str = "cache:";
/// The prefixes that `migrations-lua/shared/cache.lua` takes, in its order: records, leases, TAG_PREFIX and
/// TAG_INDEX_PREFIX; in the cache database.
pub(super) const CACHE_PREFIXES: [&str; 4] = ["i2m:cache:", "i2m:claim:", "tag:", "i2m:tag:"];

/// The seed's key of a cached value, in the cache database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey(Arc<str>);

impl CacheKey {
    pub(crate) fn of_model(model: &ModelId) -> Self {
        Self(Arc::from(format!("{CACHED}model:{model}")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Where it is said that nobody computes the value any more.
    pub(crate) fn ready_channel(&self) -> String {
        format!("{}:ready", self.0)
    }

    pub(crate) fn partition(&self) -> Partition {
        Partition::of_name(&self.0)
    }
}

/// The keys of values that have a tag: the seed's set, and beside it the same by when they are gone.
pub(crate) fn tag_keys(tag: &Tag) -> [String; 2] {
    [format!("tag:{tag}"), format!("i2m:tag:{tag}")]
}

/// Written in every database to see whether it can be.
pub(crate) const HEALTH_PROBE: &str = "i2m:health";
/// Keys of the shared metrics by their last change, in the cache database.
pub(crate) const METRIC_NAMES: &str = "i2m:metrics:names";

/// The last batch of metrics that was applied of a writer, in the cache database.
pub(crate) fn metric_batch_key(writer: uuid::Uuid) -> String {
    format!("i2m:metrics:batch:{writer}")
}

/// The seed's counter and gauge of a name, in the cache database.
pub(crate) fn metric_keys(name: &MetricName) -> [String; 2] {
    [format!("metric:{name}:count"), format!("metric:{name}:value")]
}

/// The last cleanup's report, in the jobs database.
pub(crate) const CLEANUP_REPORT: &str = "i2m:cleanup";
/// Which changes of stored data were made, in the jobs database.
pub(crate) const SCHEMA: &str = "i2m:schema";
/// Renewed by every start and every cleanup; it must outlive the data that it is about.
pub(crate) const SCHEMA_TTL_SECS: u64 = 366 * 24 * 3600;
/// API keys, the version of that list, and when each was last used, in the jobs database; in one slot of a cluster.
pub(crate) const API_KEYS: [&str; 3] = ["i2m:{keys}", "i2m:{keys}:version", "i2m:{keys}:used"];
/// Tells every process that API keys have changed.
pub(crate) const API_KEYS_CHANNEL: &str = "i2m:keys";

/// A job's Celery tasks, in the jobs database.
pub(crate) fn job_tasks_key(job: JobId) -> String {
    format!("job:{job}:tasks")
}

/// An owner's job ids, and beside them the same sorted by creation, in the jobs database.
pub(crate) fn user_jobs_keys(owner: &Sha256Hex) -> [String; 2] {
    let set = format!("user_jobs:{}", owner.as_str());
    [set.clone(), set + ":by_time"]
}

/// What an `Idempotency-Key` of `owner` was used for, in the jobs database.
pub(crate) fn idempotency_key(owner: &Sha256Hex, hash: &Sha256Hex) -> String {
    format!("i2m:idempotency:{}:{}", owner.as_str(), hash.as_str())
}

/// How many of [`job_keys`] there are, and how many of them those scripts take that only read.
pub(super) const N_JOB_KEYS: usize = 18;
pub(super) const N_JOB_KEYS_TO_READ: usize = 8;

/// The first `n` keys of one job, in the order that `migrations-lua/shared/job.lua` and then `shared/lifecycle.lua`
/// expect. All stand in one piece of memory.
pub(super) fn job_keys(id: JobId, n: usize) -> Vec<Key> {
    /// What stands before and after the id; of a key of all jobs, only what it is.
    const PARTS: [(&str, Option<&str>); N_JOB_KEYS] = [
        ("job:", Some("")),
        ("job:", Some(":files")),
        ("job:", Some(":file:")),
        ("session:", Some("")),
        ("progress:", Some(":")),
        ("stream:progress:", Some("")),
        ("job:", Some(":states")),
        ("cache:status:", Some("")),
        ("job:", Some(":status")),
        ("user_jobs:", None),
        ("job:", Some(":tasks")),
        (TASK_PREFIX, None),
        (ACTIVE_TASKS, None),
        (OUTBOX, None),
        (CANCELLING, None),
        (WEBHOOKS, None),
        (WEBHOOK_PREFIX, None),
        (LISTING, None),
    ];
    const BYTES: usize = 10 * 56;
    let mut id_text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id_text = id.as_uuid().hyphenated().encode_lower(&mut id_text).as_bytes();
    let mut memory = BytesMut::with_capacity(BYTES);
    let key = |(before, after): &(&'static str, Option<&'static str>)| {
        let Some(after) = after else { return Key::from_static_str(before) };
        memory.extend_from_slice(before.as_bytes());
        memory.extend_from_slice(id_text);
        memory.extend_from_slice(after.as_bytes());
        Key::from(memory.split().freeze())
    };
    PARTS.iter().take(n).map(key).collect()
}

/// A job's record, in the jobs database.
pub(crate) fn job_key(id: JobId) -> String {
    format!("job:{id}")
}

/// The stream of a job's progress, in the progress database.
pub(crate) fn stream_key(job: JobId) -> String {
    format!("stream:progress:{job}")
}

/// The result of a file, in the jobs database.
pub(crate) fn result_key(job: JobId, file: FileId) -> String {
    format!("job:{job}:file:{file}")
}

/// The seed's channel for a job's events.
pub(crate) fn job_events_channel(job: JobId) -> String {
    format!("job:{job}:events")
}

/// The seed's channel for progress of a job's files.
pub(crate) fn progress_channel(job: JobId) -> String {
    format!("progress:{job}")
}

/// The secret that signs stream tickets when none is configured, in the jobs database.
pub(crate) fn ticket_secret_key() -> &'static str {
    "i2m:ticket_secret"
}

/// How far a process's writes have come to the replicas, in the jobs database.
pub(super) fn beat_key(process: uuid::Uuid) -> String {
    format!("i2m:beat:{process}")
}

/// What a policy counts of a caller, in the rate limits database; the seed's for `key:{api_key_hash}` and `ip:{ip}`.
pub(crate) fn rate_limit_key(of: fmt::Arguments<'_>) -> String {
    format!("rl:{of}")
}

/// The seed's key of a lock, in the jobs database.
pub(crate) fn lock_key(resource: &Resource) -> String {
    format!("lock:{resource}")
}

/// Where a lock stands in a cluster; those of the service itself stand beside what they guard.
pub(crate) fn lock_partition(resource: &Resource) -> Partition {
    let key = lock_key(resource);
    if key.starts_with("lock:i2m:") { Partition::SHARED } else { Partition::of_name(&key) }
}

/// Who of this service's callers took a lock last, and its fence, in the jobs database.
pub(crate) fn lock_record_key(resource: &Resource) -> String {
    format!("i2m:lock:{resource}")
}

/// Where the service says that it released a lock.
pub(crate) fn lock_released_channel(resource: &Resource) -> String {
    format!("lock:{resource}:released")
}

/// Keyspace events (`K` with `g` and `x` of `notify-keyspace-events`) of a lock: heard when any program releases it.
/// In a cluster each server has its own, and they are not listened to.
pub(crate) fn lock_changes_channel(layout: &Layout, resource: &Resource) -> Option<String> {
    layout.is_numbered().then(|| format!("__keyspace@1__:{}", lock_key(resource)))
}

/// Keyspace events (`K` and `t` of `notify-keyspace-events`) of a job's stream: heard when any program adds
/// to it. In a cluster as those of locks.
pub(crate) fn stream_changes_channel(layout: &Layout, job: JobId) -> Option<String> {
    layout.is_numbered().then(|| format!("__keyspace@2__:{}", stream_key(job)))
}
