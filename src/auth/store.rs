//! API keys in Redis: one function, one round trip.
//!
//! * `i2m:{keys}`: hash of a key's id → its record as JSON.
//! * `i2m:{keys}:version`: when and by which call they were last changed, so that nobody reads what has not changed,
//!   and a call that is repeated is known.
//! * `i2m:{keys}:used`: hash of a key's id → when it was last used, in Unix seconds.
//!
//! All three would expire after [`KEPT_SECS`]; [`mod@super::watch`] renews them while any service runs.

use std::collections::HashMap;

use fred::types::{Key, Value};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Limits, Role, config::MAX_KEYS_OF_A_NAME};
use crate::{
    error::{Error, Result},
    ids::{KeyId, Sha256Hex},
    redis::{API_KEYS, API_KEYS_CHANNEL, Database, Redis, Script},
};

static CREATE: Script =
    Script::new(include_str!("../../migrations-lua/auth/create.lua")).repeatable();
static LIMIT: Script =
    Script::new(include_str!("../../migrations-lua/auth/set_limits.lua")).repeatable();
static REVOKE: Script =
    Script::new(include_str!("../../migrations-lua/auth/revoke.lua")).repeatable();
static LOAD: Script = Script::new(include_str!("../../migrations-lua/auth/load.lua")).repeatable();
static LIST: Script = Script::new(include_str!("../../migrations-lua/auth/list.lua")).repeatable();
static USED: Script =
    Script::new(include_str!("../../migrations-lua/auth/touch_last_used.lua")).repeatable();

/// Keys are no session: they outlive a service that is switched off for a year.
const KEPT_SECS: u64 = 366 * 24 * 3600;
const RENEWED_AT_SECS: u64 = 365 * 24 * 3600;
/// Every process holds all of them in memory.
const MAX_KEYS: usize = 10_000;

/// What is kept of a key: never the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    #[serde(with = "hash_as_text")]
    pub(crate) sha256: Sha256Hex,
    pub(crate) roles: Vec<Role>,
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Unix seconds by Redis' clock; the script sets it.
    #[serde(default)]
    pub(crate) created_at: i64,
}

/// A key kept in Redis.
#[derive(Clone, Debug)]
pub(crate) struct StoredKey {
    pub(crate) id: KeyId,
    pub(crate) record: Record,
    /// Unix seconds.
    pub(crate) used_at: Option<i64>,
}

/// What became of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    Kept,
    /// Another key begins with the same characters.
    Exists,
    NameTaken,
    Full,
}

/// Keeps a new key, unless its name has two already, `n_configured` of them in the settings.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn create(
    redis: &Redis,
    id: &KeyId,
    record: &Record,
    n_configured: usize,
) -> Result<Created> {
    let mut args = change(id)?;
    args.push(Value::from(to_json(record)?));
    args.push(Value::try_from(n_configured)?);
    args.push(Value::try_from(MAX_KEYS_OF_A_NAME)?);
    args.push(Value::try_from(MAX_KEYS)?);
    let (outcome,): (String,) = run(&CREATE, redis, args).await?;
    Ok(match outcome.as_str() {
        "created" => Created::Kept,
        "exists" => Created::Exists,
        "name_taken" => Created::NameTaken,
        _ => Created::Full,
    })
}

/// Gives a key other limits.
///
/// # Errors
///
/// [`Error::KeyNotFound`], [`Error::RedisUnavailable`].
pub(crate) async fn limit(redis: &Redis, id: &KeyId, limits: &Limits) -> Result<()> {
    let mut args = change(id)?;
    args.push(Value::from(to_json(limits)?));
    found(id, &run(&LIMIT, redis, args).await?)
}

/// Removes a key.
///
/// # Errors
///
/// [`Error::KeyNotFound`], [`Error::RedisUnavailable`].
pub(crate) async fn revoke(redis: &Redis, id: &KeyId) -> Result<()> {
    found(id, &run(&REVOKE, redis, change(id)?).await?)
}

/// All keys and their version, if it is not `known`.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn load(redis: &Redis, known: &str) -> Result<Option<(String, Vec<StoredKey>)>> {
    let args =
        vec![Value::try_from(KEPT_SECS)?, Value::from(known), Value::try_from(RENEWED_AT_SECS)?];
    let (outcome, version, records): (String, String, HashMap<String, String>) =
        run(&LOAD, redis, args).await?;
    Ok((outcome == "changed").then(|| (version, parse(records, &HashMap::new()))))
}

/// All keys, by name and then by age.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(crate) async fn list(redis: &Redis) -> Result<Vec<StoredKey>> {
    let (_, records, used): (String, HashMap<String, String>, HashMap<String, i64>) =
        run(&LIST, redis, Vec::new()).await?;
    let mut keys = parse(records, &used);
    keys.sort_by(|a, b| {
        let by_name = a.record.name.cmp(&b.record.name);
        by_name.then(a.record.created_at.cmp(&b.record.created_at))
    });
    Ok(keys)
}

/// Notes that keys were used just now.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn note_used(redis: &Redis, ids: impl Iterator<Item = &KeyId>) -> Result<()> {
    let mut args = vec![Value::try_from(KEPT_SECS)?];
    args.extend(ids.map(|it| Value::from(it.as_str())));
    run(&USED, redis, args).await
}

/// What every script that changes a key takes first. The last of it is the call's own, by which it is known when it is
/// repeated.
fn change(id: &KeyId) -> Result<Vec<Value>> {
    Ok(vec![
        Value::try_from(KEPT_SECS)?,
        Value::from_static_str(API_KEYS_CHANNEL),
        Value::from(id.as_str()),
        Value::from(Uuid::new_v4().to_string()),
    ])
}

fn found(id: &KeyId, (outcome,): &(String,)) -> Result<()> {
    if outcome == "missing" { Err(Error::KeyNotFound(id.clone())) } else { Ok(()) }
}

async fn run<T: fred::types::FromValue>(
    script: &'static Script,
    redis: &Redis,
    args: Vec<Value>,
) -> Result<T> {
    let keys = API_KEYS.map(Key::from_static_str).to_vec();
    script.run(redis.shared(Database::Jobs), keys, args).await
}

/// One record that nobody can read must not shut out all other keys.
fn parse(records: HashMap<String, String>, used: &HashMap<String, i64>) -> Vec<StoredKey> {
    let keys = records.into_iter().filter_map(|(id, json)| {
        let used_at = used.get(&id).copied();
        if let (Ok(id), Ok(record)) = (id.parse::<KeyId>(), serde_json::from_str::<Record>(&json)) {
            return Some(StoredKey { id, record, used_at });
        }
        tracing::error!(id = crate::ids::quoted(&id), "a stored key cannot be read");
        None
    });
    keys.collect()
}

fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::Corrupt { what: "key", reason: error.to_string() })
}

mod hash_as_text {
    //! The hash of a key prints as eight digits and has no other form of its own; here it is kept whole.

    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::ids::Sha256Hex;

    pub(super) fn serialize<S: Serializer>(hash: &Sha256Hex, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(hash.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Sha256Hex, D::Error> {
        Sha256Hex::deserialize(from)
    }
}
