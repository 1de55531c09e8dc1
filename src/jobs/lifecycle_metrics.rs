//! How long jobs wait and run, from the lifecycle events of scripts; see `shared/lifecycle.lua`.

use super::model::parse_time;
use crate::observability::metrics::JobMetrics;

/// Measures what a script said began or ended in it.
pub(crate) fn record(metrics: &JobMetrics, milestones: &str) {
    for line in milestones.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (kind, since, now, status) = match words[..] {
            [kind, since, now] => (kind, since, now, ""),
            [kind, since, now, status] => (kind, since, now, status),
            _ => continue,
        };
        let took = parse_time(since).zip(parse_time(now)).map(|(since, now)| now - since);
        let secs = took.and_then(|it| it.to_std().ok()).map(|it| it.as_secs_f64());
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
