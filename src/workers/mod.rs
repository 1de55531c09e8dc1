//! What Celery workers say, made progress of jobs; and what nobody else looks after: tasks that were not handed
//! over, cancellations that were not heeded, work that fell silent.
//!
//! One process does this for all, whoever holds a lock. It hears results live, and reads the stored ones when it
//! takes over or may have missed some.

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
    ids::Resource,
    jobs::Jobs,
    locks::{Locks, Wanted},
    progress::Progress,
    redis::PubSubEvent,
    tasks::Tasks,
};

/// Looks after Celery. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Workers(Arc<Inner>);

struct Inner {
    celery: Celery,
    jobs: Jobs,
    progress: Progress,
    locks: Locks,
    heartbeats: Heartbeats,
    /// Whether stored results could not be read when they should have been.
    is_behind: AtomicBool,
    /// Stalled tasks that were logged.
    known_stalled: Mutex<HashSet<Uuid>>,
}

/// Result messages that this process has heard as the keeper.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ResultMessages {
    observed: u64,
    /// Of tasks that are not ours.
    foreign: u64,
    /// That no Celery wrote.
    malformed: u64,
}

/// How the queue stands, for metrics.
pub(crate) struct QueueGauges {
    pub(crate) report: QueueReport,
    pub(crate) n_workers: usize,
}

impl Workers {
    /// The workers that were heard in the last minute.
    pub(crate) fn alive(&self) -> Vec<Worker> {
        self.0.heartbeats.alive()
    }

    pub(crate) fn start(
        celery: Celery,
        jobs: Jobs,
        progress: Progress,
        locks: Locks,
        tasks: &Tasks,
    ) -> Self {
        let workers = Self(Arc::new(Inner {
            celery,
            jobs,
            progress,
            locks,
            heartbeats: Heartbeats::default(),
            is_behind: AtomicBool::new(false),
            known_stalled: Mutex::default(),
        }));
        tasks.spawn("celery keeper", workers.clone().run(tasks.shutdown()));
        workers
    }

