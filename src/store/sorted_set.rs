//! Sorted sets by time that have a part in every keyspace.

use fred::types::{Key, Value};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{database::Database, handle::Redis, script::Script};
use crate::error::{Error, Result};

static AGED: Script =
    Script::new(include_str!("../../migrations-lua/sorted_set/older_than.lua")).idempotent();

/// Keyspaces that are asked at once.
const MAX_CONCURRENCY: usize = 32;

/// Members of the sets `name` that are older than `age_ms` by the clock of their server: at most `limit`, the oldest of
/// each keyspace first.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(crate) async fn members_older_than(
    redis: &Redis,
    database: Database,
    name: &'static str,
    age_ms: u64,
    limit: usize,
) -> Result<Vec<String>> {
    let requests = redis.all_keyspaces(database).map(|keyspace| async move {
        let args = vec![Value::from(age_ms.to_string()), Value::from(limit.to_string())];
        let (_, members): (String, Vec<String>) =
            AGED.run(keyspace, vec![Key::from_static_str(name)], args).await?;
        Ok::<_, Error>(members)
    });
    let requests: Vec<_> = requests.collect();
    let found: Vec<Vec<String>> =
        stream::iter(requests).buffered(MAX_CONCURRENCY).try_collect().await?;
    Ok(found.into_iter().flatten().take(limit).collect())
}
