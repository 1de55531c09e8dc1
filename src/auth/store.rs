//! API keys in Redis: one function, one round trip.
//!
//! * `i2m:{keys}`: hash of the id of a key to its record as JSON.
//! * `i2m:{keys}:version`: the time and id of the call that last changed the keys. Processes reload the keys only if
//!   the version has changed, and a script recognises a retry by the id of the call.
//! * `i2m:{keys}:used`: hash of the id of a key to the time of its last use in Unix seconds.
//!
//! All three expire after [`RETENTION_SECS`]; [`mod@super::key_refresher`] renews them while any process runs.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Limits, Role, config::MAX_KEYS_PER_NAME};
use crate::{
    error::{Error, Result},
    ids::{KeyId, Sha256Hex},
    store::{
        API_KEYS, API_KEYS_CHANNEL, Database, Redis, Script,
        client::{Key, Value},
    },
};

static CREATE: Script =
    Script::new(include_str!("../../migrations-lua/auth/create.lua")).idempotent();
static LIMIT: Script =
    Script::new(include_str!("../../migrations-lua/auth/set_limits.lua")).idempotent();
static REVOKE: Script =
    Script::new(include_str!("../../migrations-lua/auth/revoke.lua")).idempotent();
static LOAD: Script = Script::new(include_str!("../../migrations-lua/auth/load.lua")).idempotent();
static LIST: Script = Script::new(include_str!("../../migrations-lua/auth/list.lua")).idempotent();
static TOUCH_LAST_USED: Script =
    Script::new(include_str!("../../migrations-lua/auth/touch_last_used.lua")).idempotent();

/// API keys must survive a service that is switched off for a year.
const RETENTION_SECS: u64 = 366 * 24 * 3600;
/// The TTL is renewed once it is below this.
const RENEW_BELOW_SECS: u64 = 365 * 24 * 3600;
/// Bounded, because every process has all keys in memory.
const MAX_KEYS: usize = 10_000;

/// The record of a key. It contains the hash, not the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    #[serde(with = "hash_as_text")]
    pub(crate) sha256: Sha256Hex,
    pub(crate) roles: Vec<Role>,
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Unix seconds by Redis' clock, set by the script.
    #[serde(default)]
    pub(crate) created_at: i64,
}

/// A key stored in Redis.
#[derive(Clone, Debug)]
pub(crate) struct StoredKey {
    pub(crate) id: KeyId,
    pub(crate) record: Record,
    /// The last use in Unix seconds.
    pub(crate) used_at: Option<i64>,
}

/// The reply of `create.lua`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CreateReply {
    Created,
    /// Another key begins with the same characters.
    IdTaken,
    /// The name has [`MAX_KEYS_PER_NAME`] live keys.
    NameTaken,
    /// [`MAX_KEYS`] keys are stored.
    Full,
}

impl CreateReply {
    fn parse(outcome: &str) -> Result<Self> {
        match outcome {
            "created" => Ok(Self::Created),
            "exists" => Ok(Self::IdTaken),
            "name_taken" => Ok(Self::NameTaken),
            "full" => Ok(Self::Full),
            other => Err(unknown_outcome("auth/create reply", other)),
        }
    }
}

/// Stores a new key. `configured_count` is the number of keys with the same name in the settings.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn create(
    redis: &Redis,
    id: &KeyId,
    record: &Record,
    configured_count: usize,
) -> Result<CreateReply> {
    let mut args = change_args(id)?;
    args.push(Value::from(to_json(record)?));
    args.push(Value::try_from(configured_count)?);
    args.push(Value::try_from(MAX_KEYS_PER_NAME)?);
    args.push(Value::try_from(MAX_KEYS)?);
    let (outcome,): (String,) = run(&CREATE, redis, args).await?;
    CreateReply::parse(&outcome)
}

/// Replaces the limits of a key.
///
/// # Errors
///
/// [`Error::KeyNotFound`], [`Error::RedisUnavailable`].
pub(crate) async fn limit(redis: &Redis, id: &KeyId, limits: &Limits) -> Result<()> {
    let mut args = change_args(id)?;
    args.push(Value::from(to_json(limits)?));
    let (outcome,): (String,) = run(&LIMIT, redis, args).await?;
    match outcome.as_str() {
        "changed" => Ok(()),
        "missing" => Err(Error::KeyNotFound(id.clone())),
        other => Err(unknown_outcome("auth/set_limits reply", other)),
    }
}

