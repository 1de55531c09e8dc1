//! The queries of the health report to Redis: one function, one round trip.
//!
//! * `i2m:health` string: written to every database, or to every server of a cluster, to check that writes work

use crate::{
    error::Result,
    redis::is_alive_reply,
    store::{
        Database, HEALTH_PROBE, Keyspace, Redis,
        client::{
            Client, ClientLike as _, CustomCommand, Expiration, InfoKind, KeysInterface as _, Value,
        },
    },
};

pub(super) async fn ping(keyspace: Keyspace<'_>) -> Result<()> {
    let ping = |client: Client| async move {
        let pong = client.ping(None).await;
        if is_alive_reply(&pong) { Ok(()) } else { pong.map(|_: Value| ()) }
    };
    keyspace.call_once(ping).await
}

/// Writes the probe key.
pub(super) async fn write(keyspace: Keyspace<'_>) -> Result<()> {
    const TTL_SECS: i64 = 60;
    let set = |client: Client| async move {
        let expiration = Some(Expiration::EX(TTL_SECS));
        client.set(keyspace.key(HEALTH_PROBE), "1", expiration, None, false).await
    };
    keyspace.call_once(set).await
}

/// The text of INFO.
pub(super) async fn info(keyspace: Keyspace<'_>) -> Result<String> {
    keyspace.call_once(|client| async move { client.info(Some(InfoKind::Default)).await }).await
}

/// The latest `limit` entries of each server's slow log, not parsed.
pub(super) async fn slow_log(redis: &Redis, limit: u64) -> Result<Vec<Value>> {
    let mut entries = Vec::new();
    for (keyspace, _) in redis.servers(Database::Jobs) {
        let get = |client: Client| async move {
            let slow_log = CustomCommand::new_static("SLOWLOG", None, false);
            client.custom::<Value, _>(slow_log, vec!["GET".to_owned(), limit.to_string()]).await
        };
        entries.extend(keyspace.call_once(get).await?.into_array());
    }
    Ok(entries)
}
