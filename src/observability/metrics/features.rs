//! The handles of each feature. Which value of a label a handle stands for is its name.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

use super::registry::{Maker, REQUEST_SECONDS, SHORT_SECONDS, WORK_SECONDS};

/// Event streams to browsers.
pub(crate) struct Streams {
    pub(crate) open: Gauge,
    pub(crate) watched_jobs: Gauge,
    /// Events, not heartbeats, that were handed to connections.
    pub(crate) deliveries: Counter,
    /// Streams that asked to go on after an event, by where what they missed came from.
    pub(crate) resumed_from_ring: Counter,
    pub(crate) resumed_by_xrange: Counter,
    pub(crate) resumed_by_resync: Counter,
    pub(crate) closed_job_over: Counter,
    pub(crate) closed_timeout: Counter,
    pub(crate) closed_draining: Counter,
    pub(crate) closed_client_gone: Counter,
    pub(crate) closed_error: Counter,
    pub(crate) refused: Counter,
    /// Seconds from hearing of an entry to handing its frame to a connection.
    pub(crate) wake_to_write: Histogram,
}

impl Streams {
    pub(super) fn new(maker: &mut Maker) -> Self {
        let [resumed_from_ring, resumed_by_xrange, resumed_by_resync] = maker.counters(
            "sse_resumes",
            "Streams that went on after an event, by where the missed ones came from",
            "source",
            ["ring", "xrange", "resync"],
        );
        let closed = ["job_over", "timeout", "draining", "client_gone", "error"];
        let closed = maker.counters("sse_closes", "Streams that ended", "reason", closed);
        let [closed_job_over, closed_timeout, closed_draining, closed_client_gone, closed_error] =
            closed;
        Self {
            open: maker.gauge("sse_streams_open", "Streams that are open"),
            watched_jobs: maker.gauge("sse_watched_jobs", "Jobs that somebody watches"),
            deliveries: maker.counter("sse_events_delivered", "Events handed to connections"),
            refused: maker.counter("sse_refusals", "Streams told to come back later"),
            wake_to_write: maker.histogram(
                "sse_wake_to_write_seconds",
                "From hearing of a change to handing it to a connection",
                SHORT_SECONDS,
            ),
            resumed_from_ring,
            resumed_by_xrange,
            resumed_by_resync,
            closed_job_over,
            closed_timeout,
            closed_draining,
            closed_client_gone,
            closed_error,
        }
    }
}

/// What the rate limiter decided.
pub(crate) struct Limiter {
    pub(crate) unlimited: Counter,
    pub(crate) admitted: Counter,
    pub(crate) refused: Counter,
    /// Redis could not say, and a policy lets nobody in without.
    pub(crate) undecided: Counter,
    /// In shadow mode.
    pub(crate) would_refuse: Counter,
    /// Decided without Redis, whatever the verdict.
    pub(crate) degraded: Counter,
}

impl Limiter {
    pub(super) fn new(maker: &mut Maker) -> Self {
        let [unlimited, admitted, refused, undecided, would_refuse] = maker.counters(
            "rate_limit_verdicts",
            "Requests by what the rate limiter decided",
            "verdict",
            ["unlimited", "admitted", "refused", "undecided", "would_refuse"],
        );
        Self {
            unlimited,
            admitted,
            refused,
            undecided,
            would_refuse,
            degraded: maker
                .counter("rate_limit_degraded", "Requests decided without counting in Redis"),
        }
    }
}

/// The life of jobs, as far as this process wrote it.
pub(crate) struct Jobs {
    pub(crate) created: Counter,
    pub(crate) completed: Counter,
    pub(crate) partial: Counter,
    pub(crate) failed: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) expired: Counter,
    pub(crate) wait: Histogram,
    pub(crate) run: Histogram,
}

impl Jobs {
    pub(super) fn new(maker: &mut Maker) -> Self {
        let [completed, partial, failed, cancelled, expired] = maker.counters(
            "jobs_ended",
            "Jobs that ended",
            "status",
            ["completed", "partial", "failed", "cancelled", "expired"],
        );
        Self {
            created: maker.counter("jobs_created", "Jobs that were created"),
            wait: maker.histogram(
                "job_wait_seconds",
                "From a job's creation to the begin of its first attempt",
                WORK_SECONDS,
            ),
            run: maker.histogram(
                "job_run_seconds",
                "From the begin of an attempt to the end of the job",
                WORK_SECONDS,
            ),
            completed,
            partial,
            failed,
            cancelled,
            expired,
        }
    }
}

/// The hand-off to Celery workers. How the queue stands is asked of the broker when somebody asks us.
pub(crate) struct Celery {
    pub(crate) sent: Counter,
    pub(crate) send_failures: Counter,
    pub(crate) stalled: Counter,
    /// Result messages of our tasks, of other tasks, and of no Celery.
    pub(crate) observed: Counter,
    pub(crate) foreign: Counter,
    pub(crate) malformed: Counter,
}

impl Celery {
    pub(super) fn new(maker: &mut Maker) -> Self {
        let [observed, foreign, malformed] = maker.counters(
            "celery_result_messages",
            "Result messages that this process heard as the keeper",
            "kind",
            ["observed", "foreign", "malformed"],
        );
        Self {
            sent: maker.counter("celery_tasks_sent", "Tasks handed to the broker"),
            send_failures: maker.counter(
                "celery_send_failures",
                "Times that tasks could not be handed over and were left in the outbox",
            ),
            stalled: maker
                .counter("celery_tasks_stalled", "Tasks found without a sign of life for long"),
            observed,
            foreign,
            malformed,
        }
    }
}

