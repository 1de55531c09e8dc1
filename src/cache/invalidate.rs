//! Removing many values: by what they are tagged with, or by what their keys look like.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::{Cache, store};
use crate::{
    error::{Error, Result},
    ids::{Tag, quoted},
    redis::CACHED,
};

/// A glob of keys, all of cached values.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        const MAX_BYTES: usize = 300;
        if text.starts_with(CACHED) && text.len() <= MAX_BYTES {
            return Ok(Self(text));
        }
        Err(Error::Invalid(format!(
            "pattern: has to begin with {CACHED} and to have at most {MAX_BYTES} bytes, such as cache:model:*; got {}",
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
            let n = store::remove(&self.0.redis, vec![pattern.0.as_str()]).await?;
            self.0.redis.metrics().cache.invalidated.inc_by(n);
            return Ok(Removed { n, cursor: None });
        }
        let deadline = Instant::now() + AT_MOST;
        let (mut n, mut cursor) = (0, from);
        loop {
            let (next, keys) = store::scan(&self.0.redis, cursor, &pattern.0, BATCH).await?;
            if !keys.is_empty() {
                n += store::remove(&self.0.redis, keys).await?;
            }
            cursor = next;
            if cursor == 0 || Instant::now() > deadline {
                break;
            }
        }
        self.0.redis.metrics().cache.invalidated.inc_by(n);
        info!(pattern = quoted(&pattern.0), n_removed = n, "invalidated cached values by pattern");
        Ok(Removed { n, cursor: (cursor != 0).then_some(cursor) })
    }
}
