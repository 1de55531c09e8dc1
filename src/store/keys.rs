//! The names of keys and channels. Those of the seed are the same byte for byte.

use std::{fmt, sync::Arc};

use bytes::BytesMut;
use fred::types::Key;

use super::layout::{KeyLayout, Partition};
use crate::ids::{FileId, JobId, LockName, MetricName, ModelId, Sha256Hex, Tag};

/// Celery task ids by their last heartbeat, in the jobs database.
pub(crate) const ACTIVE_TASKS: &str = "i2m:active";
/// Celery task ids that were not sent to the broker yet, in the jobs database.
pub(crate) const OUTBOX: &str = "i2m:outbox";
/// Jobs that are being cancelled, by the deadline of the cancellation, in the jobs database.
pub(crate) const CANCELLING: &str = "i2m:cancelling";
/// In a cluster: jobs whose entry in their owner's index must be refreshed, by when that was noticed.
pub(crate) const REINDEX_QUEUE: &str = "i2m:reindex";
/// Pending webhooks: `job_id:attempt` by their time of delivery, in the jobs database.
pub(crate) const WEBHOOKS: &str = "i2m:webhooks";
/// Followed by `job_id:attempt`: a webhook, in the jobs database.
pub(crate) const WEBHOOK_PREFIX: &str = "i2m:webhook:";
/// Followed by a Celery task id: the job of the task, in the jobs database.
pub(crate) const TASK_PREFIX: &str = "i2m:task:";

/// The prefix of all cached values, in the cache database.
pub(crate) const CACHE_PREFIX: &str = "cache:";
/// The prefixes that `migrations-lua/shared/cache.lua` takes, in its order: records, leases, `TAG_PREFIX` and
/// `TAG_INDEX_PREFIX`; in the cache database.
pub(super) const CACHE_PREFIXES: [&str; 4] = ["i2m:cache:", "i2m:claim:", "tag:", "i2m:tag:"];

/// The seed's key of a cached value, in the cache database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey(Arc<str>);

impl CacheKey {
    pub(crate) fn for_model(model: &ModelId) -> Self {
        Self(Arc::from(format!("{CACHE_PREFIX}model:{model}")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The channel that announces the end of a computation of the value.
    pub(crate) fn ready_channel(&self) -> String {
        format!("{}:ready", self.0)
    }

    pub(crate) fn partition(&self) -> Partition {
        Partition::for_name(&self.0)
    }
}

/// The keys of values with a tag: the seed's set, and the same members sorted by expiry.
pub(crate) fn tag_keys(tag: &Tag) -> [String; 2] {
    [format!("tag:{tag}"), format!("i2m:tag:{tag}")]
}

/// Written in every database to check that writes succeed.
pub(crate) const HEALTH_PROBE: &str = "i2m:health";
/// The keys of shared metrics by their last change, in the cache database.
pub(crate) const METRIC_NAMES: &str = "i2m:metrics:names";

/// The last applied batch of metrics of a writer, in the cache database.
pub(crate) fn metric_batch_key(writer: uuid::Uuid) -> String {
    format!("i2m:metrics:batch:{writer}")
}

/// The seed's counter and gauge with a name, in the cache database.
pub(crate) fn metric_keys(name: &MetricName) -> [String; 2] {
    [format!("metric:{name}:count"), format!("metric:{name}:value")]
}

/// The report of the last cleanup, in the jobs database.
pub(crate) const CLEANUP_REPORT: &str = "i2m:cleanup";
/// The applied migrations, in the jobs database.
pub(crate) const MIGRATIONS: &str = "i2m:schema";
/// Renewed by every start and every cleanup; it must outlive the migrated data.
pub(crate) const MIGRATIONS_TTL_SECS: u64 = 366 * 24 * 3600;
/// API keys, the version of that list, and when each key was last used, in the jobs database. They share a slot of a cluster.
pub(crate) const API_KEYS: [&str; 3] = ["i2m:{keys}", "i2m:{keys}:version", "i2m:{keys}:used"];
/// The channel that announces changes of API keys.
pub(crate) const API_KEYS_CHANNEL: &str = "i2m:keys";

/// A job's Celery tasks, in the jobs database.
pub(crate) fn job_tasks_key(job: JobId) -> String {
    format!("job:{job}:tasks")
}

/// An owner's job ids as a set and sorted by creation, in the jobs database.
pub(crate) fn user_jobs_keys(owner: &Sha256Hex) -> [String; 2] {
    let set = format!("user_jobs:{}", owner.as_str());
    [set.clone(), set + ":by_time"]
}

/// The job of an `Idempotency-Key` of `owner`, in the jobs database.
pub(crate) fn idempotency_key(owner: &Sha256Hex, hash: &Sha256Hex) -> String {
    format!("i2m:idempotency:{}:{}", owner.as_str(), hash.as_str())
}

/// The number of [`job_keys`] for scripts that write.
pub(super) const JOB_KEY_COUNT: usize = 18;
/// The number of [`job_keys`] for scripts that only read.
pub(super) const JOB_READ_KEY_COUNT: usize = 8;

/// The first `count` keys of one job, in the order that `migrations-lua/shared/job.lua` and then `shared/lifecycle.lua`
/// expect. All share one allocation.
pub(super) fn job_keys(id: JobId, count: usize) -> Vec<Key> {
    /// The text before and after the id; a key of all jobs has no second text.
    const PARTS: [(&str, Option<&str>); JOB_KEY_COUNT] = [
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
        (REINDEX_QUEUE, None),
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
    PARTS.iter().take(count).map(key).collect()
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

/// The number with which a process measures the staleness of replicas, in the jobs database.
pub(super) fn replication_probe_key(process: uuid::Uuid) -> String {
    format!("i2m:replication-probe:{process}")
}

/// A policy's counter for a caller, in the rate limits database; the seed's for `key:{api_key_hash}` and `ip:{ip}`.
pub(crate) fn rate_limit_key(subject: fmt::Arguments<'_>) -> String {
    format!("rl:{subject}")
}

/// The seed's key of a lock, in the jobs database.
pub(crate) fn lock_key(resource: &LockName) -> String {
    format!("lock:{resource}")
}

/// The partition of a lock in a cluster; the locks of the service itself share the partition of the keys they guard.
pub(crate) fn lock_partition(resource: &LockName) -> Partition {
    let key = lock_key(resource);
    if key.starts_with("lock:i2m:") { Partition::SHARED } else { Partition::for_name(&key) }
}

/// The last holder of a lock among this service's callers, and its fence, in the jobs database.
pub(crate) fn lock_metadata_key(resource: &LockName) -> String {
    format!("i2m:lock:{resource}")
}

/// The channel that announces the release of a lock by this service.
pub(crate) fn lock_released_channel(resource: &LockName) -> String {
    format!("lock:{resource}:released")
}

/// The channel of keyspace events (`K` with `g` and `x` of `notify-keyspace-events`) of a lock, which any program's
/// release causes. `None` in a cluster, where each server publishes only its own events.
pub(crate) fn lock_keyspace_channel(layout: &KeyLayout, resource: &LockName) -> Option<String> {
    layout.is_multi_database().then(|| format!("__keyspace@1__:{}", lock_key(resource)))
}

/// The channel of keyspace events (`K` and `t` of `notify-keyspace-events`) of a job's stream, which any program's new
/// entry causes. `None` in a cluster, as for locks.
pub(crate) fn stream_keyspace_channel(layout: &KeyLayout, job: JobId) -> Option<String> {
    layout.is_multi_database().then(|| format!("__keyspace@2__:{}", stream_key(job)))
}
