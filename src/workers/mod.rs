//! What Celery workers say, made progress of jobs; and what nobody else looks after: tasks that were not handed
//! over, cancellations that were not heeded, work that fell silent.
//!
//! One process does this for all, whoever holds a lock. It hears results live, and reads the stored ones when it
//! takes over or may have missed some.

mod heartbeat;
mod observer;
pub(crate) mod routes;
mod update;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use fred::types::{Key, Value};
use serde::Serialize;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use self::heartbeat::Heartbeats;
use crate::{
    celery::{Celery, OnStalled, QueueReport},
    error::Result,
    jobs::Jobs,
    progress::Progress,
    redis::{Database, KEEPER, Redis, Script, Signal},
    tasks::Tasks,
};

static HOLD: Script = Script::new(include_str!("../../migrations-lua/locks/hold.lua")).repeatable();

/// Looks after Celery. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Workers(Arc<Inner>);

struct Inner {
    celery: Celery,
    jobs: Jobs,
    progress: Progress,
    redis: Redis,
    heartbeats: Heartbeats,
    counts: Counts,
    /// Of this process, in the lock.
    token: String,
    /// Stalled tasks that were logged.
    known_stalled: Mutex<HashSet<Uuid>>,
}

/// Result messages that this process has heard as the keeper.
#[derive(Debug, Default, Serialize)]
struct Counts {
    observed: AtomicU64,
    /// Of tasks that are not ours.
    foreign: AtomicU64,
    /// That no Celery wrote.
    malformed: AtomicU64,
}

impl Workers {
    pub(crate) fn start(
        celery: Celery,
        jobs: Jobs,
        progress: Progress,
        redis: Redis,
        tasks: &Tasks,
    ) -> Self {
        let workers = Self(Arc::new(Inner {
            celery,
            jobs,
            progress,
            redis,
            heartbeats: Heartbeats::default(),
            counts: Counts::default(),
            token: Uuid::new_v4().to_string(),
            known_stalled: Mutex::default(),
        }));
        tasks.spawn("celery keeper", workers.clone().run(tasks.shutdown()));
        workers
    }

    async fn run(self, shutdown: CancellationToken) {
        const SOON: Duration = Duration::from_millis(100);
        let mut messages = self.0.celery.messages().signals();
        let mut ticks = interval(self.0.celery.config().tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_keeper = false;
        let work = async {
            loop {
                tokio::select! {
                    message = messages.recv() => self.hear(message, &mut messages, is_keeper).await,
                    _ = ticks.tick() => is_keeper = self.tick(is_keeper).await.unwrap_or_else(|_| {
                        ticks.reset_after(SOON);
                        false
                    }),
                }
            }
        };
        _ = shutdown.run_until_cancelled(Box::pin(work)).await;
    }

    async fn hear(
        &self,
        message: Result<Signal, RecvError>,
        messages: &mut Receiver<Signal>,
        is_keeper: bool,
    ) {
        match message {
            Ok(Signal::Message { channel, payload }) => {
                match channel.strip_prefix("celery-task-meta-") {
                    Some(task) if is_keeper => self.observe(task, &payload).await,
                    Some(_) => (),
                    None => self.0.heartbeats.note(&payload),
                }
            }
            Ok(Signal::Gap) | Err(RecvError::Lagged(_)) => {
                // Whatever was published meanwhile is stored too, the last of each task.
                *messages = messages.resubscribe();
                if is_keeper {
                    self.catch_up().await;
                }
            }
            Err(RecvError::Closed) => (),
        }
    }

    /// Does what is due, if this process holds the lock. Returns whether it does.
    ///
    /// # Errors
    ///
    /// If Redis does not say, so that this should be asked again soon.
    async fn tick(&self, was_keeper: bool) -> Result<bool> {
        if !self.hold_lock().await? {
            return Ok(false);
        }
        if !was_keeper {
            info!("this process looks after Celery");
            self.catch_up().await;
        }
        if let Err(error) = self.do_what_is_due().await {
            warn!(%error, "could not look after Celery; trying again soon");
        }
        Ok(true)
    }

    async fn hold_lock(&self) -> Result<bool> {
        const MISSED_TICKS: u32 = 5;
        const AT_LEAST: Duration = Duration::from_millis(500);
        let ttl = self.0.celery.config().tick.saturating_mul(MISSED_TICKS).max(AT_LEAST);
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let args = vec![Value::from(self.0.token.as_str()), Value::from(ttl_ms)];
        HOLD.run(self.0.redis.database(Database::Jobs), vec![Key::from_static_str(KEEPER)], args)
            .await
    }

    async fn do_what_is_due(&self) -> Result<()> {
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

    async fn queue_report(&self) -> Result<QueueReport> {
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
    async fn stalled(&self) -> Result<Vec<String>> {
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
            let is_news =
                self.0.known_stalled.lock().unwrap_or_else(PoisonError::into_inner).insert(task);
            if is_news {
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
