//! The table of `docs/CHAOS.md`.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    deployment::{DeploymentEnvironment, Durability},
    fault::Fault,
    traffic::{CALL_LIMIT, Traffic},
};

/// The results of a fault.
pub(super) struct Row {
    fault: Fault,
    durability: Durability,
    /// The duration of the failover.
    sentinels_took: Option<Duration>,
    gap: Duration,
    request_count: usize,
    failure_count: usize,
    /// Each response or error of failed requests, and its number.
    failures: Vec<(String, usize)>,
    created_count: usize,
    lost_job_count: usize,
    lost_events: Vec<String>,
    duplicate_count: usize,
    timeout_count: usize,
    slowest: Duration,
}

impl Row {
    pub(super) async fn measure(
        fault: Fault,
        durability: Durability,
        deployment: &DeploymentEnvironment,
        began: Instant,
        sentinels_took: Option<Duration>,
    ) -> Self {
        let created = deployment.log.records().created.clone();
        let http = reqwest::Client::new();
        let lost_job_count = Traffic::lost(&http, &deployment.balancer, &created).await;
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
            request_count: records.request_count,
            failure_count: records.failures.len(),
            failures,
            created_count: created.len(),
            lost_job_count,
            lost_events: records.lost_events(),
            duplicate_count: records.duplicate_count(),
            timeout_count: records.timeout_count,
            slowest: records.slowest,
        }
    }

    /// The guarantees that the fault violated.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut check = |holds: bool, violation: String| {
            if !holds {
                broken.push(format!("{:?} ({:?}): {violation}", self.fault, self.durability));
            }
        };
        let count = |number: usize, subject: &str| format!("{number} {subject}");
        let is_safe = self.durability == Durability::Wait;
        check(
            !is_safe || self.lost_job_count == 0,
            count(self.lost_job_count, "acknowledged jobs lost"),
        );
        check(self.timeout_count == 0, count(self.timeout_count, "calls beyond their timeout"));
        check(self.lost_events.is_empty(), count(self.lost_events.len(), "events lost"));
        check(self.duplicate_count == 0, count(self.duplicate_count, "events duplicated"));
        let free = [Fault::Failover, Fault::RollingRestart];
        check(
            !free.contains(&self.fault) || self.failure_count == 0,
            count(self.failure_count, "failed"),
        );
        let moved = self.sentinels_took.map(|duration| duration + Duration::from_secs(1));
        check(moved.is_none_or(|limit| self.gap <= limit), format!("no write for {:?}", self.gap));
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
            self.failure_count,
            self.request_count,
            self.lost_job_count,
            self.created_count,
            self.lost_events.len(),
            self.duplicate_count,
            self.timeout_count,
            secs(self.slowest),
        )
    }
}

#[expect(clippy::print_stdout, reason = "shows the progress of a long run")]
pub(super) fn print(row: &Row) {
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
        "# Fault tests\n\n\
         Written by `make test-chaos`. Setup: two gateway processes behind a load balancer that checks `/readyz`; Redis 7 with\n\
         two replicas and three sentinels with `down-after-milliseconds` of 1 s; 50 browsers on 10 jobs, 10 workers that\n\
         report, 3 clients that create jobs and 2 that read. Everything runs on one machine with {} cores, with a debug build of\n\
         the gateway. Each row covers 300 requests before the fault to 1000 after it. A client repeats a failed request after\n\
         50 ms. An event is lost if its report was acknowledged and a browser of its job never received it. The timeout of a\n\
         call is {:.0} s (`redis.failover_wait`, one `redis.command_timeout`, and half a second).\n\n\
         | fault | durability | failover by sentinels, s | longest gap between writes, s | requests failed | \
         acknowledged jobs lost | events lost | events duplicated | calls over their timeout | slowest call, s |\n\
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
