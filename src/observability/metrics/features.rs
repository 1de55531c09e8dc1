//! Metric handles of each feature. A handle is named after the label value that it stands for.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

use super::registry::{JOB_BUCKETS, MetricsBuilder, REDIS_BUCKETS, REQUEST_BUCKETS};

/// Event streams to browsers.
pub(crate) struct Streams {
    pub(crate) open: Gauge,
    pub(crate) watched_jobs: Gauge,
    /// Events handed to connections, without heartbeats.
    pub(crate) deliveries: Counter,
    /// Resumed streams, by the source of the missed events.
    pub(crate) resumed_from_ring: Counter,
    pub(crate) resumed_by_xrange: Counter,
    pub(crate) resumed_by_resync: Counter,
    pub(crate) closed_job_over: Counter,
    pub(crate) closed_timeout: Counter,
    pub(crate) closed_draining: Counter,
    pub(crate) closed_client_gone: Counter,
    pub(crate) closed_error: Counter,
    pub(crate) refused: Counter,
    /// Seconds from the notification of an entry to handing its frame to a connection.
    pub(crate) wake_to_write: Histogram,
}

impl Streams {
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        let [resumed_from_ring, resumed_by_xrange, resumed_by_resync] = builder.counters(
            "sse_resumes",
            "Resumed streams by the source of the missed events: memory, XRANGE, or a new snapshot",
            "source",
            ["ring", "xrange", "resync"],
        );
        let closed = ["job_over", "timeout", "draining", "client_gone", "error"];
        let closed = builder.counters("sse_closes", "Closed streams by reason", "reason", closed);
        let [closed_job_over, closed_timeout, closed_draining, closed_client_gone, closed_error] =
            closed;
        Self {
            open: builder.gauge("sse_streams_open", "Open event streams"),
            watched_jobs: builder.gauge("sse_watched_jobs", "Jobs with at least one open stream"),
            deliveries: builder.counter(
                "sse_events_delivered",
                "Events handed to connections, without heartbeats",
            ),
            refused: builder.counter("sse_refusals", "Streams told to reconnect later"),
            wake_to_write: builder.histogram(
                "sse_wake_to_write_seconds",
                "Time from the notification of a change to handing its event to a connection",
                REDIS_BUCKETS,
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

/// Decisions of the rate limiter.
pub(crate) struct Limiter {
    pub(crate) unlimited: Counter,
    pub(crate) admitted: Counter,
    pub(crate) refused: Counter,
    /// Redis did not answer, and a policy rejects requests in that case.
    pub(crate) undecided: Counter,
    /// Only in dry-run mode.
    pub(crate) would_refuse: Counter,
    /// Decided without Redis, whatever the verdict.
    pub(crate) degraded: Counter,
}

impl Limiter {
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        let [unlimited, admitted, refused, undecided, would_refuse] = builder.counters(
            "rate_limit_verdicts",
            "Decisions of the rate limiter; `would_refuse` counts in dry-run mode",
            "verdict",
            ["unlimited", "admitted", "refused", "undecided", "would_refuse"],
        );
        Self {
            unlimited,
            admitted,
            refused,
            undecided,
            would_refuse,
            degraded: builder.counter("rate_limit_degraded", "Requests decided without Redis"),
        }
    }
}

/// Job lifecycle events written by this process.
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
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        let [completed, partial, failed, cancelled, expired] = builder.counters(
            "jobs_ended",
            "Jobs ended by this process, by final status",
            "status",
            ["completed", "partial", "failed", "cancelled", "expired"],
        );
        Self {
            created: builder.counter("jobs_created", "Jobs created by this process"),
            wait: builder.histogram(
                "job_wait_seconds",
                "Time from the creation of a job to the start of its first attempt",
                JOB_BUCKETS,
            ),
            run: builder.histogram(
                "job_run_seconds",
                "Time from the start of an attempt to the end of the job",
                JOB_BUCKETS,
            ),
            completed,
            partial,
            failed,
            cancelled,
            expired,
        }
    }
}

/// Tasks sent to Celery and result messages received. The queue depth is read from the broker at scrape time.
pub(crate) struct Celery {
    pub(crate) sent: Counter,
    pub(crate) send_failures: Counter,
    pub(crate) stalled: Counter,
    /// Result messages of our tasks.
    pub(crate) observed: Counter,
    pub(crate) foreign: Counter,
    pub(crate) malformed: Counter,
}

impl Celery {
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        let [observed, foreign, malformed] = builder.counters(
            "celery_result_messages",
            "Result messages received while this process was the Celery leader: of our tasks, of other tasks, unreadable",
            "kind",
            ["observed", "foreign", "malformed"],
        );
        Self {
            sent: builder.counter("celery_tasks_sent", "Tasks sent to the broker"),
            send_failures: builder
                .counter("celery_send_failures", "Failed sends, whose tasks stay in the outbox"),
            stalled: builder.counter(
                "celery_tasks_stalled",
                "Tasks without a heartbeat for `celery.stalled_after`",
            ),
            observed,
            foreign,
            malformed,
        }
    }
}

