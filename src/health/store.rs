//! What the report asks of Redis: one function, one round trip.
//!
//! * `i2m:health` string: written in every database to see that it can be

use fred::{
    interfaces::{ClientLike as _, KeysInterface as _},
    types::{CustomCommand, Expiration, InfoKind, Value},
};

use crate::{
    error::Result,
    redis::{Database, HEALTH_PROBE, Redis, is_answer},
};

pub(super) async fn ping(redis: &Redis, database: Database) -> Result<()> {
    redis
        .call(database, |client| async move {
            let pong = client.ping(None).await;
            if is_answer(&pong) { Ok(()) } else { pong.map(|_: Value| ()) }
        })
        .await
}

/// Writes something of no meaning.
pub(super) async fn write(redis: &Redis, database: Database) -> Result<()> {
    const TTL_SECS: i64 = 60;
    let expiration = Some(Expiration::EX(TTL_SECS));
    redis
        .call(database, |client| async move {
            client.set(HEALTH_PROBE, "1", expiration, None, false).await
        })
        .await
}

/// The text of INFO.
pub(super) async fn info(redis: &Redis) -> Result<String> {
    redis
        .call(Database::Jobs, |client| async move { client.info(Some(InfoKind::Default)).await })
        .await
}

/// The latest `n` entries of the slow log, as Redis sends them.
pub(super) async fn slow_log(redis: &Redis, n: u64) -> Result<Value> {
    let slow_log = CustomCommand::new_static("SLOWLOG", None, false);
    redis
        .call(Database::Jobs, |client| async move {
            client.custom(slow_log, vec!["GET".to_owned(), n.to_string()]).await
        })
        .await
}
