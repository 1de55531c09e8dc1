//! The records of migrations in Redis: one function, one round trip.
//!
//! * `i2m:schema` hash: by the name of a migration, `applied checksum unix-seconds` or
//!   `running checksum cursor run-id`. The hash must outlive all data that the migrations changed: its TTL is a year, and
//!   every start and every cleanup resets it.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};

use super::{LOCK_TTL, Migration};
use crate::{
    error::{Error, Result},
    locks::LockLease,
    store::{
        Database, JobRetention, Keyspace, MIGRATIONS, MIGRATIONS_TTL_SECS, Redis,
        client::{HashesInterface as _, Key, KeysInterface as _, Value},
        lock_key,
    },
};

/// The stored record of a migration.
pub(super) struct MigrationRecord {
    pub(super) state: State,
    pub(super) checksum: String,
}

pub(super) enum State {
    Applied(Option<DateTime<Utc>>),
    Running { cursor: String },
}

impl MigrationRecord {
    fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ')?;
        let (checksum, last) = rest.split_once(' ')?;
        let state = if word == "applied" {
            State::Applied(last.parse().ok().and_then(|secs| DateTime::from_timestamp(secs, 0)))
        } else {
            // The run id of the server follows the cursor.
            let cursor = last.split_once(' ').map_or(last, |(cursor, _)| cursor);
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
            Self::Running { cursor } => write!(f, "partly applied, next cursor {cursor}"),
        }
    }
}

pub(super) async fn records(redis: &Redis) -> Result<BTreeMap<String, MigrationRecord>> {
    let stored: BTreeMap<String, String> = keyspace(redis)
        .call_idempotent(
            |client| async move { client.hgetall(keyspace(redis).key(MIGRATIONS)).await },
        )
        .await?;
    let parse = |(name, record): (String, String)| Some((name, MigrationRecord::parse(&record)?));
    Ok(stored.into_iter().filter_map(parse).collect())
}

pub(super) async fn refresh_ttl(redis: &Redis) -> Result<()> {
    let secs = i64::try_from(MIGRATIONS_TTL_SECS).unwrap_or(i64::MAX);
    let keyspace = keyspace(redis);
    keyspace
        .call_idempotent(|client| async move {
            client.expire(keyspace.key(MIGRATIONS), secs, None).await
        })
        .await
}

fn keyspace(redis: &Redis) -> Keyspace<'_> {
    redis.default_keyspace(Database::Jobs)
}

/// The result of a step.
pub(super) enum StepResult {
    /// Another step is needed.
    More,
    Applied,
    /// A script with another checksum was applied under this name.
    Changed,
    /// This process no longer holds the lock.
    LockLost,
}

impl StepResult {
    fn parse(outcome: &str) -> Result<Self> {
        Ok(match outcome {
            "more" => Self::More,
            "applied" => Self::Applied,
            "checksum_mismatch" => Self::Changed,
            "lock_lost" => Self::LockLost,
            other => {
                return Err(Error::CorruptData {
                    what: "migration step reply",
                    reason: format!("unknown outcome {other:?}"),
                });
            }
        })
    }
}

/// Runs the next step of `migration` and stores the cursor of the following step, atomically.
pub(super) async fn run_step(
    redis: &Redis,
    migration: &Migration,
    held: &LockLease,
    (size, retention): (usize, JobRetention),
) -> Result<StepResult> {
    let args = vec![
        Value::from(held.token.to_string()),
        Value::from(LOCK_TTL.as_millis().to_string()),
        Value::from(migration.name),
        Value::from(migration.checksum().as_str()),
        Value::from(size.to_string()),
        Value::try_from(retention.ttl_secs)?,
        Value::try_from(MIGRATIONS_TTL_SECS)?,
        Value::from_static_str(redis.layout().as_str()),
    ];
    let keys = vec![Key::from(lock_key(&held.resource)), Key::from_static_str(MIGRATIONS)];
    let reply: Vec<String> = migration.script.run(keyspace(redis), keys, args).await?;
    StepResult::parse(reply.first().map_or("", String::as_str))
}
