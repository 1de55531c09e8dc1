//! The Celery leader: applies the results of workers to jobs, and recovers from failures on the way.
//!
//! Exactly one process is the leader, elected by a lock. It receives published results, and reads the stored results
//! when it becomes the leader or may have missed messages. At each tick it sends tasks that were left in the outbox,
//! ends cancellations that workers did not confirm in time, and handles stalled tasks.

pub(crate) mod heartbeats;
mod result_consumer;
mod result_message;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use self::heartbeats::{Heartbeats, Worker};
use crate::{
    celery::{Celery, OnStalled, QueueReport},
    error::Result,
    ids::LockName,
    jobs::Jobs,
    locks::{LockRequest, Locks},
    progress::Progress,
    redis::PubSubEvent,
    tasks::TaskSupervisor,
};

/// The part of this process in the Celery leadership, and its view of the workers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Workers(Arc<Inner>);

struct Inner {
    celery: Celery,
    jobs: Jobs,
    progress: Progress,
    locks: Locks,
    heartbeats: Heartbeats,
    /// The last attempt to read the stored results failed and has to be repeated.
    needs_reconciliation: AtomicBool,
    /// Stalled tasks that have been logged, so that each is logged and counted once.
    known_stalled: Mutex<HashSet<Uuid>>,
}

/// Result messages that this process has received while it was the Celery leader.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ResultMessages {
    /// Messages of tasks that this service sent.
    observed: u64,
    /// Messages of other tasks.
    foreign: u64,
    /// Messages that are not valid Celery result messages.
    malformed: u64,
}

/// State of the queue, for metrics.
pub(crate) struct QueueGauges {
    pub(crate) report: QueueReport,
    pub(crate) worker_count: usize,
}

impl Workers {
    /// The workers that sent a heartbeat in the last minute.
    pub(crate) fn alive(&self) -> Vec<Worker> {
        self.0.heartbeats.live()
    }

    pub(crate) fn start(
        celery: Celery,
        jobs: Jobs,
        progress: Progress,
        locks: Locks,
        tasks: &TaskSupervisor,
    ) -> Self {
        let workers = Self(Arc::new(Inner {
            celery,
            jobs,
            progress,
            locks,
            heartbeats: Heartbeats::default(),
            needs_reconciliation: AtomicBool::new(false),
            known_stalled: Mutex::default(),
        }));
        tasks.spawn_critical("celery leader", workers.clone().run(tasks.shutdown_token()));
        workers
    }

