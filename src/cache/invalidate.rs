//! Removing many values: by what they are tagged with, or by what their keys look like.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::{Cache, store};
use crate::{
    error::{Error, Result},
    ids::{Tag, quoted},
    store::{CACHE_PREFIX, Database},
};

/// A glob of keys, all of cached values.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        const MAX_BYTES: usize = 300;
        if text.starts_with(CACHE_PREFIX) && text.len() <= MAX_BYTES {
            return Ok(Self(text));
        }
        Err(Error::Invalid(format!(
            "pattern: has to begin with {CACHE_PREFIX} and to have at most {MAX_BYTES} bytes, such as cache:model:*; got {}",
            quoted(&text)
        )))
    }
}

/// How far an invalidation has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removed {
    pub(crate) n: u64,
    /// Where to go on, if the time was over before all keys had been seen.
    pub(crate) cursor: Option<u64>,
}

/// Where a walk over all keys has come to. Redis' cursors are smaller than its tables, so above them is room for which
/// server of a cluster it is.
#[derive(Clone, Copy)]
struct Walk {
    server: usize,
    cursor: u64,
}

impl Walk {
    const CURSOR_BITS: u32 = 48;

    fn to(self, next: u64) -> Self {
        if next == 0 {
            Self { server: self.server + 1, cursor: 0 }
        } else {
            Self { cursor: next, ..self }
        }
    }
}

impl From<u64> for Walk {
    fn from(both: u64) -> Self {
        let server = usize::try_from(both >> Self::CURSOR_BITS).unwrap_or(usize::MAX);
        Self { server, cursor: both & ((1 << Self::CURSOR_BITS) - 1) }
    }
}

impl From<Walk> for u64 {
    fn from(walk: Walk) -> Self {
        ((walk.server as u64) << Walk::CURSOR_BITS) | walk.cursor
    }
}

impl Cache {
    /// Removes every value that has `tag`, in one step.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn invalidate_tag(&self, tag: &Tag) -> Result<u64> {
        let n = store::invalidate_tag(&self.0.redis, tag).await?;
        self.0.redis.metrics().cache.invalidated.inc_by(n);
        info!(%tag, n_removed = n, "invalidated cached values by tag");
        Ok(n)
    }

    /// Removes every value whose key matches, in batches, so that Redis is not held up. What is stored meanwhile may
    /// be seen or not.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; what was removed before stays removed.
    pub(crate) async fn invalidate_pattern(&self, pattern: &Pattern, from: u64) -> Result<Removed> {
        const BATCH: u32 = 500;
        const AT_MOST: Duration = Duration::from_secs(2);
        let is_glob = pattern.0.contains(['*', '?', '[', '\\']);
        if !is_glob {
            let n = store::remove(&self.0.redis, &pattern.0).await?;
            self.0.redis.metrics().cache.invalidated.inc_by(n);
            return Ok(Removed { n, cursor: None });
        }
        let deadline = Instant::now() + AT_MOST;
        let (mut n, mut walk) = (0, Walk::from(from));
        let servers = self.0.redis.servers(Database::Cache);
        while let Some((server, _)) = servers.get(walk.server)
            && Instant::now() <= deadline
        {
            let what = (pattern.0.as_str(), BATCH);
            let (next, removed) =
                store::remove_matching(&self.0.redis, *server, walk.cursor, what).await?;
            n += removed;
            walk = walk.to(next);
        }
        let is_done = walk.server >= servers.len();
        self.0.redis.metrics().cache.invalidated.inc_by(n);
        info!(pattern = quoted(&pattern.0), n_removed = n, "invalidated cached values by pattern");
        Ok(Removed { n, cursor: (!is_done).then_some(walk.into()) })
    }
}
