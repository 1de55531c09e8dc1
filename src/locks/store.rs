//! Locks in Redis: one function, one round trip.
//!
//! * `lock:{resource}`: the holder's token, a UUID; expires with the lock. The seed's key, byte for byte.
//! * `i2m:lock:{resource}`: hash of `token` (the holder, if it acquired the lock through this service), `fence` (the
//!   last fencing token) and `released` (the id of the call that released the lock last); expires [`FENCE_RETENTION`]
//!   after the lock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    ids::LockName,
    store::{
        Database, Keyspace, Redis, Script,
        client::{Key, Value},
        lock_key, lock_metadata_key, lock_partition, lock_released_channel,
    },
};

static ACQUIRE: Script =
    Script::new(include_str!("../../migrations-lua/locks/acquire.lua")).idempotent();
static EXTEND: Script =
    Script::new(include_str!("../../migrations-lua/locks/extend.lua")).idempotent();
static RELEASE: Script =
    Script::new(include_str!("../../migrations-lua/locks/release.lua")).idempotent();

/// How long the fencing token is kept after the lock expires. The next token then comes from the clock alone; it is
/// larger unless the clock was set back by more than this.
const FENCE_RETENTION: Duration = Duration::from_hours(24);

/// The reply of `acquire.lua`.
#[derive(Debug)]
pub(super) enum AcquireReply {
    Granted {
        fencing_token: u64,
        expires_at: DateTime<Utc>,
    },
    Held {
        /// `None` if the lock has no TTL. No program should create such a lock.
        expires_in: Option<Duration>,
        /// The holder acquired the lock through this service, which announces the release.
        is_release_announced: bool,
    },
}

/// Acquires a lock for `token`. The call succeeds again for the token that holds the lock, so it can be retried.
///
/// # Errors
///
/// [`Error::RedisUnavailable`]; the lock may have been acquired nevertheless.
pub(super) async fn acquire(
    redis: &Redis,
    resource: &LockName,
    token: Uuid,
    ttl: Duration,
) -> Result<AcquireReply> {
    let args = vec![token.to_string().into(), millis(ttl), millis(FENCE_RETENTION)];
    let (outcome, first, second): (String, i64, i64) =
        ACQUIRE.run(keyspace(redis, resource), keys(resource), args).await?;
    match outcome.as_str() {
        "granted" => Ok(AcquireReply::Granted {
            fencing_token: u64::try_from(first).unwrap_or_default(),
            expires_at: from_unix_ms(second)?,
        }),
        "held" => Ok(AcquireReply::Held {
            expires_in: u64::try_from(first).ok().map(Duration::from_millis),
            is_release_announced: second == 1,
        }),
        other => Err(unknown_outcome("locks/acquire reply", other)),
    }
}

/// Sets the remaining time of a lock. Returns the fencing token, which a lock of another program does not have, and the
/// time at which the lock expires.
///
/// # Errors
///
/// [`Error::LockLost`]; [`Error::RedisUnavailable`].
pub(super) async fn extend(
    redis: &Redis,
    resource: &LockName,
    token: Uuid,
    ttl: Duration,
) -> Result<(Option<u64>, DateTime<Utc>)> {
    let args = vec![token.to_string().into(), millis(ttl), millis(FENCE_RETENTION)];
    let reply: Value = EXTEND.run(keyspace(redis, resource), keys(resource), args).await?;
    let mut parts = reply.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    match next().as_str().as_deref().unwrap_or_default() {
        "extended" => {
            let fencing_token = next().as_u64().filter(|token| *token > 0);
            Ok((fencing_token, from_unix_ms(next().as_i64().unwrap_or_default())?))
        }
        "lost" => Err(Error::LockLost { resource: resource.clone() }),
        other => Err(unknown_outcome("locks/extend reply", other)),
    }
}

/// Releases a lock.
///
/// # Errors
///
/// [`Error::LockLost`]; [`Error::RedisUnavailable`].
pub(super) async fn release(redis: &Redis, resource: &LockName, token: Uuid) -> Result<()> {
    let args = vec![
        token.to_string().into(),
        lock_released_channel(resource).into(),
        // The id of this call, by which the script recognises a retry.
        Uuid::new_v4().to_string().into(),
        millis(FENCE_RETENTION),
    ];
    let reply: Vec<String> = RELEASE.run(keyspace(redis, resource), keys(resource), args).await?;
    match reply.first().map(String::as_str).unwrap_or_default() {
        "released" => Ok(()),
        "lost" => Err(Error::LockLost { resource: resource.clone() }),
        other => Err(unknown_outcome("locks/release reply", other)),
    }
}

fn keyspace<'a>(redis: &'a Redis, resource: &LockName) -> Keyspace<'a> {
    redis.keyspace(Database::Jobs, lock_partition(resource))
}

fn keys(resource: &LockName) -> Vec<Key> {
    vec![Key::from(lock_key(resource)), Key::from(lock_metadata_key(resource))]
}

fn millis(duration: Duration) -> Value {
    Value::from(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn unknown_outcome(what: &'static str, outcome: &str) -> Error {
    Error::CorruptData { what, reason: format!("unknown outcome {outcome:?}") }
}

fn from_unix_ms(unix_ms: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_millis(unix_ms)
        .ok_or_else(|| Error::CorruptData { what: "expiry of a lock", reason: unix_ms.to_string() })
}
