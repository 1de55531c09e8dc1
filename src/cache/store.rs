//! Cached values in Redis: one function, one round trip. `migrations-lua/shared/cache.lua` describes the keys.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use fred::{
    clients::Client,
    interfaces::ClientLike as _,
    types::{ClusterHash, CustomCommand, Key, Value},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::Terms;
use crate::{
    error::{Error, Result},
    ids::Tag,
    redis::{CACHED, CacheKey, Database, Partition, Place, Redis, Script, tag_keys},
};

static OPEN: Script =
    Script::about_cache(include_str!("../../migrations-lua/cache/get_or_lease.lua")).repeatable();
static PUT: Script =
    Script::about_cache(include_str!("../../migrations-lua/cache/put.lua")).repeatable();
static ABANDON: Script =
    Script::about_cache(include_str!("../../migrations-lua/cache/release_lease.lua")).repeatable();
static DROP: Script =
    Script::about_cache(include_str!("../../migrations-lua/cache/delete.lua")).repeatable();
static DISCARD: Script =
    Script::about_cache(include_str!("../../migrations-lua/cache/delete_if_equal.lua"))
        .repeatable();
static INVALIDATE_TAG: Script =
    Script::about_cache(include_str!("../../migrations-lua/cache/invalidate_tag.lua")).repeatable();

/// The longest that hits may keep a value fresh.
const LONGEST_SLIDE: Duration = Duration::from_hours(24);

/// What there is at a key, and who computes.
#[derive(Debug)]
pub(super) enum Opened {
    Value {
        json: Bytes,
        is_stale: bool,
        fresh_for: Duration,
        is_claimed: bool,
    },
    /// What is there is no JSON text.
    Unreadable(Bytes),
    Negative,
    /// Missing, and the claim is ours.
    Claimed,
    /// Missing, and another computes it, for `left` at the most.
    Waiting {
        by: Option<Uuid>,
        left: Duration,
    },
    Missing,
}

/// A wish to compute what is missing or due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) token: Uuid,
    pub(super) lasts: Duration,
    /// How many times its cost before its end a value is due.
    pub(super) early: f64,
}

/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn open(redis: &Redis, key: &CacheKey, claim: Option<Claim>) -> Result<Opened> {
    let token = claim.map(|it| it.token.to_string()).unwrap_or_default();
    let lasts = claim.map_or(Duration::ZERO, |it| it.lasts);
    let early = claim.map_or(0.0, |it| it.early);
    let args = vec![token.into(), millis(lasts), early.to_string().into(), millis(LONGEST_SLIDE)];
    // A value of another program may be no text.
    let (outcome, value, ms, is_claimed): (String, Value, i64, i64) =
        OPEN.run_on_cache(place(redis, key), keys(key), args).await?;
    let for_ms = Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    Ok(match outcome.as_str() {
        "negative" => Opened::Negative,
        "compute" => Opened::Claimed,
        "wait" => {
            let by = value.as_str().and_then(|it| Uuid::try_parse(&it).ok());
            Opened::Waiting { by, left: for_ms }
        }
        "miss" => Opened::Missing,
        _ => {
            let json = value.into_bytes().unwrap_or_default();
            if !is_json(&json) {
                return Ok(Opened::Unreadable(json));
            }
            let is_stale = outcome == "stale";
            Opened::Value { json, is_stale, fresh_for: for_ms, is_claimed: is_claimed == 1 }
        }
    })
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// What is to be stored.
#[derive(Debug)]
pub(super) struct Fresh {
    /// JSON text; nothing says that there is no value.
    pub(super) json: Option<Bytes>,
    /// The claim that it was computed under; without, it is stored in any case.
    pub(super) claim: Option<Uuid>,
    /// How long it took.
    pub(super) cost: Duration,
}

/// Stores a value. Returns until when it is fresh and when it is gone, or nothing if its claim is no longer good.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn put(
    redis: &Redis,
    key: &CacheKey,
    fresh: Fresh,
    terms: &Terms,
) -> Result<Option<[DateTime<Utc>; 2]>> {
    let slide = if terms.slides { terms.ttl } else { Duration::ZERO };
    let mut args = vec![
        Value::from(fresh.claim.map(|it| it.to_string()).unwrap_or_default()),
        Value::from_static_str(if fresh.json.is_some() { "value" } else { "negative" }),
        Value::Bytes(fresh.json.unwrap_or_default()),
        millis(terms.ttl),
        millis(terms.ttl + terms.stale_for),
        millis(fresh.cost),
        millis(slide),
    ];
    args.extend(terms.tags.iter().map(|it| Value::from(it.to_string())));
    let answer: Value = PUT.run_on_cache(place(redis, key), keys(key), args).await?;
    let mut parts = answer.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    if next().as_str().as_deref() != Some("stored") {
        return Ok(None);
    }
    Ok(Some([instant(&next())?, instant(&next())?]))
}