    async fn run(self, shutdown: CancellationToken) {
        const SOON: Duration = Duration::from_millis(100);
        let mut messages = self.0.celery.messages().events();
        let mut ticks = interval(self.0.celery.config().tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                self.wait_for_tick(&mut messages, &mut ticks, false).await;
                let wanted = self.leadership();
                let heard = &mut messages;
                let kept =
                    self.0.locks.exclusively(&wanted, |held| self.keep(held.fencing_token, heard));
                if let Err(error) = Box::pin(kept).await {
                    debug!(%error, "cannot look after Celery now");
                    ticks.reset_after(SOON);
                }
            }
        };
        _ = shutdown.run_until_cancelled(Box::pin(work)).await;
    }

    fn leadership(&self) -> Wanted {
        const MISSED_TICKS: u32 = 5;
        const AT_LEAST: Duration = Duration::from_millis(500);
        let ttl = self.0.celery.config().tick.saturating_mul(MISSED_TICKS).max(AT_LEAST);
        Wanted { resource: Resource::internal("celery-keeper"), ttl, wait: Duration::ZERO }
    }

    /// What only one process of all does, as long as it holds the lock.
    async fn keep(&self, fencing_token: u64, messages: &mut Receiver<PubSubEvent>) {
        info!(fencing_token, "this process looks after Celery");
        self.catch_up().await;
        let mut ticks = interval(self.0.celery.config().tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.wait_for_tick(messages, &mut ticks, true).await;
            if let Err(error) = self.do_what_is_due().await {
                warn!(%error, "could not look after Celery; trying again soon");
            }
        }
    }

    /// Hears messages until the next tick.
    async fn wait_for_tick(
        &self,
        messages: &mut Receiver<PubSubEvent>,
        ticks: &mut Interval,
        is_keeper: bool,
    ) {
        loop {
            tokio::select! {
                message = messages.recv() => self.hear(message, messages, is_keeper).await,
                _ = ticks.tick() => return,
            }
        }
    }

    async fn hear(
        &self,
        message: Result<PubSubEvent, RecvError>,
        messages: &mut Receiver<PubSubEvent>,
        is_keeper: bool,
    ) {
        match message {
            Ok(PubSubEvent::Message { channel, payload }) => {
                match channel.strip_prefix("celery-task-meta-") {
                    Some(task) if is_keeper => self.observe(task, &payload).await,
                    Some(_) => (),
                    None => self.0.heartbeats.note(&payload),
                }
            }
            Ok(PubSubEvent::Lagged) | Err(RecvError::Lagged(_)) => {
                // Whatever was published meanwhile is stored too, the last of each task.
                *messages = messages.resubscribe();
                if is_keeper {
                    self.catch_up().await;
                }
            }
            Err(RecvError::Closed) => (),
        }
    }

    async fn do_what_is_due(&self) -> Result<()> {
        if self.0.is_behind.load(Ordering::Relaxed) {
            self.catch_up().await;
        }
        let tick_ms = u64::try_from(self.0.celery.config().tick.as_millis()).unwrap_or(u64::MAX);
        let n_sent = self.0.celery.send_outbox(tick_ms).await?;
        if n_sent > 0 {
            info!(n_tasks = n_sent, "handed over tasks that were left in the outbox");
        }
        let n_cancelled = self.0.jobs.finish_cancellations().await?;
        if n_cancelled > 0 {
            info!(n_jobs = n_cancelled, "ended cancelled jobs without their workers");
        }
        self.see_to_stalled().await
    }

    /// How the queue stands.
    ///
    /// # Errors
    ///
    /// If the broker does not say.
    pub(crate) async fn gauges(&self) -> Result<QueueGauges> {
        let report = self.queue_report().await?;
        Ok(QueueGauges { report, n_workers: self.0.heartbeats.alive().len() })
    }

    pub(crate) fn result_messages(&self) -> ResultMessages {
        let celery = &self.0.jobs.metrics().celery;
        ResultMessages {
            observed: celery.observed.get(),
            foreign: celery.foreign.get(),
            malformed: celery.malformed.get(),
        }
    }

    pub(crate) async fn queue_report(&self) -> Result<QueueReport> {
        let mut report = self.0.celery.queue_report().await?;
        let mut ages = Vec::new();
        for id in &report.next_jobs {
            let waiting_since = self.0.jobs.find(*id).await?.and_then(|it| it.updated_at);
            ages.extend(waiting_since.map(|it| (chrono::Utc::now() - it).num_seconds()));
        }
        report.oldest_age_seconds = ages.into_iter().max().map(|it| u64::try_from(it).unwrap_or(0));
        Ok(report)
    }

    /// Tasks that neither wait for their turn nor show a sign of life.
    pub(crate) async fn stalled(&self) -> Result<Vec<String>> {
        const AT_MOST: usize = 100;
        let silent_ms =
            u64::try_from(self.0.celery.config().stalled_after.as_millis()).unwrap_or(u64::MAX);
        let silent = self.0.celery.active(silent_ms, AT_MOST).await?;
        Ok(silent.iter().map(Uuid::to_string).collect())
    }

    async fn see_to_stalled(&self) -> Result<()> {
        const AT_ONCE: usize = 100;
        let config = self.0.celery.config();
        let silent_ms = u64::try_from(config.stalled_after.as_millis()).unwrap_or(u64::MAX);
        for task in self.0.celery.active(silent_ms, AT_ONCE).await? {
            if self.0.celery.still_waits(task).await? {
                // It waits for its turn, which is no fault of a worker's.
                self.0.celery.touch(task).await?;
                continue;
            }
            let is_news = self.0.known_stalled.lock().insert(task);
            if is_news {
                self.0.jobs.metrics().celery.stalled.inc();
                warn!(task_id = %task, "a task has shown no sign of life for long");
            }
            match config.on_stalled {
                OnStalled::Show => (),
                OnStalled::Fail => self.fail(task, "its worker has shown no sign of life").await?,
                OnStalled::Resend => self.0.celery.resend(task).await?,
            }
        }
        Ok(())
    }
}
