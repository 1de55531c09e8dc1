//! Probes for Kubernetes, and the report on Redis for people.

mod report;
pub(crate) mod routes;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chrono::{DateTime, Utc};
use fred::interfaces::ClientLike as _;
use fred::types::InfoKind;

pub(crate) use self::report::Report;
use crate::{
    error::Result,
    redis::{Database, Redis},
};

/// What probes ask. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Health(Arc<Inner>);

struct Inner {
    redis: Redis,
    has_started: AtomicBool,
    is_draining: AtomicBool,
    since: DateTime<Utc>,
}

impl Health {
    pub(crate) fn new(redis: Redis) -> Self {
        let (has_started, is_draining) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Inner { redis, has_started, is_draining, since: Utc::now() }))
    }

    /// From now on the service is not ready: it is about to stop.
    pub(crate) fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// Whether Redis was reached once; stays true.
    pub(crate) fn has_started(&self) -> bool {
        let started = self.0.has_started.load(Ordering::Relaxed) || self.0.redis.is_up();
        if started {
            self.0.has_started.store(true, Ordering::Relaxed);
        }
        started
    }

    /// Asks Redis how it is, within the command timeout.
    pub(crate) async fn report(&self) -> Report {
        let started = std::time::Instant::now();
        let ping = self
            .0
            .redis
            .call(Database::Jobs, |client| async move { client.ping::<String>(None).await })
            .await;
        let ping = ping.map(|_| started.elapsed());
        let info = if ping.is_ok() { self.info().await } else { Ok(String::new()) };
        let mut report = Report::new(&ping, &info, self.is_draining(), self.0.since);
        if let Some(replicas) = self.0.redis.replica_reports() {
            report.add("replicas", &replicas);
        }
        report
    }

    async fn info(&self) -> Result<String> {
        self.0
            .redis
            .call(
                Database::Jobs,
                |client| async move { client.info(Some(InfoKind::Default)).await },
            )
            .await
    }
}
