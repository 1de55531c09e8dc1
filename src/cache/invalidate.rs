//! Invalidation of many values at once, by tag or by key pattern.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::{Cache, store};
use crate::{
    error::{Error, Result},
    ids::{Tag, truncate_quoted},
    store::{CACHE_PREFIX, Database},
};

/// A glob pattern that matches keys of cached values only.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        const MAX_BYTES: usize = 300;
        if text.starts_with(CACHE_PREFIX) && text.len() <= MAX_BYTES {
            return Ok(Self(text));
        }
        Err(Error::Validation(format!(
            "pattern: must begin with {CACHE_PREFIX} and have at most {MAX_BYTES} bytes, such as cache:model:*; got {}",
            truncate_quoted(&text)
        )))
    }
}

/// The progress of an invalidation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removed {
    pub(crate) n: u64,
    /// The position to continue from, if the time limit was reached before all keys were scanned.
    pub(crate) cursor: Option<u64>,
}

/// The position of a scan over all keys of all servers.
///
/// Clients get it as one number: a SCAN cursor is smaller than the server's hash table, so the upper bits have room for
/// the index of the server in a cluster.
#[derive(Clone, Copy)]
struct ScanPosition {
    server: usize,
    cursor: u64,
}

impl ScanPosition {
    const CURSOR_BITS: u32 = 48;

    /// The next position, given the cursor that SCAN returned: 0 at the end of a server.
    fn advance(self, cursor: u64) -> Self {
        if cursor == 0 {
            Self { server: self.server + 1, cursor: 0 }
        } else {
            Self { cursor, ..self }
        }
    }
}

impl From<u64> for ScanPosition {
    fn from(encoded: u64) -> Self {
        let server = usize::try_from(encoded >> Self::CURSOR_BITS).unwrap_or(usize::MAX);
        Self { server, cursor: encoded & ((1 << Self::CURSOR_BITS) - 1) }
    }
}

impl From<ScanPosition> for u64 {
    fn from(position: ScanPosition) -> Self {
        ((position.server as u64) << ScanPosition::CURSOR_BITS) | position.cursor
    }
}

impl Cache {
    /// Removes every value that has `tag`, in one atomic step per partition.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn invalidate_tag(&self, tag: &Tag) -> Result<u64> {
        let removed = store::invalidate_tag(&self.0.redis, tag).await?;
        self.0.redis.metrics().cache.invalidated.inc_by(removed);
        info!(%tag, removed, "invalidated cached values by tag");
        Ok(removed)
    }

    /// Removes every value whose key matches, in batches, so that Redis is not blocked. Values that are stored
    /// meanwhile may or may not be removed.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; values that were removed before the error stay removed.
    pub(crate) async fn invalidate_pattern(&self, pattern: &Pattern, from: u64) -> Result<Removed> {
        const BATCH_SIZE: u32 = 500;
        const TIME_LIMIT: Duration = Duration::from_secs(2);
        let is_glob = pattern.0.contains(['*', '?', '[', '\\']);
        if !is_glob {
            let removed = store::remove(&self.0.redis, &pattern.0).await?;
            self.0.redis.metrics().cache.invalidated.inc_by(removed);
            return Ok(Removed { n: removed, cursor: None });
        }
        let deadline = Instant::now() + TIME_LIMIT;
        let (mut removed, mut position) = (0, ScanPosition::from(from));
        let servers = self.0.redis.servers(Database::Cache);
        while let Some((server, _)) = servers.get(position.server)
            && Instant::now() <= deadline
        {
            let batch = (pattern.0.as_str(), BATCH_SIZE);
            let (cursor, removed_in_batch) =
                store::remove_matching(&self.0.redis, *server, position.cursor, batch).await?;
            removed += removed_in_batch;
            position = position.advance(cursor);
        }
        let is_complete = position.server >= servers.len();
        self.0.redis.metrics().cache.invalidated.inc_by(removed);
        info!(
            pattern = truncate_quoted(&pattern.0),
            removed, "invalidated cached values by pattern"
        );
        Ok(Removed { n: removed, cursor: (!is_complete).then_some(position.into()) })
    }
}
