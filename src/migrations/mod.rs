//! Migrations of stored data: the scripts in `migrations-lua/migrations`. Each runs once, in order, in one process at a
//! time, in small steps while requests are served.
//!
//! The service is not ready until all migrations are applied. Two versions of the service can run at the same time: the
//! older version ignores migrations that only the newer version knows.

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

use self::store::{State, StepResult};
use crate::{
    error::{Error, Result},
    ids::{LockName, Sha256Hex},
    locks::{LockLease, LockRequest, Locks},
    store::{JobRetention, Redis, Script},
    tasks::TaskSupervisor,
};

/// A script in `migrations-lua/migrations`. A released script never changes.
struct Migration {
    name: &'static str,
    text: &'static str,
    script: Script,
}

impl Migration {
    const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, script: Script::migration(text) }
    }

    fn checksum(&self) -> Sha256Hex {
        Sha256Hex::digest(self.text)
    }
}

/// All migrations, in order. A test compares this list with the folder.
static MIGRATIONS: [Migration; 1] = [Migration::new(
    "0001_adopt_python_data",
    include_str!("../../migrations-lua/migrations/0001_adopt_python_data.lua"),
)];

/// Longer than a failover and a few slow replies; short, so that the lock of a crashed process expires soon.
const LOCK_TTL: Duration = Duration::from_secs(10);

/// Applies migrations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Migrator(Arc<Inner>);

struct Inner {
    redis: Redis,
    locks: Locks,
    retention: JobRetention,
    /// Fraction of the time that migrations work.
    duty_cycle: f64,
    is_current: AtomicBool,
    failure: OnceLock<String>,
}

impl Migrator {
    pub(crate) fn new(
        redis: Redis,
        locks: Locks,
        retention: JobRetention,
        duty_cycle: f64,
    ) -> Self {
        let (is_current, failure) = (AtomicBool::new(false), OnceLock::new());
        Self(Arc::new(Inner { redis, locks, retention, duty_cycle, is_current, failure }))
    }

    /// Spawns the task that applies pending migrations, or waits for the process that does, as soon as Redis is up.
    pub(crate) fn start(&self, tasks: &TaskSupervisor) {
        tasks.spawn_critical("migrations", self.clone().run(tasks.shutdown_token()));
    }

