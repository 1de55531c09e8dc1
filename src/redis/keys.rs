//! The names of keys and channels, the seed's byte for byte. Nothing else in the service spells one.

use fred::types::Key;

use crate::ids::{FileId, JobId};

/// The keys of one job, in the order that `migrations-lua/shared/job.lua` expects.
pub(super) fn job_keys(id: JobId) -> Vec<Key> {
    [
        format!("job:{id}"),
        format!("job:{id}:status"),
        format!("job:{id}:files"),
        format!("job:{id}:file:"),
        format!("session:{id}"),
        format!("progress:{id}:"),
        stream_key(id),
        format!("cache:status:{id}"),
        format!("job:{id}:states"),
        "user_jobs:".to_owned(),
    ]
    .into_iter()
    .map(Key::from)
    .collect()
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

/// Keyspace events (`K` and `t` of `notify-keyspace-events`) of a job's stream: heard when any program adds
/// to it.
pub(crate) fn stream_changes_channel(job: JobId) -> String {
    format!("__keyspace@2__:{}", stream_key(job))
}
