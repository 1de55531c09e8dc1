//! The table.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    deployment::{Deployment, Durability},
    fault::Fault,
    traffic::{CALL_LIMIT, Traffic},
};

/// What a fault cost.
pub(super) struct Row {
    fault: Fault,
    durability: Durability,
    /// How long the sentinels needed for a new primary.
    sentinels_took: Option<Duration>,
    gap: Duration,
    n_requests: usize,
    n_failed: usize,
    /// What was answered instead, and how often.
    failures: Vec<(String, usize)>,
    n_created: usize,
    n_lost_jobs: usize,
    lost_events: Vec<String>,
    n_doubled_events: usize,
    n_over_timeout: usize,
    slowest: Duration,
}

impl Row {
    pub(super) async fn of(
        fault: Fault,
        durability: Durability,
        deployment: &Deployment,
        began: Instant,
        sentinels_took: Option<Duration>,
    ) -> Self {
        let created = deployment.log.records().created.clone();
        let http = reqwest::Client::new();
        let n_lost_jobs = Traffic::lost(&http, &deployment.balancer, &created).await;
        let records = deployment.log.records();
        let mut failures: Vec<(String, usize)> = Vec::new();
        for (_, text) in &records.failures {
            let text: String = text.chars().take(160).collect();
            match failures.iter_mut().find(|failure| failure.0 == text) {
                Some(failure) => failure.1 += 1,
                None => failures.push((text, 1)),
            }
        }
        Self {
            fault,
            durability,
            sentinels_took,
            gap: records.gap(began),
            n_requests: records.n_requests,
            n_failed: records.failures.len(),
            failures,
            n_created: created.len(),
            n_lost_jobs,
            lost_events: records.lost_events(),
            n_doubled_events: records.n_doubled_events(),
            n_over_timeout: records.n_over_timeout,
            slowest: records.slowest,
        }
    }

    /// What must hold and did not.
    pub(super) fn broken_promises(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut hold = |holds: bool, what: String| {
            if !holds {
                broken.push(format!("{:?} ({:?}): {what}", self.fault, self.durability));
            }
        };
        let of = |n: usize, what: &str| format!("{n} {what}");
        let is_safe = self.durability == Durability::Wait;
        hold(!is_safe || self.n_lost_jobs == 0, of(self.n_lost_jobs, "acknowledged jobs lost"));
        hold(self.n_over_timeout == 0, of(self.n_over_timeout, "calls beyond their timeout"));
        hold(self.lost_events.is_empty(), of(self.lost_events.len(), "events lost"));
        hold(self.n_doubled_events == 0, of(self.n_doubled_events, "events doubled"));
        let free = [Fault::Failover, Fault::RollingRestart];
        hold(!free.contains(&self.fault) || self.n_failed == 0, of(self.n_failed, "failed"));
        let moved = self.sentinels_took.map(|duration| duration + Duration::from_secs(1));
        hold(moved.is_none_or(|limit| self.gap <= limit), format!("no write for {:?}", self.gap));
        broken
    }

    fn line(&self) -> String {
        let secs = |duration: Duration| format!("{:.1}", duration.as_secs_f64());
        let durability = format!("{:?}", self.durability).to_lowercase();
        format!(
            "| {} | {durability} | {} | {} | {} of {} | {} of {} | {} | {} | {} | {} |",
            self.fault.name(),
            self.sentinels_took.map_or_else(|| "–".to_owned(), secs),
            secs(self.gap),
            self.n_failed,
            self.n_requests,
            self.n_lost_jobs,
            self.n_created,
            self.lost_events.len(),
            self.n_doubled_events,
            self.n_over_timeout,
            secs(self.slowest),
        )
    }
}

#[expect(clippy::print_stdout, reason = "whoever runs it wants to see it go")]
pub(super) fn say(row: &Row) {
    println!("{}", row.line());
    for (text, n) in row.failures.iter().take(6) {
        println!("    {n} × {text}");
    }
    for event in row.lost_events.iter().take(6) {
        println!("    lost: {event}");
    }
}

pub(super) fn write(rows: &[Row]) {
    let mut text = format!(
        "# What faults cost\n\n\
         Written by `make test-chaos`: two services behind a load balancer that heeds `/readyz`; Redis 7 with two\n\
         replicas and three sentinels whose patience is 1 s; 50 browsers on 10 jobs, 10 workers that report, 3 callers\n\
         that create jobs and 2 that read. All of it on one machine of {} cores, the service a debug build; from 300\n\
         requests before the fault to 1000 after it. A request that failed is repeated by its caller after 50 ms. An event is lost when a report was\n\
         acknowledged and a browser of its job never saw it. The timeout of a call is {:.0} s (`redis.failover_wait`, one\n\
         `redis.command_timeout`, and half a second).\n\n\
         | fault | durability | sentinels needed, s | without a write, s | requests failed | acknowledged jobs lost | \
         events lost | events doubled | calls over their timeout | slowest call, s |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        CALL_LIMIT.as_secs_f64(),
    );
    for row in rows {
        writeln!(text, "{}", row.line()).unwrap();
    }
    text += "\n";
    text += include_str!("notes.md");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CHAOS.md");
    std::fs::write(path, text).unwrap();
}
