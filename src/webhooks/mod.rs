//! Tells a URL of the job's owner that a job has ended: at least once, signed, tried again for hours.
//!
//! The script that ends a job queues its webhook (`shared/lifecycle.lua`), so none is lost. Every process looks for
//! what is due and takes it under a lease; if it dies, another takes it when the lease is over. The form is that of
//! Standard Webhooks. See docs/adr/0007.

mod config;
mod delivery;
mod signature;
mod ssrf;
mod store;

use std::{
    sync::{Arc, atomic::Ordering},
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
    delivery::{Outcome, Sender},
    store::{Claimed, State},
};
use crate::{
    error::{Error, Result},
    ids::{JobId, quoted},
    observability::metrics::Held,
    redis::{Redis, Retention},
    tasks::Tasks,
};

/// The webhooks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Webhooks(Arc<Inner>);

struct Inner {
    redis: Redis,
    config: Config,
    retention: Retention,
    tasks: Tasks,
    /// `None` where no secret is configured, so that none can be signed.
    sender: Option<Sender>,
    /// One for each attempt that may be under way.
    places: Arc<Semaphore>,
    was_failing: std::sync::atomic::AtomicBool,
}

impl Webhooks {
    /// # Errors
    ///
    /// If there are secrets, and the system has no certificates to trust.
    pub(crate) fn start(
        redis: Redis,
        config: Config,
        retention: Retention,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let sender = if config.secrets.is_empty() { None } else { Some(Sender::new(&config)?) };
        let is_enabled = sender.is_some();
        let webhooks = Self(Arc::new(Inner {
            places: Arc::new(Semaphore::new(config.concurrency)),
            redis,
            config,
            retention,
            tasks: tasks.clone(),
            sender,
            was_failing: std::sync::atomic::AtomicBool::default(),
        }));
        if is_enabled {
            tasks.spawn("webhooks", webhooks.clone().run(tasks.shutdown()));
        }
        Ok(webhooks)
    }

    /// Whether a job may ask for `url` to be told.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] says what is wrong.
    pub(crate) fn check(&self, url: &str) -> Result<()> {
        if self.0.sender.is_none() {
            return Err(Error::Invalid(
                "webhook_url: this service sends no webhooks; webhooks.secrets is not set"
                    .to_owned(),
            ));
        }
        ssrf::check_url(url, &self.0.config)
            .map_err(|reason| Error::Invalid(format!("webhook_url: {reason}; got {}", quoted(url))))
    }

    /// The webhooks of a job, and what became of them.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`].
    pub(crate) async fn of_job(&self, job: JobId) -> Result<Vec<Webhook>> {
        store::read(&self.0.redis, self.0.retention, job).await
    }

    async fn run(self, shutdown: CancellationToken) {
        let mut ticks = interval(self.0.config.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let failed = self.send_what_is_due().await.err();
            let was_failing = self.0.was_failing.swap(failed.is_some(), Ordering::Relaxed);
            if let Some(error) = failed.filter(|_| !was_failing) {
                warn!(%error, "could not look for webhooks; trying again");
            }
        }
    }

    /// Takes as many as there are places, again and again while places come free and something is due.
    async fn send_what_is_due(&self) -> Result<()> {
        loop {
            let n_free = self.0.places.available_permits();
            if n_free == 0 {
                return Ok(());
            }
            let batch = store::claim(&self.0.redis, n_free, self.0.config.lease()).await?;
            let metrics = &self.0.redis.metrics().webhooks;
            metrics.queued.set(i64::try_from(batch.n_waiting).unwrap_or(i64::MAX));
            let n_claimed = batch.claimed.len();
            for claimed in batch.claimed {
                let Ok(place) = self.0.places.clone().try_acquire_owned() else { break };
                let (webhooks, now_secs) = (self.clone(), batch.now_secs);
                self.0.tasks.spawn_unguarded("webhook", async move {
                    let _place = place;
                    let shutdown = webhooks.0.tasks.shutdown();
                    // Cut off, it is sent again when its lease is over.
                    let attempt = Box::pin(webhooks.attempt(claimed, now_secs));
                    _ = shutdown.run_until_cancelled(attempt).await;
                });
            }
            if n_claimed < n_free {
                return Ok(());
            }
        }
    }

    async fn attempt(&self, claimed: Claimed, now_secs: u64) {
        let Some(sender) = &self.0.sender else { return };
        let metrics = &self.0.redis.metrics().webhooks;
        let held = Held::one_of(&metrics.in_flight);
        let started = Instant::now();
        let outcome = sender.send(&claimed, now_secs).await;
        let took = started.elapsed();
        metrics.duration.observe(took.as_secs_f64());
        drop(held);
        let (state, delay) = self.judge(outcome, claimed.tries + 1);
        match (outcome, state) {
            (Outcome::Forbidden, _) => metrics.forbidden.inc(),
            (_, State::Delivered) => metrics.delivered.inc(),
            (_, State::Pending) => metrics.failed.inc(),
            (_, State::GivenUp) => metrics.given_up.inc(),
        };
        if state == State::GivenUp {
            warn!(webhook = claimed.of, reason = outcome.to_string(), "gave up on a webhook");
        } else {
            debug!(webhook = claimed.of, outcome = outcome.to_string(), "sent a webhook");
        }
        let settled = store::settle(
            &self.0.redis,
            self.0.retention,
            &claimed.of,
            (state, delay),
            (outcome, took),
        );
        if let Err(error) = settled.await {
            warn!(%error, webhook = claimed.of, "could not note how a webhook went; it is sent again");
        }
    }

    /// What an attempt, the `tries`-th, means for its webhook, and when the next is due.
    fn judge(&self, outcome: Outcome, tries: u32) -> (State, Duration) {
        match outcome {
            Outcome::Answered(200..=299) => (State::Delivered, Duration::ZERO),
            // Standard Webhooks: the receiver wants no more of them.
            Outcome::Answered(410) => (State::GivenUp, Duration::ZERO),
            _ if tries >= self.0.config.max_tries => (State::GivenUp, Duration::ZERO),
            _ => (State::Pending, self.0.config.delay_after(tries)),
        }
    }
}
