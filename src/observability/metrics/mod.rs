//! Metrics of this process: handles that are registered once, and their Prometheus text.
//!
//! Recording is an atomic addition, or a short lock for histograms; only [`requests`] looks up a handle. docs/METRICS.md
//! lists every metric, and a test compares it with `/metrics`. Components reach [`Metrics`] through their Redis handle.

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
    registry::MetricsBuilder,
};
pub(crate) use self::{
    features::{Jobs as JobMetrics, Limiter, Streams},
    gauge_guard::GaugeGuard,
    redis::{CallOutcome, ConnectionMetrics, RedisMetrics, ServerMetrics},
    text::{ScrapedMetric, is_open_metrics, to_prometheus_text},
};

/// The handles of all components.
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
        let mut builder = MetricsBuilder::new();
        process::register(&mut builder);
        Self {
            requests: Requests::new(&mut builder),
            redis: RedisMetrics::new(&mut builder),
            streams: Streams::new(&mut builder),
            limiter: Limiter::new(&mut builder),
            jobs: JobMetrics::new(&mut builder),
            celery: Celery::new(&mut builder),
            locks: Locks::new(&mut builder),
            cache: Cache::new(&mut builder),
            webhooks: Webhooks::new(&mut builder),
            cleanup: Cleanup::new(&mut builder),
            refused_connections: builder.counter(
                "http_connections_refused",
                "Connections closed because `server.max_connections` or `server.max_connections_per_ip` is reached",
            ),
            shared: SharedMetrics::new(&mut builder),
            registry: builder.registry,
        }
    }

    /// All metrics as `OpenMetrics` text, without the final `# EOF` line.
    pub(crate) fn to_text(&self) -> String {
        text::encode(&self.registry)
    }
}
