//! The cleanup: keys that other programs left without an end get one, what is old or belongs to nothing goes.
//!
//! One process does it for all, whoever holds a lock, in small steps with pauses between them. Each step is one
//! atomic script that looks at a key and acts on it, so no writer is raced, and a cleanup that dies has done no harm:
//! the next one begins anew. Which keys there are is `store::KeyKind`'s to say; others are reported, never touched.

mod config;
mod pass;
mod report;
mod store;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{sync::oneshot, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use self::config::Config;
use self::pass::{Stopped, Sweep};
pub(crate) use self::report::{Report, State};
use crate::{
    error::{Error, Result},
    ids::Resource,
    locks::{Held, Locks, Wanted},
    store::{Database, JobRetention, Lifetime, Redis},
    tasks::Tasks,
};

/// Long enough for a failover and a few slow answers, short enough that a dead process is soon forgotten.
const LOCK_TTL: Duration = Duration::from_secs(10);

/// Keeps Redis clean. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Maintenance(Arc<Inner>);

struct Inner {
    redis: Redis,
    locks: Locks,
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
    pub(crate) jobs: JobRetention,
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
    pub(crate) fn new(
        (redis, locks): (Redis, Locks),
        config: &Config,
        lifetimes: Lifetimes,
        tasks: &Tasks,
    ) -> Self {
        let policy = Policy {
            // Whoever keeps jobs longer wants them kept.
            max_age_secs: config.max_age.as_secs().max(lifetimes.jobs.ttl_secs),
            lifetimes,
            grace_secs: config.orphan_grace.as_secs(),
            batch: config.batch,
            pace: config.pace,
        };
        Self(Arc::new(Inner { redis, locks, policy, every: config.every, tasks: tasks.clone() }))
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
        let (begun, _) = oneshot::channel();
        self.clone().run_alone(dry_run, stop.clone(), begun).await
    }

    /// Begins to clean up, in the background of this process.
    ///
    /// # Errors
    ///
    /// As [`Maintenance::run`].
    pub(crate) async fn run_in_background(&self, dry_run: bool) -> Result<Report> {
        let (begun, mut has_begun) = oneshot::channel();
        let mut run = Box::pin(self.clone().run_alone(dry_run, self.0.tasks.shutdown(), begun));
        tokio::select! {
            biased;
            ended = &mut run => ended,
            Ok(report) = &mut has_begun => {
                self.0.tasks.spawn_unguarded("cleanup on demand", async move { drop(run.await) });
                Ok(report)
            }
        }
    }

    /// The last cleanup of any process, or the one that is running.
    pub(crate) async fn last(&self) -> Result<Option<Report>> {
        let last = store::load(&self.0.redis).await?;
        // Not only its own: every process shows when any last finished one.
        if let Some(it) = &last {
            self.note_finish(it);
        }
        Ok(last)
    }

    /// Cleans up under the lock, and tells when it has begun.
    async fn run_alone(
        self,
        dry_run: bool,
        stop: CancellationToken,
        begun: oneshot::Sender<Report>,
    ) -> Result<Report> {
        let wanted = Wanted { resource: lock(), ttl: LOCK_TTL, wait: Duration::ZERO };
        // Not inside the work, which ends at any point when the lock is lost.
        let mut report = None;
        let kept = &mut report;
        let (this, stop) = (&self, &stop);
        let work = |held: Held| async move {
            let report = kept.insert(this.begin(held, dry_run).await?);
            _ = begun.send(report.clone());
            this.sweep(report, stop).await;
            Ok::<_, Error>(())
        };
        let why = match Box::pin(self.0.locks.exclusively(&wanted, work)).await {
            Ok(Some(Ok(()))) => None,
            Ok(None) => Some("its process stopped"),
            Err(Error::LockLost { .. }) => Some("it lost its lock"),
            Ok(Some(Err(error))) | Err(error) => return Err(error),
        };
        let mut report = report.ok_or(Error::CleanupRunning)?;
        if let Some(why) = why {
            // Not saved: the report in Redis may be that of whoever has the lock now, and without its lock ours is
            // read as interrupted.
            report.end(State::Interrupted, Some(why.to_owned()), Utc::now());
        }
        self.note(&report);
        Ok(report)
    }

    /// The one place that knows how cleanups of this process end.
    fn note(&self, report: &Report) {
        let totals = report.totals;
        info!(
            state = ?report.state, error = report.error, dry_run = report.dry_run, scanned = totals.scanned,
            adopted = totals.adopted, removed = totals.removed, pruned = totals.pruned,
            longest_step_ms = report.longest_step_ms, "cleaned up"
        );
        if report.dry_run {
            return;
        }
        let metrics = &self.0.redis.metrics().cleanup;
        match report.state {
            State::Finished => metrics.finished.inc(),
            State::Running | State::Interrupted => metrics.interrupted.inc(),
            State::Failed => metrics.failed.inc(),
        };
        metrics.adopted.inc_by(totals.adopted);
        metrics.removed.inc_by(totals.removed);
        metrics.pruned.inc_by(totals.pruned);
        self.note_finish(report);
    }

    fn note_finish(&self, report: &Report) {
        if let (State::Finished, false, Some(at)) = (report.state, report.dry_run, report.ended_at)
        {
            self.0.redis.metrics().cleanup.last_finished.set(at.timestamp());
        }
    }

    async fn begin(&self, held: Held, dry_run: bool) -> Result<Report> {
        let report = Report::begin(held.token, dry_run, self.now().await?);
        store::save(&self.0.redis, &report).await?;
        Ok(report)
    }

    async fn sweep(&self, report: &mut Report, stop: &CancellationToken) {
        let redis = &self.0.redis;
        let sweep = Sweep::new(redis, &self.0.policy, report, stop);
        let (state, error) = match sweep.run().await {
            Ok(()) => (State::Finished, None),
            Err(Stopped::ByShutdown) => {
                (State::Interrupted, Some("its process stopped".to_owned()))
            }
            Err(Stopped::Failed(error)) => (State::Failed, Some(error.to_string())),
        };
        report.end(state, error, self.now().await.unwrap_or_else(|_| Utc::now()));
        _ = store::save(redis, report).await;
    }

    async fn now(&self) -> Result<DateTime<Utc>> {
        let ms = self.0.redis.default_keyspace(Database::Jobs).now_ms().await?;
        let at = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis);
        at.ok_or_else(|| Error::Corrupt { what: "time", reason: ms.to_string() })
    }
}

/// Whoever holds it cleans up.
fn lock() -> Resource {
    Resource::internal("cleanup")
}
