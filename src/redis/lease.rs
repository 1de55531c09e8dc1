//! A lock that one process of all holds while it does something for all of them.

use std::time::Duration;

use fred::types::{Key, Value};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Database, Redis, Script};
use crate::error::Result;

static HOLD: Script = Script::new(include_str!("../../migrations-lua/locks/hold.lua")).repeatable();
static LET_GO: Script = Script::new(include_str!("../../migrations-lua/locks/let_go.lua"));

/// Long enough for a few slow answers, short enough that work of a dead process is soon taken up.
const TTL: Duration = Duration::from_secs(10);

/// One process's claim to a lock of the jobs database. Held only between [`Lease::hold`] and its TTL.
#[derive(Debug)]
pub(crate) struct Lease {
    key: &'static str,
    token: Uuid,
    held_at: Option<Instant>,
}

impl Lease {
    pub(crate) fn new(key: &'static str) -> Self {
        Self { key, token: Uuid::new_v4(), held_at: None }
    }

    pub(crate) fn key(&self) -> &'static str {
        self.key
    }

    /// What stands in the lock while it is ours.
    pub(crate) fn token(&self) -> Uuid {
        self.token
    }

    pub(crate) fn ttl_ms() -> i64 {
        i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX)
    }

    /// Takes the lock, or keeps it; asks Redis only when a part of its time has passed. Returns whether it is ours.
    pub(crate) async fn hold(&mut self, redis: &Redis) -> Result<bool> {
        if self.held_at.is_some_and(|it| it.elapsed() < TTL / 5) {
            return Ok(true);
        }
        let asked_at = Instant::now();
        let args = vec![Value::from(self.token.to_string()), Value::from(Self::ttl_ms())];
        let keys = vec![Key::from_static_str(self.key)];
        let is_ours: bool = HOLD.run(redis.shared(Database::Jobs), keys, args).await?;
        self.held_at = is_ours.then_some(asked_at);
        Ok(is_ours)
    }

    /// Lets go of the lock, if it is still ours.
    pub(crate) async fn let_go(&mut self, redis: &Redis) -> Result<()> {
        self.held_at = None;
        let args = vec![Value::from(self.token.to_string())];
        let keys = vec![Key::from_static_str(self.key)];
        LET_GO.run::<i64>(redis.shared(Database::Jobs), keys, args).await.map(|_| ())
    }
}