    /// Tries at each tick to become the leader, until `shutdown`.
    async fn run(self, shutdown: CancellationToken) {
        const RETRY_DELAY: Duration = Duration::from_millis(100);
        let mut messages = self.0.celery.messages().events();
        let mut ticks = interval(self.0.celery.config().poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                self.receive_until_tick(&mut messages, &mut ticks, false).await;
                let lock = self.leader_lock();
                let messages = &mut messages;
                let leadership = self
                    .0
                    .locks
                    .with_lock(&lock, |held| self.run_as_leader(held.fencing_token, messages));
                if let Err(error) = Box::pin(leadership).await {
                    debug!(%error, "lost or could not acquire the Celery leadership; retrying");
                    ticks.reset_after(RETRY_DELAY);
                }
            }
        };
        _ = shutdown.run_until_cancelled(Box::pin(work)).await;
    }

    fn leader_lock(&self) -> LockRequest {
        const MISSED_TICKS: u32 = 5;
        const MIN_TTL: Duration = Duration::from_millis(500);
        let ttl = self.0.celery.config().poll_interval.saturating_mul(MISSED_TICKS).max(MIN_TTL);
        LockRequest { resource: LockName::reserved("celery-leader"), ttl, wait: Duration::ZERO }
    }

    /// Does the leader's work until the lock is lost, which drops this future.
    async fn run_as_leader(&self, fencing_token: u64, messages: &mut Receiver<PubSubEvent>) {
        info!(fencing_token, "this process is now the Celery leader");
        self.reconcile_stored_results().await;
        let mut ticks = interval(self.0.celery.config().poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.receive_until_tick(messages, &mut ticks, true).await;
            if let Err(error) = self.run_periodic_duties().await {
                warn!(%error, "a duty of the Celery leader failed; retrying at the next tick");
            }
        }
    }

    /// Handles messages until the next tick.
    async fn receive_until_tick(
        &self,
        messages: &mut Receiver<PubSubEvent>,
        ticks: &mut Interval,
        is_leader: bool,
    ) {
        loop {
            tokio::select! {
                message = messages.recv() => self.handle_message(message, messages, is_leader).await,
                _ = ticks.tick() => return,
            }
        }
    }

    async fn handle_message(
        &self,
        message: Result<PubSubEvent, RecvError>,
        messages: &mut Receiver<PubSubEvent>,
        is_leader: bool,
    ) {
        match message {
            Ok(PubSubEvent::Message { channel, payload }) => {
                match channel.strip_prefix("celery-task-meta-") {
                    Some(task) if is_leader => self.observe(task, &payload).await,
                    Some(_) => (),
                    None => self.0.heartbeats.record(&payload),
                }
            }
            Ok(PubSubEvent::Lagged) | Err(RecvError::Lagged(_)) => {
                // The last missed message of each task is also a stored result.
                *messages = messages.resubscribe();
                if is_leader {
                    self.reconcile_stored_results().await;
                }
            }
            Err(RecvError::Closed) => (),
        }
    }

    async fn run_periodic_duties(&self) -> Result<()> {
        if self.0.needs_reconciliation.load(Ordering::Relaxed) {
            self.reconcile_stored_results().await;
        }
        let tick_ms =
            u64::try_from(self.0.celery.config().poll_interval.as_millis()).unwrap_or(u64::MAX);
        let sent = self.0.celery.send_outbox(tick_ms).await?;
        if sent > 0 {
            info!(tasks = sent, "sent tasks that were left in the outbox");
        }
        let cancelled = self.0.jobs.force_overdue_cancellations().await?;
        if cancelled > 0 {
            info!(jobs = cancelled, "cancelled jobs whose workers did not stop in time");
        }
        self.handle_stalled_tasks().await
    }

    /// The state of the queue and the number of live workers.
    ///
    /// # Errors
    ///
    /// If the broker does not reply.
    pub(crate) async fn gauges(&self) -> Result<QueueGauges> {
        let report = self.queue_report().await?;
        Ok(QueueGauges { report, worker_count: self.0.heartbeats.live().len() })
    }

    pub(crate) fn result_messages(&self) -> ResultMessages {
        let celery = &self.0.jobs.metrics().celery;
        ResultMessages {
            observed: celery.observed.get(),
            foreign: celery.foreign.get(),
            malformed: celery.malformed.get(),
        }
    }

    /// The state of the queue, with the age of the oldest job in it.
    pub(crate) async fn queue_report(&self) -> Result<QueueReport> {
        let mut report = self.0.celery.queue_report().await?;
        let mut ages = Vec::new();
        for id in &report.next_jobs {
            let waiting_since = self.0.jobs.find(*id).await?.and_then(|job| job.updated_at);
            ages.extend(waiting_since.map(|since| (chrono::Utc::now() - since).num_seconds()));
        }
        report.oldest_age_seconds =
            ages.into_iter().max().map(|secs| u64::try_from(secs).unwrap_or(0));
        Ok(report)
    }

    /// Ids of unfinished tasks without a heartbeat for `celery.stalled_after`.
    pub(crate) async fn stalled(&self) -> Result<Vec<String>> {
        let silent = self.silent_tasks().await?;
        Ok(silent.iter().map(Uuid::to_string).collect())
    }

    async fn silent_tasks(&self) -> Result<Vec<Uuid>> {
        const MAX_TASKS: usize = 100;
        let silent_for = self.0.celery.config().stalled_after.as_millis();
        let silent_ms = u64::try_from(silent_for).unwrap_or(u64::MAX);
        self.0.celery.active(silent_ms, MAX_TASKS).await
    }

    async fn handle_stalled_tasks(&self) -> Result<()> {
        for task in self.silent_tasks().await? {
            if self.0.celery.is_queued(task).await? {
                // No worker has taken the task yet, so it is not stalled.
                self.0.celery.record_heartbeat(task).await?;
                continue;
            }
            let is_new = self.0.known_stalled.lock().insert(task);
            if is_new {
                self.0.jobs.metrics().celery.stalled.inc();
                warn!(task_id = %task, "a task is stalled: no heartbeat for celery.stalled_after");
            }
            match self.0.celery.config().on_stalled {
                OnStalled::Show => (),
                OnStalled::Fail => self.fail(task, "the worker sent no heartbeat").await?,
                OnStalled::Resend => self.0.celery.resend(task).await?,
            }
        }
        Ok(())
    }
}
