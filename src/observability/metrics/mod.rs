//! What the process measures of itself: named handles, made once, and their text for Prometheus.
//!
//! Recording is an atomic addition, or for a histogram a short lock; only [`requests`] looks a handle up. Every
//! metric is listed in docs/METRICS.md, which a test compares with `/metrics`. [`Metrics`] travel with the
//! handle of Redis, which every part that measures something has.

mod features;
mod gauge_guard;
mod process;
mod redis;
mod registry;
mod requests;
mod text;

pub(crate) use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

pub(crate) use self::requests::MeasuredRequest;
use self::requests::Requests;
use self::{
    features::{Cache, Celery, Cleanup, Locks, SharedMetrics, Webhooks},
    registry::Maker,
};
pub(crate) use self::{
    features::{Jobs as JobMetrics, Limiter, Streams},
    gauge_guard::Held,
    redis::{CallOutcome, ConnectionMetrics, RedisMetrics, ServerMetrics},
    text::{Asked, is_open_metrics, to_prometheus_text},
};

/// All handles, by what they measure.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Requests,
    pub(crate) redis: RedisMetrics,
    pub(crate) streams: Streams,
    pub(crate) limiter: Limiter,
    pub(crate) jobs: JobMetrics,
    pub(crate) celery: Celery,
    pub(crate) locks: Locks,
    pub(crate) cache: Cache,
    pub(crate) webhooks: Webhooks,
    pub(crate) cleanup: Cleanup,
    pub(crate) refused_connections: Counter,
    pub(crate) shared: SharedMetrics,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut maker = Maker::new();
        process::register(&mut maker);
        Self {
            requests: Requests::new(&mut maker),
            redis: RedisMetrics::new(&mut maker),
            streams: Streams::new(&mut maker),
            limiter: Limiter::new(&mut maker),
            jobs: JobMetrics::new(&mut maker),
            celery: Celery::new(&mut maker),
            locks: Locks::new(&mut maker),
            cache: Cache::new(&mut maker),
            webhooks: Webhooks::new(&mut maker),
            cleanup: Cleanup::new(&mut maker),
            refused_connections: maker.counter(
                "http_connections_refused",
                "Connections closed because as many are open as may be, in all or from one address",
            ),
            shared: SharedMetrics::new(&mut maker),
            registry: maker.registry,
        }
    }

    /// All of it in the text format of `OpenMetrics`, without its last line.
    pub(crate) fn to_text(&self) -> String {
        text::of(&self.registry)
    }
}
