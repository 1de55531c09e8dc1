//! The names of keys and channels, the seed's byte for byte. Nothing else in the service spells one.

use std::fmt;

use fred::types::Key;

use crate::ids::{FileId, JobId, Sha256Hex};

/// Celery task ids by their last sign of life, in the jobs database.
pub(crate) const ACTIVE_TASKS: &str = "i2m:active";
/// Celery task ids that were not handed to the broker yet, in the jobs database.
pub(crate) const OUTBOX: &str = "i2m:outbox";
/// Jobs that are being cancelled, by when that ends, in the jobs database.
pub(crate) const CANCELLING: &str = "i2m:cancelling";
/// With a Celery task id: which job it works on, in the jobs database.
pub(crate) const TASK_PREFIX: &str = "i2m:task:";
/// Who looks after Celery for all processes, in the jobs database.
pub(crate) const KEEPER: &str = "lock:i2m:celery-keeper";

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

/// The keys of one job, in the order that `migrations-lua/shared/job.lua` expects.
pub(super) fn job_keys(id: JobId) -> Vec<Key> {
    [
        job_key(id),
        format!("job:{id}:status"),
        format!("job:{id}:files"),
        format!("job:{id}:file:"),
        format!("session:{id}"),
        format!("progress:{id}:"),
        stream_key(id),
        format!("cache:status:{id}"),
        format!("job:{id}:states"),
        "user_jobs:".to_owned(),
        format!("job:{id}:tasks"),
        TASK_PREFIX.to_owned(),
        ACTIVE_TASKS.to_owned(),
        OUTBOX.to_owned(),
        CANCELLING.to_owned(),
    ]
    .into_iter()
    .map(Key::from)
    .collect()
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

/// Keyspace events (`K` and `t` of `notify-keyspace-events`) of a job's stream: heard when any program adds
/// to it.
pub(crate) fn stream_changes_channel(job: JobId) -> String {
    format!("__keyspace@2__:{}", stream_key(job))
}
