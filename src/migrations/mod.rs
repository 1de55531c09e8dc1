//! Changes of stored data: the files of `migrations-lua/migrations`, each run once, in order, by one process of all, in
//! small pieces beside the traffic.
//!
//! The service is not ready before they are applied. Two versions of it may run at once: the older one does not
//! know what the newer one applied, and minds it not.

mod store;

use std::{
    fmt::Write as _,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::store::{Piece, State};
use crate::{
    error::{Error, Result},
    ids::{Resource, Sha256Hex},
    locks::{Held, Locks, Wanted},
    redis::{Redis, Retention, Script},
    tasks::Tasks,
};

/// A file of `migrations-lua/migrations`. Once released it never changes.
struct Migration {
    name: &'static str,
    text: &'static str,
    script: Script,
}

impl Migration {
    const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, script: Script::of_schema(text) }
    }

    fn checksum(&self) -> Sha256Hex {
        Sha256Hex::of(self.text)
    }
}

/// All of them, in order. A test compares this with the folder.
static MIGRATIONS: [Migration; 1] = [Migration::new(
    "0001_adopt_python_data",
    include_str!("../../migrations-lua/migrations/0001_adopt_python_data.lua"),
)];

/// Long enough for a failover and a few slow answers, short enough that work of a dead process is soon taken up.
const LOCK_TTL: Duration = Duration::from_secs(10);

/// The state of the stored data. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Schema(Arc<Inner>);

struct Inner {
    redis: Redis,
    locks: Locks,
    retention: Retention,
    /// The part of the time that is worked.
    pace: f64,
    is_current: AtomicBool,
    failure: OnceLock<String>,
}

impl Schema {
    pub(crate) fn new(redis: Redis, locks: Locks, retention: Retention, pace: f64) -> Self {
        let (is_current, failure) = (AtomicBool::new(false), OnceLock::new());
        Self(Arc::new(Inner { redis, locks, retention, pace, is_current, failure }))
    }

    /// Applies what is pending, here or in another process, as soon as Redis is there.
    pub(crate) fn start(&self, tasks: &Tasks) {
        tasks.spawn("schema", self.clone().run(tasks.shutdown()));
    }

    /// Whether the stored data is as this version wants it.
    pub(crate) fn is_current(&self) -> bool {
        self.0.is_current.load(Ordering::Relaxed)
    }

