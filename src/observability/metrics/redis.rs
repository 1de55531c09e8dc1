//! Metrics of Redis calls and connections.

use std::time::Instant;

use prometheus_client::metrics::{
    counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
};

use super::{
    GaugeGuard,
    registry::{HistogramBuckets, Label, MetricsBuilder, REDIS_BUCKETS},
};

/// Metric families, from which the handles of each database and each connection are made.
pub(crate) struct RedisMetrics {
    calls: Family<[(&'static str, &'static str); 2], Histogram, HistogramBuckets>,
    in_flight: Family<Label, Gauge>,
    connections: Family<Label, Gauge>,
    up: Family<Label, Gauge>,
    lost: Family<Label, Counter>,
    replaced: Family<Label, Counter>,
    pub(crate) subscriber_gaps: Counter,
    pub(crate) unserved_partitions: Gauge,
}

/// Handles of the calls to one database.
pub(crate) struct ServerMetrics {
    in_flight: Gauge,
    answered: Histogram,
    failed: Histogram,
    timed_out: Histogram,
    not_connected: Histogram,
}

/// Handles of one connection.
#[derive(Clone)]
pub(crate) struct ConnectionMetrics {
    target: Gauge,
    up: Gauge,
    lost: Counter,
    replaced: Counter,
}

impl RedisMetrics {
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        let calls = Family::new_with_constructor(HistogramBuckets(REDIS_BUCKETS));
        Self {
            calls: builder.register(
                "redis_call_duration_seconds",
                "Duration of Redis calls (scripts and commands) by database and outcome",
                calls,
            ),
            in_flight: builder.register(
                "redis_calls_in_flight",
                "Redis calls that wait for a reply",
                Family::default(),
            ),
            connections: builder.register(
                "redis_connections",
                "Target number of pooled connections",
                Family::default(),
            ),
            up: builder.register(
                "redis_connections_up",
                "Connections that answered their last ping",
                Family::default(),
            ),
            lost: builder.register(
                "redis_connections_lost",
                "Connections lost (two consecutive pings unanswered)",
                Family::default(),
            ),
            replaced: builder.register(
                "redis_connections_replaced",
                "Connections that did not recover and were replaced",
                Family::default(),
            ),
            subscriber_gaps: builder.counter(
                "redis_subscriber_gaps",
                "Times that pub/sub messages may have been missed",
            ),
            unserved_partitions: builder.register(
                "redis_unserved_partitions",
                "Cluster partitions without a reachable primary, of 256; 0 without a cluster",
                Gauge::default(),
            ),
        }
    }

    /// Handles of calls to `database`, a name such as `jobs`.
    pub(crate) fn server(&self, database: &'static str) -> ServerMetrics {
        let calls = |outcome| {
            self.calls.get_or_create_owned(&[("database", database), ("outcome", outcome)])
        };
        ServerMetrics {
            in_flight: self.in_flight.get_or_create_owned(&[("database", database)]),
            answered: calls("answered"),
            failed: calls("failed"),
            timed_out: calls("timed_out"),
            not_connected: calls("not_connected"),
        }
    }

    /// Handles of one more connection to `database`.
    pub(crate) fn connection(&self, database: &'static str) -> ConnectionMetrics {
        let label = [("database", database)];
        let target = self.connections.get_or_create_owned(&label);
        target.inc();
        ConnectionMetrics {
            target,
            up: self.up.get_or_create_owned(&label),
            lost: self.lost.get_or_create_owned(&label),
            replaced: self.replaced.get_or_create_owned(&label),
        }
    }
}

/// How a call to Redis ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    Answered,
    /// With an error of the server or of the connection.
    Failed,
    TimedOut,
    /// The call was not sent.
    NotConnected,
}

impl ServerMetrics {
    /// Starts measuring a call, which counts as in flight until the guard is dropped.
    pub(crate) fn begin(&self) -> (Instant, GaugeGuard) {
        (Instant::now(), GaugeGuard::inc(&self.in_flight))
    }

    pub(crate) fn end(&self, started: Instant, outcome: CallOutcome) {
        let histogram = match outcome {
            CallOutcome::Answered => &self.answered,
            CallOutcome::Failed => &self.failed,
            CallOutcome::TimedOut => &self.timed_out,
            CallOutcome::NotConnected => &self.not_connected,
        };
        histogram.observe(started.elapsed().as_secs_f64());
    }
}

impl ConnectionMetrics {
    pub(crate) fn came_up(&self) {
        self.up.inc();
    }

    pub(crate) fn went_down(&self) {
        self.up.dec();
        self.lost.inc();
    }

    /// The connection was removed from the pool.
    pub(crate) fn ended(&self, was_up: bool) {
        self.target.dec();
        if was_up {
            self.up.dec();
        }
    }

    pub(crate) fn was_replaced(&self) {
        self.replaced.inc();
    }
}
