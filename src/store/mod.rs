//! The service's Redis: its databases, keys, key layout and scripts, on the general layer in `redis`.

pub(crate) mod client;
mod database;
mod handle;
mod key_catalog;
mod keys;
mod keyspace;
mod layout;
mod script;
mod sorted_set;

pub(crate) use self::{
    database::Database,
    handle::Redis,
    key_catalog::{KeyKind, Lifetime},
    keys::{
        ACTIVE_TASKS, API_KEYS, API_KEYS_CHANNEL, CACHE_PREFIX, CANCELLING, CLEANUP_REPORT,
        CacheKey, HEALTH_PROBE, METRIC_NAMES, MIGRATIONS, MIGRATIONS_TTL_SECS, OUTBOX,
        REINDEX_QUEUE, TASK_PREFIX, WEBHOOK_PREFIX, WEBHOOKS, idempotency_key, job_events_channel,
        job_key, job_tasks_key, lock_key, lock_keyspace_channel, lock_metadata_key, lock_partition,
        lock_released_channel, metric_batch_key, metric_keys, progress_channel, rate_limit_key,
        result_key, stream_key, stream_keyspace_channel, tag_keys, ticket_secret_key,
        user_jobs_keys,
    },
    keyspace::Keyspace,
    layout::{KeyLayout, Partition},
    script::{JobRetention, JobScriptContext, Script},
    sorted_set::members_older_than,
};