    /// Why this version must not run on this data.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.0.failure.get().map(String::as_str)
    }

    async fn run(self, shutdown: CancellationToken) {
        match shutdown.run_until_cancelled(Box::pin(self.until_current())).await {
            Some(Err(error)) => {
                // The end of this task ends the service, which then says why.
                _ = self.0.failure.set(error.to_string());
            }
            // A task of the service ends with it.
            Some(Ok(())) => shutdown.cancelled().await,
            None => (),
        }
    }

    async fn until_current(&self) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(50);
        // Whether Redis is there is known without asking it, and who waits for the service waits for this.
        const LOOK_FOR_REDIS: Duration = Duration::from_millis(5);
        // What takes longer than this is not waited for: this version understands the older data, too.
        const PATIENCE: Duration = Duration::from_mins(10);
        let begun_at = Instant::now();
        loop {
            let applied = if self.0.redis.is_up() { self.apply_pending().await } else { Ok(false) };
            match applied {
                Ok(true) => break,
                Ok(false) | Err(Error::RedisUnavailable(_)) => (),
                Err(error) => return Err(error),
            }
            if begun_at.elapsed() > PATIENCE && self.0.redis.is_up() && !self.is_current() {
                warn!("changes of stored data are still not applied; serving without them");
                self.0.is_current.store(true, Ordering::Relaxed);
            }
            sleep(if self.0.redis.is_up() { LOOK } else { LOOK_FOR_REDIS }).await;
        }
        self.0.is_current.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Applies what is pending. Returns false if another process is about to.
    ///
    /// # Errors
    ///
    /// [`Error::SchemaChanged`] for a file that is not the one that was applied; [`Error::RedisUnavailable`];
    /// [`Error::Redis`] if a file does not run.
    pub(crate) async fn apply_pending(&self) -> Result<bool> {
        let redis = &self.0.redis;
        if self.pending().await?.is_empty() {
            // Best effort: the record outlives a year, and a full Redis takes no writes.
            _ = store::renew(redis).await;
            return Ok(true);
        }
        let resource = lock();
        let wanted = Wanted { resource, ttl: LOCK_TTL, wait: Duration::ZERO };
        match self.0.locks.exclusively(&wanted, |held| self.apply_alone(held)).await {
            Ok(Some(done)) => done,
            // Somebody else is at it, or the service is about to stop.
            Ok(None) | Err(Error::LockLost { .. } | Error::Busy(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn apply_alone(&self, held: Held) -> Result<bool> {
        const PIECE: usize = 100;
        for migration in self.pending().await? {
            info!(migration = migration.name, "changing stored data");
            let begun_at = Instant::now();
            loop {
                let piece_at = Instant::now();
                let piece =
                    store::apply_piece(&self.0.redis, migration, &held, (PIECE, self.0.retention))
                        .await?;
                match piece {
                    Piece::More => sleep(rest_after(piece_at.elapsed(), self.0.pace)).await,
                    Piece::Applied => break,
                    Piece::Changed => return Err(Error::SchemaChanged(migration.name)),
                    Piece::Lost => return Ok(false),
                }
            }
            info!(migration = migration.name, took = ?begun_at.elapsed(), "stored data changed");
        }
        Ok(true)
    }

    async fn pending(&self) -> Result<Vec<&'static Migration>> {
        let record = store::record(&self.0.redis).await?;
        let mut pending = Vec::new();
        for migration in &MIGRATIONS {
            match record.get(migration.name) {
                Some(it) if it.checksum != migration.checksum().as_str() => {
                    return Err(Error::SchemaChanged(migration.name));
                }
                Some(it) if matches!(it.state, State::Applied(_)) => (),
                _ => pending.push(migration),
            }
        }
        Ok(pending)
    }

    /// A line for each file, and for each that only a newer version knows.
    pub(crate) async fn status(&self) -> Result<String> {
        let record = store::record(&self.0.redis).await?;
        let mut lines = String::new();
        for migration in &MIGRATIONS {
            let said = match record.get(migration.name) {
                None => "pending".to_owned(),
                Some(it) if it.checksum != migration.checksum().as_str() => {
                    "CHANGED since it was applied".to_owned()
                }
                Some(it) => it.state.to_string(),
            };
            _ = writeln!(lines, "{}  {said}", migration.name);
        }
        let is_known = |name: &str| MIGRATIONS.iter().any(|it| it.name == name);
        for (name, it) in record.iter().filter(|it| !is_known(it.0)) {
            _ = writeln!(lines, "{name}  {}, by a newer version", it.state);
        }
        Ok(lines)
    }
}

/// How long to pause after work that took `took`, so that only the part `pace` of the time is worked.
pub(crate) fn rest_after(took: Duration, pace: f64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(1);
    took.mul_f64((1.0 - pace) / pace).min(LONGEST)
}

/// Whoever holds it changes stored data.
fn lock() -> Resource {
    Resource::internal("schema")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_compiled_in_and_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations-lua/migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<String> = MIGRATIONS.iter().map(|it| format!("{}.lua", it.name)).collect();
        assert_eq!(listed, files);
        for (place, name) in files.iter().enumerate() {
            assert!(name.starts_with(&format!("{:04}_", place + 1)), "{name} has a wrong number");
        }
    }

    #[test]
    fn a_released_file_stays_as_it_is() {
        let checksums = ["606aeff3d93675e2d8e3037926886da9d8c13307d20cea15bf9404141a639518"];
        for (migration, released) in MIGRATIONS.iter().zip(checksums) {
            assert_eq!(migration.checksum().as_str(), released, "{}", migration.name);
        }
    }
}