/// Locks taken over HTTP or inside the service.
pub(crate) struct Locks {
    pub(crate) acquired: Counter,
    pub(crate) unavailable: Counter,
    /// Extended or released by who no longer owned it, or given up by the watchdog.
    pub(crate) lost: Counter,
    pub(crate) released: Counter,
    pub(crate) extended: Counter,
    pub(crate) wait: Histogram,
}

impl Locks {
    pub(super) fn new(maker: &mut Maker) -> Self {
        let [acquired, unavailable, lost, released, extended] = maker.counters(
            "lock_operations",
            "What came of asking for locks",
            "outcome",
            ["acquired", "unavailable", "lost", "released", "extended"],
        );
        let wait = maker.histogram(
            "lock_wait_seconds",
            "Time that callers waited for a lock, whether they got it or not",
            REQUEST_SECONDS,
        );
        Self { acquired, unavailable, lost, released, extended, wait }
    }
}

/// The cache of answers and models.
pub(crate) struct Cache {
    pub(crate) hit: Counter,
    pub(crate) stale: Counter,
    pub(crate) miss: Counter,
    pub(crate) negative: Counter,
    /// Values computed, of many misses at once only one.
    pub(crate) computed: Counter,
    /// Entries that no cache of ours wrote; they are misses.
    pub(crate) corrupt: Counter,
    pub(crate) invalidated: Counter,
}

impl Cache {
    pub(super) fn new(maker: &mut Maker) -> Self {
        let [hit, stale, miss, negative] = maker.counters(
            "cache_lookups",
            "What came of looking into the cache",
            "outcome",
            ["hit", "stale", "miss", "negative"],
        );
        Self {
            hit,
            stale,
            miss,
            negative,
            computed: maker.counter("cache_computations", "Values computed for the cache"),
            corrupt: maker.counter("cache_corrupt_entries", "Entries that could not be read"),
            invalidated: maker.counter("cache_invalidated_keys", "Keys removed on request"),
        }
    }
}

/// Webhooks, as this process sends them.
pub(crate) struct Webhooks {
    pub(crate) delivered: Counter,
    /// Tried in vain; tried again later.
    pub(crate) failed: Counter,
    /// Tried in vain for the last time.
    pub(crate) given_up: Counter,
    /// Not sent, because of where the address leads.
    pub(crate) forbidden: Counter,
    pub(crate) duration: Histogram,
    pub(crate) in_flight: Gauge,
    /// Read from Redis by the process that sends.
    pub(crate) queued: Gauge,
}

impl Webhooks {
    pub(super) fn new(maker: &mut Maker) -> Self {
        let [delivered, failed, given_up, forbidden] = maker.counters(
            "webhook_attempts",
            "Attempts to deliver a webhook",
            "outcome",
            ["delivered", "failed", "given_up", "forbidden"],
        );
        Self {
            delivered,
            failed,
            given_up,
            forbidden,
            duration: maker.histogram(
                "webhook_attempt_duration_seconds",
                "Time of an attempt",
                REQUEST_SECONDS,
            ),
            in_flight: maker.gauge("webhooks_in_flight", "Attempts under way"),
            queued: maker.gauge("webhooks_queued", "Webhooks that wait, as last seen"),
        }
    }
}

/// Cleanups that this process ran, and when any process last finished one.
pub(crate) struct Cleanup {
    pub(crate) finished: Counter,
    pub(crate) interrupted: Counter,
    pub(crate) failed: Counter,
    pub(crate) adopted: Counter,
    pub(crate) removed: Counter,
    pub(crate) pruned: Counter,
    /// Unix seconds; 0 until it is known.
    pub(crate) last_finished: Gauge,
}

impl Cleanup {
    pub(super) fn new(maker: &mut Maker) -> Self {
        let [finished, interrupted, failed] = maker.counters(
            "cleanups",
            "Cleanups of this process, without dry runs",
            "outcome",
            ["finished", "interrupted", "failed"],
        );
        let [adopted, removed, pruned] = maker.counters(
            "cleanup_changes",
            "Keys that got an end or are gone, and members of sets that are gone",
            "what",
            ["adopted", "removed", "pruned"],
        );
        let last_finished = maker.gauge(
            "cleanup_last_finished_timestamp_seconds",
            "Unix time at which any process last finished a cleanup, 0 if that is not known",
        );
        Self { finished, interrupted, failed, adopted, removed, pruned, last_finished }
    }
}

/// The seed's shared counters and gauges on their way to Redis.
pub(crate) struct SharedMetrics {
    pub(crate) pending: Gauge,
    pub(crate) flushed: Counter,
    pub(crate) flush_failures: Counter,
    /// Names refused because too many waited, or whose key is of another type.
    pub(crate) dropped: Counter,
    /// Answers of `/metrics` that lack what had to be asked of Redis.
    pub(crate) incomplete_scrapes: Counter,
}

impl SharedMetrics {
    pub(super) fn new(maker: &mut Maker) -> Self {
        Self {
            pending: maker.gauge("shared_metrics_pending", "Names that wait to be written"),
            flushed: maker.counter("shared_metrics_flushes", "Batches written to Redis"),
            flush_failures: maker.counter(
                "shared_metrics_flush_failures",
                "Batches that could not be written and are tried again",
            ),
            incomplete_scrapes: maker.counter(
                "incomplete_scrapes",
                "Answers of /metrics that lack what Redis or the broker did not say in time",
            ),
            dropped: maker.counter(
                "shared_metrics_dropped",
                "Changes that Redis refused, such as of a wrong type",
            ),
        }
    }
}
