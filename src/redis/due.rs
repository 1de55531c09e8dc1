//! Sorted sets by time, one in every place: what is in them for long enough.

use fred::interfaces::SortedSetsInterface as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Database, Redis};
use crate::error::Result;

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
    let count = i64::try_from(limit).unwrap_or(i64::MAX);
    let places = redis.places(database).map(|place| async move {
        let until = place.now_ms().await?.saturating_sub(age_ms);
        let until = i64::try_from(until).unwrap_or(i64::MAX);
        let range = |client: fred::clients::Client| async move {
            let (key, limit) = (place.key(name), Some((0, count)));
            client.zrangebyscore::<Vec<String>, _, _, _>(key, 0_i64, until, false, limit).await
        };
        place.read(range).await
    });
    let places: Vec<_> = places.collect();
    let found: Vec<Vec<String>> = stream::iter(places).buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().take(limit).collect())
}
