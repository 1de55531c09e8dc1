//! Locks in Redis: one function, one round trip.
//!
//! * `lock:{resource}`: the holder's token, a UUID; expires with the lock. The seed's, byte for byte.
//! * `i2m:lock:{resource}`: hash of `token`, the holder that this service let in, `fence`, the last fencing token,
//!   and `released`, the last call that gave it back; expires [`FENCE_OUTLIVES_LOCK`] after the lock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fred::types::{Key, Value};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    ids::Resource,
    store::{
        Database, Keyspace, Redis, Script, lock_key, lock_metadata_key, lock_partition,
        lock_released_channel,
    },
};

static ACQUIRE: Script =
    Script::new(include_str!("../../migrations-lua/locks/acquire.lua")).idempotent();
static EXTEND: Script =
    Script::new(include_str!("../../migrations-lua/locks/extend.lua")).idempotent();
static RELEASE: Script =
    Script::new(include_str!("../../migrations-lua/locks/release.lua")).idempotent();

/// A fence is made from the clock, so it matters only while the clock could be set back further than this.
const FENCE_OUTLIVES_LOCK: Duration = Duration::from_hours(24);

/// What became of one attempt.
#[derive(Debug)]
pub(super) enum Attempt {
    Granted {
        fencing_token: u64,
        expires_at: DateTime<Utc>,
    },
    Held {
        /// Absent for a lock that never expires, which no program should make.
        expires_in: Option<Duration>,
        /// Whether its holder came to it through this service, and so will be heard when it releases.
        is_heard: bool,
    },
}

/// # Errors
///
/// [`Error::RedisUnavailable`]; the lock may have been taken all the same.
pub(super) async fn acquire(
    redis: &Redis,
    resource: &Resource,
    token: Uuid,
    ttl: Duration,
) -> Result<Attempt> {
    let args = vec![token.to_string().into(), millis(ttl), millis(FENCE_OUTLIVES_LOCK)];
    let (outcome, first, second): (String, i64, i64) =
        ACQUIRE.run(keyspace(redis, resource), keys(resource), args).await?;
    if outcome == "granted" {
        let fencing_token = u64::try_from(first).unwrap_or_default();
        return Ok(Attempt::Granted { fencing_token, expires_at: instant(second)? });
    }
    let expires_in = u64::try_from(first).ok().map(Duration::from_millis);
    Ok(Attempt::Held { expires_in, is_heard: second == 1 })
}

/// Sets the remaining time. Returns the fencing token, which a lock of another program does not have, and the end.
///
/// # Errors
///
/// [`Error::LockLost`]; [`Error::RedisUnavailable`].
pub(super) async fn extend(
    redis: &Redis,
    resource: &Resource,
    token: Uuid,
    ttl: Duration,
) -> Result<(Option<u64>, DateTime<Utc>)> {
    let args = vec![token.to_string().into(), millis(ttl), millis(FENCE_OUTLIVES_LOCK)];
    let answer: Value = EXTEND.run(keyspace(redis, resource), keys(resource), args).await?;
    let mut parts = answer.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    if next().as_str().as_deref() != Some("extended") {
        return Err(Error::LockLost { resource: resource.clone() });
    }
    let fencing_token = next().as_u64().filter(|it| *it > 0);
    Ok((fencing_token, instant(next().as_i64().unwrap_or_default())?))
}

/// # Errors
///
/// [`Error::LockLost`]; [`Error::RedisUnavailable`].
pub(super) async fn release(redis: &Redis, resource: &Resource, token: Uuid) -> Result<()> {
    let args = vec![
        token.to_string().into(),
        lock_released_channel(resource).into(),
        // By this a repeated call is told from another one.
        Uuid::new_v4().to_string().into(),
        millis(FENCE_OUTLIVES_LOCK),
    ];
    let outcome: Vec<String> = RELEASE.run(keyspace(redis, resource), keys(resource), args).await?;
    match outcome.first().map(String::as_str) {
        Some("released") => Ok(()),
        _ => Err(Error::LockLost { resource: resource.clone() }),
    }
}

fn keyspace<'a>(redis: &'a Redis, resource: &Resource) -> Keyspace<'a> {
    redis.keyspace(Database::Jobs, lock_partition(resource))
}

fn keys(resource: &Resource) -> Vec<Key> {
    vec![Key::from(lock_key(resource)), Key::from(lock_metadata_key(resource))]
}

fn millis(duration: Duration) -> Value {
    Value::from(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn instant(unix_ms: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_millis(unix_ms)
        .ok_or_else(|| Error::Corrupt { what: "end of a lock", reason: unix_ms.to_string() })
}
