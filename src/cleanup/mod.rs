//! The cleanup: sets a TTL on keys that other programs left without one, and removes old and orphaned keys.
//!
//! One process at a time runs it, under a lock, in small steps with pauses. Each step is one atomic script that checks
//! a key and acts on it, so the cleanup does not race with writers, and an interrupted cleanup leaves no inconsistency:
//! the next one starts from the beginning. `store::KeyKind` lists the known keys; unknown keys are reported and left
//! alone.

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
use self::pass::{CleanupPass, PassError};
pub(crate) use self::report::{CleanupReport, State};
use crate::{
    error::{Error, Result},
    ids::LockName,
    locks::{LockLease, LockRequest, Locks},
    store::{Database, JobRetention, Lifetime, Redis},
    tasks::TaskSupervisor,
};

/// Longer than a failover and a few slow replies; short, so that the lock of a crashed process expires soon.
const LOCK_TTL: Duration = Duration::from_secs(10);

/// Runs cleanups, on schedule and on request. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cleanup(Arc<Inner>);

struct Inner {
    redis: Redis,
    locks: Locks,
    policy: Policy,
    interval: Duration,
    tasks: TaskSupervisor,
}

/// Ages and speed of a cleanup.
struct Policy {
    lifetimes: Lifetimes,
    max_age_secs: u64,
    grace_secs: u64,
    batch: usize,
    /// Fraction of the time that the cleanup works.
    duty_cycle: f64,
}

/// The TTL settings of the components that write the keys.
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

impl Cleanup {
    pub(crate) fn new(
        (redis, locks): (Redis, Locks),
        config: &Config,
        lifetimes: Lifetimes,
        tasks: &TaskSupervisor,
    ) -> Self {
        let policy = Policy {
            // `jobs.ttl` may be longer than `max_age`; the cleanup must not shorten it.
            max_age_secs: config.max_age.as_secs().max(lifetimes.jobs.ttl_secs),
            lifetimes,
            grace_secs: config.orphan_grace.as_secs(),
            batch: config.batch_size,
            duty_cycle: config.duty_cycle,
        };
        Self(Arc::new(Inner {
            redis,
            locks,
            policy,
            interval: config.interval,
            tasks: tasks.clone(),
        }))
    }

    /// Spawns the scheduled cleanup. The first process that finds it due runs it.
    pub(crate) fn start(&self) {
        if !self.0.interval.is_zero() {
            let shutdown = self.0.tasks.shutdown_token();
            self.0.tasks.spawn_critical("cleanup", self.clone().run_scheduled(shutdown));
        }
    }

    async fn run_scheduled(self, shutdown: CancellationToken) {
        const POLL_INTERVAL: Duration = Duration::from_mins(5);
        let poll_interval = self.0.interval.min(POLL_INTERVAL);
        // Sleeps first, so that a cleanup does not slow down the start of many processes.
        while shutdown.run_until_cancelled(sleep(poll_interval)).await.is_some() {
            match self.run_if_due(&shutdown).await {
                Ok(()) | Err(Error::CleanupRunning) => (),
                Err(error) => warn!(%error, "the scheduled cleanup failed; retrying later"),
            }
        }
    }

    async fn run_if_due(&self, shutdown: &CancellationToken) -> Result<()> {
        if let Some(last) = self.last().await? {
            let now = self.now().await?;
            let age = (now - last.started_at).to_std().unwrap_or_default();
            let is_cleanup = matches!(last.state, State::Running | State::Finished);
            if is_cleanup && !last.dry_run && age < self.0.interval {
                return Ok(());
            }
        }
        self.run(false, shutdown).await.map(|_| ())
    }

    /// Runs a cleanup to its end.
    ///
    /// # Errors
    ///
    /// [`Error::CleanupRunning`], or [`Error::RedisUnavailable`] if the cleanup could not start. The report of a
    /// cleanup that failed later contains the error.
    pub(crate) async fn run(
        &self,
        dry_run: bool,
        stop: &CancellationToken,
    ) -> Result<CleanupReport> {
        let (started, _) = oneshot::channel();
        self.clone().run_exclusive(dry_run, stop.clone(), started).await
    }

