//! The cleanup: keys that other programs left without an end get one, what is old or belongs to nothing goes.
//!
//! One process does it for all, whoever holds a lock, in small steps with pauses between them. Each step is one
//! atomic script that looks at a key and acts on it, so no writer is raced, and a cleanup that dies has done no harm:
//! the next one begins anew. Which keys there are is `redis::Family`'s to say; others are reported, never touched.

mod config;
mod report;
pub(crate) mod routes;
mod store;
mod sweep;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use self::config::Config;
pub(crate) use self::report::{Report, State};
use self::sweep::{Stopped, Sweep};
use crate::{
    error::{Error, Result},
    redis::{CLEANUP_LOCK, Database, Lease, Lifetime, Redis, Retention},
    tasks::Tasks,
};

/// Keeps Redis clean. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Maintenance(Arc<Inner>);

struct Inner {
    redis: Redis,
    policy: Policy,
    every: Duration,
    tasks: Tasks,
}

/// What a cleanup may do, and how fast.
struct Policy {
    lifetimes: Lifetimes,
    max_age_secs: u64,
    grace_secs: u64,
    batch: usize,
    pace: f64,
}

/// How long keys live, by the settings of those who write them.
pub(crate) struct Lifetimes {
    pub(crate) jobs: Retention,
    pub(crate) cached_status: Duration,
    pub(crate) metrics: Duration,
}

impl Policy {
    fn ttl_secs(&self, lifetime: Lifetime) -> u64 {
        match lifetime {
            Lifetime::Jobs => self.lifetimes.jobs.ttl_secs,
            Lifetime::Metrics => self.lifetimes.metrics.as_secs(),
            Lifetime::CachedStatus => self.lifetimes.cached_status.as_secs().max(1),
            Lifetime::Secs(secs) => secs,
        }
    }
}

impl Maintenance {
    pub(crate) fn new(redis: Redis, config: &Config, lifetimes: Lifetimes, tasks: &Tasks) -> Self {
        let policy = Policy {
            // Whoever keeps jobs longer wants them kept.
            max_age_secs: config.max_age.as_secs().max(lifetimes.jobs.ttl_secs),
            lifetimes,
            grace_secs: config.orphan_grace.as_secs(),
            batch: config.batch,
            pace: config.pace,
        };
        Self(Arc::new(Inner { redis, policy, every: config.every, tasks: tasks.clone() }))
    }

    /// Cleans up from time to time, in whichever process finds first that it is due.
    pub(crate) fn start(&self) {
        if !self.0.every.is_zero() {
            let shutdown = self.0.tasks.shutdown();
            self.0.tasks.spawn("cleanup", self.clone().keep_clean(shutdown));
        }
    }

    async fn keep_clean(self, shutdown: CancellationToken) {
        // Not at the start: many processes may be starting, and have better things to do.
        const LOOK: Duration = Duration::from_mins(5);
        let look = self.0.every.min(LOOK);
        while shutdown.run_until_cancelled(sleep(look)).await.is_some() {
            match self.run_if_due(&shutdown).await {
                Ok(()) | Err(Error::CleanupRunning) => (),
                Err(error) => warn!(%error, "could not clean up; trying again later"),
            }
        }
    }

    async fn run_if_due(&self, shutdown: &CancellationToken) -> Result<()> {
        if let Some(last) = self.last().await? {
            let now = self.now().await?;
            let age = (now - last.started_at).to_std().unwrap_or_default();
            let counts = !last.dry_run && matches!(last.state, State::Running | State::Finished);
            if counts && age < self.0.every {
                return Ok(());
            }
        }
        self.run(false, shutdown).await.map(|_| ())
    }

    /// Cleans up, and returns when that is over.
    ///
    /// # Errors
    ///
    /// [`Error::CleanupRunning`], or [`Error::RedisUnavailable`] if it could not begin. One that began and failed says
    /// so in its report.
    pub(crate) async fn run(&self, dry_run: bool, stop: &CancellationToken) -> Result<Report> {
        let (lease, report) = self.begin(dry_run).await?;
        Ok(self.clone().sweep(lease, report, stop.clone()).await)
    }

    /// Begins to clean up, in the background of this process.
    ///
    /// # Errors
    ///
    /// As [`Maintenance::run`].
    async fn run_in_background(&self, dry_run: bool) -> Result<Report> {
        let (lease, report) = self.begin(dry_run).await?;
        let run = self.clone().sweep(lease, report.clone(), self.0.tasks.shutdown());
        self.0.tasks.spawn_unguarded("cleanup on demand", async move { drop(run.await) });
        Ok(report)
    }

    /// The last cleanup of any process, or the one that is running.
    async fn last(&self) -> Result<Option<Report>> {
        store::load(&self.0.redis).await
    }

    async fn begin(&self, dry_run: bool) -> Result<(Lease, Report)> {
        let redis = &self.0.redis;
        let mut lease = Lease::new(CLEANUP_LOCK);
        if !lease.hold(redis).await? {
            return Err(Error::CleanupRunning);
        }
        let report = Report::begin(lease.token(), dry_run, self.now().await?);
        store::save(redis, &report).await?;
        Ok((lease, report))
    }

    async fn sweep(self, mut lease: Lease, mut report: Report, stop: CancellationToken) -> Report {
        let redis = &self.0.redis;
        let sweep = Sweep::new(redis, &self.0.policy, &mut lease, &mut report, &stop);
        let (state, error) = match Box::pin(sweep.run()).await {
            Ok(()) => (State::Finished, None),
            Err(Stopped::ByShutdown) => {
                (State::Interrupted, Some("its process stopped".to_owned()))
            }
            Err(Stopped::LostLock) => (State::Interrupted, Some("it lost its lock".to_owned())),
            Err(Stopped::Failed(error)) => (State::Failed, Some(error.to_string())),
        };
        let lost_lock = error.as_deref() == Some("it lost its lock");
        (report.state, report.error) = (state, error);
        report.ended_at = Some(self.now().await.unwrap_or_else(|_| Utc::now()));
        // The report of whoever has the lock now is not to be overwritten.
        if !lost_lock {
            _ = store::save(redis, &report).await;
            _ = lease.let_go(redis).await;
        }
        let totals = report.totals;
        info!(
            state = ?report.state, error = report.error, dry_run = report.dry_run, scanned = totals.scanned,
            adopted = totals.adopted, removed = totals.removed, pruned = totals.pruned,
            longest_step_ms = report.longest_step_ms, "cleaned up"
        );
        report
    }

    async fn now(&self) -> Result<DateTime<Utc>> {
        let ms = self.0.redis.shared(Database::Jobs).now_ms().await?;
        let at = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis);
        at.ok_or_else(|| Error::Corrupt { what: "time", reason: ms.to_string() })
    }
}
