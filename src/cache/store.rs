//! Cached values in Redis: one function, one round trip. `migrations-lua/shared/cache.lua` documents the keys.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::CachePolicy;
use crate::{
    error::{Error, Result},
    ids::Tag,
    store::{
        CACHE_PREFIX, CacheKey, Database, Keyspace, Partition, Redis, Script,
        client::{Client, ClientLike as _, ClusterHash, CustomCommand, Key, Value},
        tag_keys,
    },
};

static GET_OR_LEASE: Script =
    Script::cache(include_str!("../../migrations-lua/cache/get_or_lease.lua")).idempotent();
static PUT: Script = Script::cache(include_str!("../../migrations-lua/cache/put.lua")).idempotent();
static RELEASE_LEASE: Script =
    Script::cache(include_str!("../../migrations-lua/cache/release_lease.lua")).idempotent();
static DELETE: Script =
    Script::cache(include_str!("../../migrations-lua/cache/delete.lua")).idempotent();
static DELETE_IF_EQUAL: Script =
    Script::cache(include_str!("../../migrations-lua/cache/delete_if_equal.lua")).idempotent();
static INVALIDATE_TAG: Script =
    Script::cache(include_str!("../../migrations-lua/cache/invalidate_tag.lua")).idempotent();

/// The maximum time for which hits can keep a value fresh.
const MAX_SLIDE: Duration = Duration::from_hours(24);

/// The reply of `open.lua`.
#[derive(Debug)]
pub(super) enum OpenReply {
    Value {
        json: Bytes,
        is_stale: bool,
        fresh_for: Duration,
        /// The value is due for a refresh, and the caller has the lease.
        is_leased: bool,
    },
    /// The value is not JSON text.
    Unreadable(Bytes),
    /// It is cached that there is no value.
    Negative,
    /// The value is missing, and the caller has the lease.
    Leased,
    /// The value is missing, and another caller has the lease.
    InProgress { leaseholder: Option<Uuid>, expires_in: Duration },
    /// The value is missing, and no lease was requested.
    Missing,
}

/// The right to compute a value that is missing or due for a refresh. One caller at a time has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ComputeLease {
    pub(super) token: Uuid,
    pub(super) ttl: Duration,
    /// A value is due for a refresh this many times its cost before it becomes stale.
    pub(super) early_factor: f64,
}

/// Looks up a value and requests `lease`, if one is given.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn open(
    redis: &Redis,
    key: &CacheKey,
    lease: Option<ComputeLease>,
) -> Result<OpenReply> {
    let token = lease.map(|lease| lease.token.to_string()).unwrap_or_default();
    let ttl = lease.map_or(Duration::ZERO, |lease| lease.ttl);
    let early_factor = lease.map_or(0.0, |lease| lease.early_factor);
    let args = vec![token.into(), millis(ttl), early_factor.to_string().into(), millis(MAX_SLIDE)];
    // Another program may have stored bytes that are not text.
    let (outcome, value, ms, is_leased): (String, Value, i64, i64) =
        GET_OR_LEASE.run_for_cache(keyspace(redis, key), keys(key), args).await?;
    let duration = Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    let found = |value: Value, is_stale| {
        let json = value.into_bytes().unwrap_or_default();
        if is_json(&json) {
            OpenReply::Value { json, is_stale, fresh_for: duration, is_leased: is_leased == 1 }
        } else {
            OpenReply::Unreadable(json)
        }
    };
    Ok(match outcome.as_str() {
        "hit" => found(value, false),
        "stale" => found(value, true),
        "negative" => OpenReply::Negative,
        "compute" => OpenReply::Leased,
        "wait" => {
            let leaseholder = value.as_str().and_then(|token| Uuid::try_parse(&token).ok());
            OpenReply::InProgress { leaseholder, expires_in: duration }
        }
        "miss" => OpenReply::Missing,
        other => return Err(unknown_outcome("cache/get_or_lease reply", other)),
    })
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// A value to store.
#[derive(Debug)]
pub(super) struct NewValue {
    /// JSON text; `None` caches that there is no value.
    pub(super) json: Option<Bytes>,
    /// The token of the lease under which the value was computed. Without it, the value is stored in any case.
    pub(super) lease: Option<Uuid>,
    /// The time that the computation took.
    pub(super) cost: Duration,
}

/// Stores a value. Returns when it becomes stale and when it expires, or `None` if its lease is no longer valid.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn put(
    redis: &Redis,
    key: &CacheKey,
    value: NewValue,
    terms: &CachePolicy,
) -> Result<Option<[DateTime<Utc>; 2]>> {
    let slide = if terms.slides { terms.ttl } else { Duration::ZERO };
    let mut args = vec![
        Value::from(value.lease.map(|token| token.to_string()).unwrap_or_default()),
        Value::from_static_str(if value.json.is_some() { "value" } else { "negative" }),
        Value::Bytes(value.json.unwrap_or_default()),
        millis(terms.ttl),
        millis(terms.ttl + terms.stale_for),
        millis(value.cost),
        millis(slide),
    ];
    args.extend(terms.tags.iter().map(|tag| Value::from(tag.to_string())));
    let reply: Value = PUT.run_for_cache(keyspace(redis, key), keys(key), args).await?;
    let mut parts = reply.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    match next().as_str().as_deref().unwrap_or_default() {
        "stored" => Ok(Some([from_unix_ms(&next())?, from_unix_ms(&next())?])),
        "superseded" => Ok(None),
        other => Err(unknown_outcome("cache/put reply", other)),
    }
}