    /// Starts a cleanup in the background and returns its first report.
    ///
    /// # Errors
    ///
    /// Those of [`Cleanup::run`].
    pub(crate) async fn run_in_background(&self, dry_run: bool) -> Result<CleanupReport> {
        let (started, mut first_report) = oneshot::channel();
        let shutdown = self.0.tasks.shutdown_token();
        let mut run = Box::pin(self.clone().run_exclusive(dry_run, shutdown, started));
        tokio::select! {
            biased;
            ended = &mut run => ended,
            Ok(report) = &mut first_report => {
                self.0.tasks.spawn("cleanup on demand", async move { drop(run.await) });
                Ok(report)
            }
        }
    }

    /// The last cleanup of any process, or the one that is running.
    pub(crate) async fn last(&self) -> Result<Option<CleanupReport>> {
        let last = store::load(&self.0.redis).await?;
        // The metric is the same in every process, so it includes cleanups of other processes.
        if let Some(report) = &last {
            self.record_finish(report);
        }
        Ok(last)
    }

    /// Runs a cleanup under the lock. Sends the first report to `started`.
    async fn run_exclusive(
        self,
        dry_run: bool,
        stop: CancellationToken,
        started: oneshot::Sender<CleanupReport>,
    ) -> Result<CleanupReport> {
        let wanted = LockRequest { resource: lock(), ttl: LOCK_TTL, wait: Duration::ZERO };
        // Outside of `work`, which is dropped at any await when the lock is lost.
        let mut report = None;
        let slot = &mut report;
        let (this, stop) = (&self, &stop);
        let work = |held: LockLease| async move {
            let report = slot.insert(this.begin(held, dry_run).await?);
            _ = started.send(report.clone());
            this.run_pass(report, stop).await;
            Ok::<_, Error>(())
        };
        let interruption = match Box::pin(self.0.locks.with_lock(&wanted, work)).await {
            Ok(Some(Ok(()))) => None,
            Ok(None) => Some("the process stopped"),
            Err(Error::LockLost { .. }) => Some("the lock was lost"),
            Ok(Some(Err(error))) | Err(error) => return Err(error),
        };
        let mut report = report.ok_or(Error::CleanupRunning)?;
        if let Some(reason) = interruption {
            // Not saved: the report in Redis may belong to the new holder of the lock. A running report without the
            // lock is shown as interrupted anyway.
            report.end(State::Interrupted, Some(reason.to_owned()), Utc::now());
        }
        self.record(&report);
        Ok(report)
    }

    /// Logs a cleanup of this process and counts it in the metrics.
    fn record(&self, report: &CleanupReport) {
        let totals = report.totals;
        info!(
            state = ?report.state, error = report.error, dry_run = report.dry_run, scanned = totals.scanned,
            adopted = totals.adopted, removed = totals.removed, pruned = totals.pruned,
            longest_step_ms = report.longest_step_ms, "cleanup ended"
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
        self.record_finish(report);
    }

    fn record_finish(&self, report: &CleanupReport) {
        if let (State::Finished, false, Some(at)) = (report.state, report.dry_run, report.ended_at)
        {
            self.0.redis.metrics().cleanup.last_finished.set(at.timestamp());
        }
    }

    async fn begin(&self, held: LockLease, dry_run: bool) -> Result<CleanupReport> {
        let report = CleanupReport::begin(held.token, dry_run, self.now().await?);
        store::save(&self.0.redis, &report).await?;
        Ok(report)
    }

    async fn run_pass(&self, report: &mut CleanupReport, stop: &CancellationToken) {
        let redis = &self.0.redis;
        let pass = CleanupPass::new(redis, &self.0.policy, report, stop);
        let (state, error) = match pass.run().await {
            Ok(()) => (State::Finished, None),
            Err(PassError::Shutdown) => {
                (State::Interrupted, Some("the process stopped".to_owned()))
            }
            Err(PassError::Failed(error)) => (State::Failed, Some(error.to_string())),
        };
        report.end(state, error, self.now().await.unwrap_or_else(|_| Utc::now()));
        _ = store::save(redis, report).await;
    }

    /// The time of Redis, which is the same for all processes.
    async fn now(&self) -> Result<DateTime<Utc>> {
        let ms = self.0.redis.default_keyspace(Database::Jobs).now_ms().await?;
        let at = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis);
        at.ok_or_else(|| Error::CorruptData { what: "time of Redis", reason: ms.to_string() })
    }
}

/// The lock that a cleanup holds.
fn lock() -> LockName {
    LockName::reserved("cleanup")
}