/// Lock operations, over HTTP and inside the service.
pub(crate) struct Locks {
    pub(crate) acquired: Counter,
    pub(crate) unavailable: Counter,
    /// The holder extended or released a lock that it no longer held, or a renewal failed.
    pub(crate) lost: Counter,
    pub(crate) released: Counter,
    pub(crate) extended: Counter,
    pub(crate) wait: Histogram,
}

impl Locks {
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        let [acquired, unavailable, lost, released, extended] = builder.counters(
            "lock_operations",
            "Lock operations by outcome",
            "outcome",
            ["acquired", "unavailable", "lost", "released", "extended"],
        );
        let wait = builder.histogram(
            "lock_wait_seconds",
            "Time that clients waited for a lock, acquired or not",
            REQUEST_BUCKETS,
        );
        Self { acquired, unavailable, lost, released, extended, wait }
    }
}

/// The cache of responses and models.
pub(crate) struct Cache {
    pub(crate) hit: Counter,
    pub(crate) stale: Counter,
    pub(crate) miss: Counter,
    pub(crate) negative: Counter,
    /// Values computed; concurrent misses share one computation.
    pub(crate) computed: Counter,
    /// Unreadable entries, which count as misses.
    pub(crate) corrupt: Counter,
    pub(crate) invalidated: Counter,
}

impl Cache {
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        let [hit, stale, miss, negative] = builder.counters(
            "cache_lookups",
            "Cache lookups by outcome",
            "outcome",
            ["hit", "stale", "miss", "negative"],
        );
        Self {
            hit,
            stale,
            miss,
            negative,
            computed: builder.counter("cache_computations", "Values computed for the cache"),
            corrupt: builder.counter("cache_corrupt_entries", "Unreadable cache entries"),
            invalidated: builder
                .counter("cache_invalidated_keys", "Keys removed by invalidation requests"),
        }
    }
}

/// Webhook deliveries by this process.
pub(crate) struct Webhooks {
    pub(crate) delivered: Counter,
    /// Failed attempts that will be retried.
    pub(crate) failed: Counter,
    /// Failed last attempts.
    pub(crate) given_up: Counter,
    /// Not sent, because the address is not allowed.
    pub(crate) forbidden: Counter,
    pub(crate) duration: Histogram,
    pub(crate) in_flight: Gauge,
    /// As last read from Redis.
    pub(crate) queued: Gauge,
}

impl Webhooks {
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        let [delivered, failed, given_up, forbidden] = builder.counters(
            "webhook_attempts",
            "Webhook delivery attempts by outcome",
            "outcome",
            ["delivered", "failed", "given_up", "forbidden"],
        );
        Self {
            delivered,
            failed,
            given_up,
            forbidden,
            duration: builder.histogram(
                "webhook_attempt_duration_seconds",
                "Duration of webhook delivery attempts",
                REQUEST_BUCKETS,
            ),
            in_flight: builder.gauge("webhooks_in_flight", "Webhook delivery attempts in flight"),
            queued: builder
                .gauge("webhooks_queued", "Queued webhooks, as last read by this process"),
        }
    }
}

/// Cleanup passes of this process, and the end of the last pass of any process.
pub(crate) struct Cleanup {
    pub(crate) finished: Counter,
    pub(crate) interrupted: Counter,
    pub(crate) failed: Counter,
    pub(crate) adopted: Counter,
    pub(crate) removed: Counter,
    pub(crate) pruned: Counter,
    /// Unix seconds; 0 if unknown.
    pub(crate) last_finished: Gauge,
}

impl Cleanup {
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        let [finished, interrupted, failed] = builder.counters(
            "cleanups",
            "Cleanup passes of this process, without dry runs",
            "outcome",
            ["finished", "interrupted", "failed"],
        );
        let [adopted, removed, pruned] = builder.counters(
            "cleanup_changes",
            "Keys that got a TTL, keys removed, and set members removed",
            "change",
            ["adopted", "removed", "pruned"],
        );
        let last_finished = builder.gauge(
            "cleanup_last_finished_timestamp_seconds",
            "Unix time at which any process last finished a cleanup; 0 if unknown",
        );
        Self { finished, interrupted, failed, adopted, removed, pruned, last_finished }
    }
}

/// Writes of shared counters and gauges to Redis.
pub(crate) struct SharedMetrics {
    pub(crate) pending: Gauge,
    pub(crate) flushed: Counter,
    pub(crate) flush_failures: Counter,
    /// Changes rejected because too many were pending, or because the key has another type.
    pub(crate) dropped: Counter,
    /// Responses of `/metrics` without the values that are read at scrape time.
    pub(crate) incomplete_scrapes: Counter,
}

impl SharedMetrics {
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        Self {
            pending: builder.gauge("shared_metrics_pending", "Changed names that wait to be written"),
            flushed: builder.counter("shared_metrics_flushes", "Batches written to Redis"),
            flush_failures: builder.counter(
                "shared_metrics_flush_failures",
                "Failed batches, which are retried",
            ),
            incomplete_scrapes: builder.counter(
                "incomplete_scrapes",
                "Responses of /metrics without the scraped values, because Redis or the broker was too slow",
            ),
            dropped: builder.counter(
                "shared_metrics_dropped",
                "Changes rejected, because too many names were pending or the key is not a number",
            ),
        }
    }
}