/// Releases a lease without a result. If a value still exists, the next lease is granted only after `retry_delay`.
///
/// # Errors
///
/// [`Error::RedisUnavailable`]; the lease then expires.
pub(super) async fn release_lease(
    redis: &Redis,
    key: &CacheKey,
    token: Uuid,
    retry_delay: Duration,
) -> Result<()> {
    let args = vec![token.to_string().into(), millis(retry_delay)];
    let _: Value = RELEASE_LEASE.run_for_cache(keyspace(redis, key), keys(key), args).await?;
    Ok(())
}

/// Removes the value if it still is `unreadable`.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn delete_if_equal(
    redis: &Redis,
    key: &CacheKey,
    unreadable: Bytes,
) -> Result<()> {
    let args = vec![Value::Bytes(unreadable)];
    let _: Value = DELETE_IF_EQUAL.run_for_cache(keyspace(redis, key), keys(key), args).await?;
    Ok(())
}

/// Removes the value with this key. Returns the number of removed values, 0 or 1.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn remove(redis: &Redis, name: &str) -> Result<u64> {
    let keyspace = redis.keyspace(Database::Cache, Partition::for_cached_value(name));
    remove_at(keyspace, vec![name.to_owned()]).await
}

async fn remove_at(keyspace: Keyspace<'_>, names: Vec<String>) -> Result<u64> {
    let names = names.into_iter().map(Key::from).collect();
    let (_, removed): (String, u64) = DELETE.run_for_cache(keyspace, names, Vec::new()).await?;
    Ok(removed)
}

/// Removes every value that has `tag`, in one atomic step, or in a cluster in one step per partition. Returns the
/// number of removed values.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn invalidate_tag(redis: &Redis, tag: &Tag) -> Result<u64> {
    const MAX_CONCURRENCY: usize = 32;
    let keyspaces = redis.all_keyspaces(Database::Cache).map(|keyspace| async move {
        let names = tag_keys(tag).into_iter().map(Key::from).collect();
        let args = vec![tag.to_string().into(), Value::from(keyspace.key(CACHE_PREFIX))];
        let (_, removed): (String, u64) =
            INVALIDATE_TAG.run_for_cache(keyspace, names, args).await?;
        Ok::<_, Error>(removed)
    });
    let keyspaces: Vec<_> = keyspaces.collect();
    let removed: Vec<u64> =
        stream::iter(keyspaces).buffer_unordered(MAX_CONCURRENCY).try_collect().await?;
    Ok(removed.iter().sum())
}

/// Scans one batch of the keys on a server and removes the values whose keys match. `batch_size` is a hint. Returns the
/// next cursor, 0 at the end, and the number of removed values.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn remove_matching(
    redis: &Redis,
    server: Keyspace<'_>,
    cursor: u64,
    (pattern, batch_size): (&str, u32),
) -> Result<(u64, u64)> {
    let pattern = redis.layout().pattern(pattern);
    let args = &[
        cursor.to_string(),
        "MATCH".to_owned(),
        pattern,
        "COUNT".to_owned(),
        batch_size.to_string(),
    ];
    let scan = |client: Client| async move {
        let scan = CustomCommand::new_static("SCAN", ClusterHash::Random, false);
        client.custom::<(u64, Vec<Key>), _>(scan, args.to_vec()).await
    };
    let (next, keys) = server.call_idempotent(scan).await?;
    let found = keys.iter().filter_map(|key| {
        let key = key.as_str_lossy();
        let (partition, name) = redis.layout().parse(&key)?;
        Some((partition, name.to_owned()))
    });
    let mut removed = 0;
    for (keyspace, found) in
        redis.group_by_keyspace(Database::Cache, found, |(partition, _)| *partition)
    {
        removed += remove_at(keyspace, found.into_iter().map(|(_, name)| name).collect()).await?;
    }
    Ok((next, removed))
}

fn keyspace<'a>(redis: &'a Redis, key: &CacheKey) -> Keyspace<'a> {
    redis.keyspace(Database::Cache, key.partition())
}

fn keys(key: &CacheKey) -> Vec<Key> {
    vec![Key::from(key.as_str())]
}

fn millis(duration: Duration) -> Value {
    Value::from(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn unknown_outcome(what: &'static str, outcome: &str) -> Error {
    Error::CorruptData { what, reason: format!("unknown outcome {outcome:?}") }
}

fn from_unix_ms(unix_ms: &Value) -> Result<DateTime<Utc>> {
    unix_ms.as_i64().and_then(DateTime::from_timestamp_millis).ok_or_else(|| Error::CorruptData {
        what: "expiry of a cached value",
        reason: format!("{unix_ms:?}"),
    })
}