/// Gives up a claim.
///
/// # Errors
///
/// [`Error::RedisUnavailable`]; then it ends of itself.
pub(super) async fn abandon(
    redis: &Redis,
    key: &CacheKey,
    claim: Uuid,
    pause: Duration,
) -> Result<()> {
    let args = vec![claim.to_string().into(), millis(pause)];
    let _: Value = ABANDON.run_on_cache(place(redis, key), keys(key), args).await?;
    Ok(())
}

/// Removes `unreadable`, unless it was replaced since it was read.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn discard(redis: &Redis, key: &CacheKey, unreadable: Bytes) -> Result<()> {
    let args = vec![Value::Bytes(unreadable)];
    let _: Value = DISCARD.run_on_cache(place(redis, key), keys(key), args).await?;
    Ok(())
}

/// Removes the value with this key; returns how many there were.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn remove(redis: &Redis, name: &str) -> Result<u64> {
    let place = redis.at(Database::Cache, Partition::of_cached(name));
    remove_at(place, vec![name.to_owned()]).await
}

async fn remove_at(place: Place<'_>, names: Vec<String>) -> Result<u64> {
    let names = names.into_iter().map(Key::from).collect();
    let (_, n): (String, u64) = DROP.run_on_cache(place, names, Vec::new()).await?;
    Ok(n)
}

/// Removes every value that has `tag`, in one step, or in a cluster in one for each partition; returns how many there
/// were.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn invalidate_tag(redis: &Redis, tag: &Tag) -> Result<u64> {
    const AT_ONCE: usize = 32;
    let places = redis.places(Database::Cache).map(|place| async move {
        let names = tag_keys(tag).into_iter().map(Key::from).collect();
        let args = vec![tag.to_string().into(), Value::from(place.key(CACHED))];
        let (_, n): (String, u64) = INVALIDATE_TAG.run_on_cache(place, names, args).await?;
        Ok::<_, Error>(n)
    });
    let places: Vec<_> = places.collect();
    let removed: Vec<u64> = stream::iter(places).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(removed.iter().sum())
}

/// One step of a walk over the values on a server whose keys match, which are removed. Returns where to go on, which
/// is 0 at the end, and how many there were.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn remove_matching(
    redis: &Redis,
    server: Place<'_>,
    cursor: u64,
    (pattern, about): (&str, u32),
) -> Result<(u64, u64)> {
    let pattern = redis.layout().pattern(pattern);
    let args =
        &[cursor.to_string(), "MATCH".to_owned(), pattern, "COUNT".to_owned(), about.to_string()];
    let scan = |client: Client| async move {
        let scan = CustomCommand::new_static("SCAN", ClusterHash::Random, false);
        client.custom::<(u64, Vec<Key>), _>(scan, args.to_vec()).await
    };
    let (next, keys) = server.read(scan).await?;
    let found = keys.iter().filter_map(|key| {
        let key = key.as_str_lossy();
        let (partition, name) = redis.layout().parse(&key)?;
        Some((partition, name.to_owned()))
    });
    let mut n = 0;
    for (place, found) in redis.by_place(Database::Cache, found, |it| it.0) {
        n += remove_at(place, found.into_iter().map(|it| it.1).collect()).await?;
    }
    Ok((next, n))
}

fn place<'a>(redis: &'a Redis, key: &CacheKey) -> Place<'a> {
    redis.at(Database::Cache, key.partition())
}

fn keys(key: &CacheKey) -> Vec<Key> {
    vec![Key::from(key.as_str())]
}

fn millis(duration: Duration) -> Value {
    Value::from(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn instant(unix_ms: &Value) -> Result<DateTime<Utc>> {
    unix_ms.as_i64().and_then(DateTime::from_timestamp_millis).ok_or_else(|| Error::Corrupt {
        what: "end of a cached value",
        reason: format!("{unix_ms:?}"),
    })
}
