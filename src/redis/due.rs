//! Sorted sets by time, one in every place: what is in them for long enough.

use fred::types::{Key, Value};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Database, Redis, Script};
use crate::error::Result;

static AGED: Script =
    Script::new(include_str!("../../migrations-lua/sorted_set/older_than.lua")).repeatable();

/// Places that are asked at once.
const AT_ONCE: usize = 32;

/// Members of the sets `name` that are older than `age_ms` by the clock of their server, at most `limit`, the oldest of
/// each place first.
///
/// # Errors
///
/// [`crate::error::Error::RedisUnavailable`].
pub(crate) async fn oldest(
    redis: &Redis,
    database: Database,
    name: &'static str,
    age_ms: u64,
    limit: usize,
) -> Result<Vec<String>> {
    let places = redis.places(database).map(|place| async move {
        let args = vec![Value::from(age_ms.to_string()), Value::from(limit.to_string())];
        let (_, members): (String, Vec<String>) =
            AGED.run(place, vec![Key::from_static_str(name)], args).await?;
        Ok::<_, crate::error::Error>(members)
    });
    let places: Vec<_> = places.collect();
    let found: Vec<Vec<String>> = stream::iter(places).buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().take(limit).collect())
}
