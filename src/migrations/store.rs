//! What was done to the stored data, in Redis: one function, one round trip.
//!
//! * `i2m:schema`: hash of a file's name to `applied checksum when` or `running checksum cursor run-id`. It must outlive all
//!   data that it is about; its TTL is a year, renewed by every start and every cleanup.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};
use fred::{
    interfaces::{HashesInterface as _, KeysInterface as _},
    types::{Key, Value},
};

use super::{LOCK_TTL, Migration};
use crate::{
    error::Result,
    locks::Held,
    redis::{Database, Place, Redis, Retention, SCHEMA, SCHEMA_TTL_SECS, lock_key},
};

/// What is known of a file.
pub(super) struct Done {
    pub(super) state: State,
    pub(super) checksum: String,
}

pub(super) enum State {
    Applied(Option<DateTime<Utc>>),
    Running { cursor: String },
}

impl Done {
    fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ')?;
        let (checksum, last) = rest.split_once(' ')?;
        let state = if word == "applied" {
            State::Applied(last.parse().ok().and_then(|it| DateTime::from_timestamp(it, 0)))
        } else {
            // Behind it stands which server gave it.
            let cursor = last.split_once(' ').map_or(last, |it| it.0);
            State::Running { cursor: cursor.to_owned() }
        };
        Some(Self { state, checksum: checksum.to_owned() })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied(Some(at)) => write!(f, "applied {}", at.to_rfc3339()),
            Self::Applied(None) => f.write_str("applied"),
            Self::Running { cursor } => write!(f, "half applied, next is {cursor}"),
        }
    }
}

pub(super) async fn record(redis: &Redis) -> Result<BTreeMap<String, Done>> {
    let stored: BTreeMap<String, String> = place(redis)
        .read(|client| async move { client.hgetall(place(redis).key(SCHEMA)).await })
        .await?;
    Ok(stored.into_iter().filter_map(|(name, it)| Some((name, Done::parse(&it)?))).collect())
}

pub(super) async fn renew(redis: &Redis) -> Result<()> {
    let secs = i64::try_from(SCHEMA_TTL_SECS).unwrap_or(i64::MAX);
    let place = place(redis);
    place.read(|client| async move { client.expire(place.key(SCHEMA), secs, None).await }).await
}

fn place(redis: &Redis) -> Place<'_> {
    redis.shared(Database::Jobs)
}

/// What came of a piece.
pub(super) enum Piece {
    More,
    Applied,
    /// Another text was applied under this name.
    Changed,
    /// Another process holds the lock.
    Lost,
}

/// Runs the next piece of `migration` and notes where the one after it begins, in one atomic step.
pub(super) async fn apply_piece(
    redis: &Redis,
    migration: &Migration,
    held: &Held,
    (size, retention): (usize, Retention),
) -> Result<Piece> {
    let args = vec![
        Value::from(held.token.to_string()),
        Value::from(LOCK_TTL.as_millis().to_string()),
        Value::from(migration.name),
        Value::from(migration.checksum().as_str()),
        Value::from(size.to_string()),
        Value::try_from(retention.ttl_secs)?,
        Value::try_from(SCHEMA_TTL_SECS)?,
        Value::from_static_str(redis.layout().as_str()),
    ];
    let keys = vec![Key::from(lock_key(&held.resource)), Key::from_static_str(SCHEMA)];
    let answer: Vec<String> = migration.script.run(place(redis), keys, args).await?;
    Ok(match answer.first().map(String::as_str) {
        Some("more") => Piece::More,
        Some("applied") => Piece::Applied,
        Some("checksum_mismatch") => Piece::Changed,
        _ => Piece::Lost,
    })
}
