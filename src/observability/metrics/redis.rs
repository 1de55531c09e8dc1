//! Redis as this process meets it: how long calls take, how they end, what became of connections.

use std::time::Instant;

use prometheus_client::metrics::{
    counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
};

use super::{
    Held,
    registry::{Bounds, Label, Maker, SHORT_SECONDS},
};

/// The families, from which each server's and each connection's handles are made.
pub(crate) struct RedisMetrics {
    calls: Family<[(&'static str, &'static str); 2], Histogram, Bounds>,
    in_flight: Family<Label, Gauge>,
    connections: Family<Label, Gauge>,
    up: Family<Label, Gauge>,
    lost: Family<Label, Counter>,
    replaced: Family<Label, Counter>,
    pub(crate) subscriber_gaps: Counter,
    pub(crate) unserved_partitions: Gauge,
}

/// Of the calls to one database.
pub(crate) struct ServerMetrics {
    in_flight: Gauge,
    answered: Histogram,
    failed: Histogram,
    timed_out: Histogram,
    not_connected: Histogram,
}

/// Of one connection.
#[derive(Clone)]
pub(crate) struct ConnectionMetrics {
    wanted: Gauge,
    up: Gauge,
    lost: Counter,
    replaced: Counter,
}

impl RedisMetrics {
    pub(super) fn new(maker: &mut Maker) -> Self {
        let calls = Family::new_with_constructor(Bounds(SHORT_SECONDS));
        Self {
            calls: maker.register(
                "redis_call_duration_seconds",
                "Time of a call to Redis, a script or a command, by how it ended",
                calls,
            ),
            in_flight: maker.register(
                "redis_calls_in_flight",
                "Calls that wait for their answer",
                Family::default(),
            ),
            connections: maker.register(
                "redis_connections",
                "Connections that the pool shall have",
                Family::default(),
            ),
            up: maker.register(
                "redis_connections_up",
                "Connections that answered their last ping",
                Family::default(),
            ),
            lost: maker.register(
                "redis_connections_lost",
                "Times that a connection stopped to answer",
                Family::default(),
            ),
            replaced: maker.register(
                "redis_connections_replaced",
                "Times that a connection did not recover and was made anew",
                Family::default(),
            ),
            subscriber_gaps: maker.counter(
                "redis_subscriber_gaps",
                "Times that published messages may have been missed",
            ),
            unserved_partitions: maker.register(
                "redis_unserved_partitions",
                "Partitions of a cluster without a server that answers",
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

    /// Handles of one connection more to `database`.
    pub(crate) fn connection(&self, database: &'static str) -> ConnectionMetrics {
        let label = [("database", database)];
        let wanted = self.connections.get_or_create_owned(&label);
        wanted.inc();
        ConnectionMetrics {
            wanted,
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
    /// With an error, of the server or of the connection.
    Failed,
    TimedOut,
    /// It was not sent at all.
    NotConnected,
}

impl ServerMetrics {
    /// A call begins; it counts as in flight while the guard lives.
    pub(crate) fn begin(&self) -> (Instant, Held) {
        (Instant::now(), Held::one_of(&self.in_flight))
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

    /// It is not wanted any more.
    pub(crate) fn ended(&self, was_up: bool) {
        self.wanted.dec();
        if was_up {
            self.up.dec();
        }
    }

    pub(crate) fn was_replaced(&self) {
        self.replaced.inc();
    }
}
