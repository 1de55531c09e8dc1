//! Webhooks: a signed POST to a URL of the job's owner when the job ends, delivered at least once and retried for
//! hours.
//!
//! The script that ends a job also queues its webhook (`migrations-lua/shared/lifecycle.lua`), so no webhook is lost.
//! Every process claims due webhooks under a lease; if the process dies, another process claims them after the lease.
//! The format is that of Standard Webhooks. See docs/adr/0007-webhook-queue.md.

mod config;
mod delivery;
mod signature;
mod ssrf;
mod store;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use self::{config::Config, store::Webhook};
use self::{
    delivery::{DeliveryOutcome, Sender},
    store::{Claimed, State},
};
use crate::{
    error::{Error, Result},
    ids::{JobId, truncate_quoted},
    observability::metrics::GaugeGuard,
    store::{JobRetention, Redis},
    tasks::TaskSupervisor,
};

/// Delivers webhooks and reads their state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Webhooks(Arc<Inner>);

struct Inner {
    redis: Redis,
    config: Config,
    retention: JobRetention,
    tasks: TaskSupervisor,
    /// `None` if no secret is configured.
    sender: Option<Sender>,
    /// One permit per concurrent attempt.
    permits: Arc<Semaphore>,
    /// The last tick failed, so that only the first of several failures is logged.
    was_failing: AtomicBool,
}

impl Webhooks {
    /// # Errors
    ///
    /// If a secret is configured and the system's root certificates cannot be loaded.
    pub(crate) fn start(
        redis: Redis,
        config: Config,
        retention: JobRetention,
        tasks: &TaskSupervisor,
    ) -> anyhow::Result<Self> {
        let sender = if config.secrets.is_empty() { None } else { Some(Sender::new(&config)?) };
        let is_enabled = sender.is_some();
        let webhooks = Self(Arc::new(Inner {
            permits: Arc::new(Semaphore::new(config.concurrency)),
            redis,
            config,
            retention,
            tasks: tasks.clone(),
            sender,
            was_failing: AtomicBool::default(),
        }));
        if is_enabled {
            tasks.spawn_critical("webhooks", webhooks.clone().run(tasks.shutdown_token()));
        }
        Ok(webhooks)
    }

    /// Validates the webhook URL of a new job.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] with the reason.
    pub(crate) fn validate_url(&self, url: &str) -> Result<()> {
        if self.0.sender.is_none() {
            return Err(Error::Validation(
                "webhook_url: webhooks are disabled; the setting webhooks.secrets is empty"
                    .to_owned(),
            ));
        }
        ssrf::validate_url(url, &self.0.config).map_err(|reason| {
            Error::Validation(format!("webhook_url: {reason}; got {}", truncate_quoted(url)))
        })
    }

    /// The webhooks of a job and their delivery attempts.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`].
    pub(crate) async fn for_job(&self, job: JobId) -> Result<Vec<Webhook>> {
        store::read(&self.0.redis, self.0.retention, job).await
    }

    async fn run(self, shutdown: CancellationToken) {
        let mut ticks = interval(self.0.config.poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let error = self.deliver_due().await.err();
            let was_failing = self.0.was_failing.swap(error.is_some(), Ordering::Relaxed);
            if let Some(error) = error.filter(|_| !was_failing) {
                warn!(%error, "could not claim due webhooks; retrying");
            }
        }
    }

    /// Claims and sends due webhooks until none is left or all permits are in use.
    async fn deliver_due(&self) -> Result<()> {
        loop {
            let free = self.0.permits.available_permits();
            if free == 0 {
                return Ok(());
            }
            let batch = store::claim(&self.0.redis, free, self.0.config.lease()).await?;
            let metrics = &self.0.redis.metrics().webhooks;
            metrics.queued.set(i64::try_from(batch.queued).unwrap_or(i64::MAX));
            let claimed_count = batch.claimed.len();
            for claimed in batch.claimed {
                let Ok(permit) = self.0.permits.clone().try_acquire_owned() else { break };
                let (webhooks, now_secs) = (self.clone(), batch.now_secs);
                self.0.tasks.spawn("webhook", async move {
                    let _permit = permit;
                    let shutdown = webhooks.0.tasks.shutdown_token();
                    // A webhook whose attempt is interrupted is sent again after its lease.
                    let attempt = Box::pin(webhooks.attempt(claimed, now_secs));
                    _ = shutdown.run_until_cancelled(attempt).await;
                });
            }
            if claimed_count < free {
                return Ok(());
            }
        }
    }

    async fn attempt(&self, claimed: Claimed, now_secs: u64) {
        let Some(sender) = &self.0.sender else { return };
        let metrics = &self.0.redis.metrics().webhooks;
        let in_flight = GaugeGuard::inc(&metrics.in_flight);
        let started_at = Instant::now();
        let outcome = sender.send(&claimed, now_secs).await;
        let duration = started_at.elapsed();
        metrics.duration.observe(duration.as_secs_f64());
        drop(in_flight);
        let (state, delay) = self.next_state(outcome, claimed.tries + 1);
        match (outcome, state) {
            (DeliveryOutcome::Forbidden, _) => metrics.forbidden.inc(),
            (_, State::Delivered) => metrics.delivered.inc(),
            (_, State::Pending) => metrics.failed.inc(),
            (_, State::GivenUp) => metrics.given_up.inc(),
        };
        let webhook = &claimed.webhook_id;
        if state == State::GivenUp {
            warn!(webhook, outcome = outcome.to_string(), "gave up on a webhook");
        } else {
            debug!(webhook, outcome = outcome.to_string(), "finished a webhook attempt");
        }
        let recorded = store::record_attempt(
            &self.0.redis,
            self.0.retention,
            webhook,
            (state, delay),
            (outcome, duration),
        );
        if let Err(error) = recorded.await {
            warn!(%error, webhook, "could not record a webhook attempt; the webhook is sent again");
        }
    }

    /// The state of a webhook after its `tries`-th attempt, and the delay until the next attempt.
    fn next_state(&self, outcome: DeliveryOutcome, tries: u32) -> (State, Duration) {
        match outcome {
            DeliveryOutcome::Responded(200..=299) => (State::Delivered, Duration::ZERO),
            // Standard Webhooks: with 410 Gone the receiver unsubscribes.
            DeliveryOutcome::Responded(410) => (State::GivenUp, Duration::ZERO),
            _ if tries >= self.0.config.max_tries => (State::GivenUp, Duration::ZERO),
            _ => (State::Pending, self.0.config.delay_after(tries)),
        }
    }
}