    /// Whether the service may serve requests: all migrations are applied, or the wait for them timed out.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.0.is_current.load(Ordering::Relaxed)
    }

    /// The error that stopped the migrations, and with them the service.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.0.failure.get().map(String::as_str)
    }

    async fn run(self, shutdown: CancellationToken) {
        match shutdown.run_until_cancelled(Box::pin(self.migrate_to_latest())).await {
            Some(Err(error)) => {
                // The service stops when this critical task ends, and then reports the error.
                _ = self.0.failure.set(error.to_string());
            }
            // A critical task must not end before the service does.
            Some(Ok(())) => shutdown.cancelled().await,
            None => (),
        }
    }

    async fn migrate_to_latest(&self) -> Result<()> {
        const POLL_INTERVAL: Duration = Duration::from_millis(50);
        // The state of the connections is known without a call, and the start of the service waits for this.
        const REDIS_POLL_INTERVAL: Duration = Duration::from_millis(5);
        // After this the service becomes ready without the migrations: this version understands the old data too.
        const TIMEOUT: Duration = Duration::from_mins(10);
        let started_at = Instant::now();
        loop {
            let applied = if self.0.redis.is_up() { self.apply_pending().await } else { Ok(false) };
            match applied {
                Ok(true) => break,
                Ok(false) | Err(Error::RedisUnavailable(_)) => (),
                Err(error) => return Err(error),
            }
            if started_at.elapsed() > TIMEOUT && self.0.redis.is_up() && !self.is_up_to_date() {
                warn!("migrations are still not applied; serving requests without them");
                self.0.is_current.store(true, Ordering::Relaxed);
            }
            sleep(if self.0.redis.is_up() { POLL_INTERVAL } else { REDIS_POLL_INTERVAL }).await;
        }
        self.0.is_current.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Applies pending migrations. Returns false if another process holds the lock or the service is shutting down.
    ///
    /// # Errors
    ///
    /// [`Error::MigrationChecksumMismatch`] if a script differs from the one that was applied; [`Error::RedisUnavailable`];
    /// [`Error::Redis`] if a script fails.
    pub(crate) async fn apply_pending(&self) -> Result<bool> {
        let redis = &self.0.redis;
        if self.pending().await?.is_empty() {
            // Best effort: the TTL is a year, and a full Redis rejects writes.
            _ = store::refresh_ttl(redis).await;
            return Ok(true);
        }
        let wanted = LockRequest {
            resource: LockName::reserved("schema"),
            ttl: LOCK_TTL,
            wait: Duration::ZERO,
        };
        match self.0.locks.with_lock(&wanted, |lease| self.apply_exclusive(lease)).await {
            Ok(Some(applied)) => applied,
            Ok(None) | Err(Error::LockLost { .. } | Error::Overloaded(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn apply_exclusive(&self, lease: LockLease) -> Result<bool> {
        const STEP_SIZE: usize = 100;
        let options = (STEP_SIZE, self.0.retention);
        for migration in self.pending().await? {
            info!(migration = migration.name, "applying a migration");
            let started_at = Instant::now();
            loop {
                let step_started_at = Instant::now();
                match store::run_step(&self.0.redis, migration, &lease, options).await? {
                    StepResult::More => {
                        let delay = throttle_delay(step_started_at.elapsed(), self.0.duty_cycle);
                        sleep(delay).await;
                    }
                    StepResult::Applied => break,
                    StepResult::Changed => {
                        return Err(Error::MigrationChecksumMismatch(migration.name));
                    }
                    StepResult::LockLost => return Ok(false),
                }
            }
            info!(migration = migration.name, duration = ?started_at.elapsed(), "applied a migration");
        }
        Ok(true)
    }

    async fn pending(&self) -> Result<Vec<&'static Migration>> {
        let records = store::records(&self.0.redis).await?;
        let mut pending = Vec::new();
        for migration in &MIGRATIONS {
            match records.get(migration.name) {
                Some(record) if record.checksum != migration.checksum().as_str() => {
                    return Err(Error::MigrationChecksumMismatch(migration.name));
                }
                Some(record) if matches!(record.state, State::Applied(_)) => (),
                _ => pending.push(migration),
            }
        }
        Ok(pending)
    }

    /// The state of all migrations, one per line, including migrations that only a newer version knows.
    pub(crate) async fn status(&self) -> Result<String> {
        let records = store::records(&self.0.redis).await?;
        let mut lines = String::new();
        for migration in &MIGRATIONS {
            let state = match records.get(migration.name) {
                None => "pending".to_owned(),
                Some(record) if record.checksum != migration.checksum().as_str() => {
                    "CHANGED since it was applied".to_owned()
                }
                Some(record) => record.state.to_string(),
            };
            _ = writeln!(lines, "{}  {state}", migration.name);
        }
        let is_known = |name: &str| MIGRATIONS.iter().any(|migration| migration.name == name);
        for (name, record) in records.iter().filter(|(name, _)| !is_known(name)) {
            _ = writeln!(lines, "{name}  {}, by a newer version", record.state);
        }
        Ok(lines)
    }
}

/// The pause after work of a duration, so that only the fraction `duty_cycle` of the time is worked; at most a second.
pub(crate) fn throttle_delay(duration: Duration, duty_cycle: f64) -> Duration {
    const MAX_DELAY: Duration = Duration::from_secs(1);
    duration.mul_f64((1.0 - duty_cycle) / duty_cycle).min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_listed_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations-lua/migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<String> =
            MIGRATIONS.iter().map(|migration| format!("{}.lua", migration.name)).collect();
        assert_eq!(listed, files);
        for (i, name) in files.iter().enumerate() {
            assert!(name.starts_with(&format!("{:04}_", i + 1)), "{name} has a wrong number");
        }
    }

    #[test]
    fn a_released_file_never_changes() {
        let checksums = ["606aeff3d93675e2d8e3037926886da9d8c13307d20cea15bf9404141a639518"];
        for (migration, released) in MIGRATIONS.iter().zip(checksums) {
            assert_eq!(migration.checksum().as_str(), released, "{}", migration.name);
        }
    }
}