/// Removes a key.
///
/// # Errors
///
/// [`Error::KeyNotFound`], [`Error::RedisUnavailable`].
pub(crate) async fn revoke(redis: &Redis, id: &KeyId) -> Result<()> {
    let (outcome,): (String,) = run(&REVOKE, redis, change_args(id)?).await?;
    match outcome.as_str() {
        "revoked" => Ok(()),
        "missing" => Err(Error::KeyNotFound(id.clone())),
        other => Err(unknown_outcome("auth/revoke reply", other)),
    }
}

/// All keys and their version, or `None` if the version still is `known_version`.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn load(
    redis: &Redis,
    known_version: &str,
) -> Result<Option<(String, Vec<StoredKey>)>> {
    let args = vec![
        Value::try_from(RETENTION_SECS)?,
        Value::from(known_version),
        Value::try_from(RENEW_BELOW_SECS)?,
    ];
    let (outcome, version, records): (String, String, HashMap<String, String>) =
        run(&LOAD, redis, args).await?;
    match outcome.as_str() {
        "changed" => Ok(Some((version, parse(records, &HashMap::new())))),
        "same" => Ok(None),
        other => Err(unknown_outcome("auth/load reply", other)),
    }
}

/// All keys, sorted by name and then by creation time.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(crate) async fn list(redis: &Redis) -> Result<Vec<StoredKey>> {
    let (_, records, used): (String, HashMap<String, String>, HashMap<String, i64>) =
        run(&LIST, redis, Vec::new()).await?;
    let mut keys = parse(records, &used);
    keys.sort_by(|left, right| {
        let by_name = left.record.name.cmp(&right.record.name);
        by_name.then(left.record.created_at.cmp(&right.record.created_at))
    });
    Ok(keys)
}

/// Sets the time of the last use of keys to now.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn touch_last_used(
    redis: &Redis,
    ids: impl Iterator<Item = &KeyId>,
) -> Result<()> {
    let mut args = vec![Value::try_from(RETENTION_SECS)?];
    args.extend(ids.map(|id| Value::from(id.as_str())));
    run(&TOUCH_LAST_USED, redis, args).await
}

/// The first arguments of every script that changes a key. The last one is the id of the call, by which the script
/// recognises a retry.
fn change_args(id: &KeyId) -> Result<Vec<Value>> {
    Ok(vec![
        Value::try_from(RETENTION_SECS)?,
        Value::from_static_str(API_KEYS_CHANNEL),
        Value::from(id.as_str()),
        Value::from(Uuid::new_v4().to_string()),
    ])
}

fn unknown_outcome(what: &'static str, outcome: &str) -> Error {
    Error::CorruptData { what, reason: format!("unknown outcome {outcome:?}") }
}

async fn run<T: crate::store::client::FromValue>(
    script: &'static Script,
    redis: &Redis,
    args: Vec<Value>,
) -> Result<T> {
    let keys = API_KEYS.map(Key::from_static_str).to_vec();
    script.run(redis.default_keyspace(Database::Jobs), keys, args).await
}

/// Skips records that cannot be parsed, so that one of them does not disable all other keys.
fn parse(records: HashMap<String, String>, used: &HashMap<String, i64>) -> Vec<StoredKey> {
    let keys = records.into_iter().filter_map(|(id, json)| {
        let used_at = used.get(&id).copied();
        if let (Ok(id), Ok(record)) = (id.parse::<KeyId>(), serde_json::from_str::<Record>(&json)) {
            return Some(StoredKey { id, record, used_at });
        }
        tracing::error!(
            id = crate::ids::truncate_quoted(&id),
            "skipping an API key whose stored record is invalid"
        );
        None
    });
    keys.collect()
}

fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::CorruptData { what: "key", reason: error.to_string() })
}

mod hash_as_text {
    //! The whole hash as text. `Sha256Hex` itself has no `Serialize`, and its `Debug` prints only eight digits, so that
    //! the hash does not get into logs or responses by accident.

    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::ids::Sha256Hex;

    pub(super) fn serialize<S: Serializer>(hash: &Sha256Hex, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(hash.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Sha256Hex, D::Error> {
        Sha256Hex::deserialize(from)
    }
}
