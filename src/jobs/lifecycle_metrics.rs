//! How long jobs wait and run, from the lifecycle events of scripts; see `shared/lifecycle.lua`.

use super::model::parse_time;
use crate::observability::metrics::JobMetrics;

/// Records the lifecycle events of a script, one a line: `started {created_at} {now}` or
/// `ended {started_at} {now} {status}`, where an unknown time is `-`.
pub(crate) fn record(metrics: &JobMetrics, events: &str) {
    for line in events.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (kind, since, now, status) = match words[..] {
            [kind, since, now] => (kind, since, now, ""),
            [kind, since, now, status] => (kind, since, now, status),
            _ => continue,
        };
        let elapsed = parse_time(since).zip(parse_time(now)).map(|(since, now)| now - since);
        let secs =
            elapsed.and_then(|elapsed| elapsed.to_std().ok()).map(|elapsed| elapsed.as_secs_f64());
        match (kind, secs) {
            ("started", Some(secs)) => metrics.wait.observe(secs),
            ("ended", secs) => {
                if let Some(secs) = secs {
                    metrics.run.observe(secs);
                }
                match status {
                    "completed" => metrics.completed.inc(),
                    "partial" => metrics.partial.inc(),
                    "failed" => metrics.failed.inc(),
                    "cancelled" => metrics.cancelled.inc(),
                    _ => metrics.expired.inc(),
                };
            }
            _ => (),
        }
    }
}
