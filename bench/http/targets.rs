//! Performance targets of the gateway, compared with the measurements.

use serde::Serialize;

use crate::{
    bench::{CONNECTIONS, Measurement},
    report::Report,
    servers::ServerKind,
    workload::Workload,
};

/// Per workload: the minimal ratio to `FastAPI`'s requests per second, the minimal share of the throughput of Redis
/// alone, and the minimal divisor of `FastAPI`'s CPU time.
const TARGETS: [(Workload, f64, Option<f64>, Option<f64>); 8] = [
    (Workload::PostJob, 12.0, Some(0.85), Some(15.0)),
    (Workload::GetJob, 17.0, Some(0.85), Some(20.0)),
    (Workload::GetJobLimited, 12.0, None, Some(14.0)),
    (Workload::PostProgress, 15.0, Some(0.7), Some(15.0)),
    (Workload::GetProgress, 12.0, Some(0.6), Some(15.0)),
    (Workload::GetProgressAmongMany, 100.0, Some(0.6), Some(15.0)),
    (Workload::GetStatusAgain, 20.0, None, None),
    (Workload::Refused, 40.0, None, None),
];
/// The minimal divisor of `FastAPI`'s p99 latency, for all workloads.
const P99_DIVISOR: f64 = 10.0;
/// The maximal p99.9 latency of the mixed workload in milliseconds.
const MAX_MIXED_P999_MS: f64 = 10.0;

#[derive(Debug, Serialize)]
pub(crate) struct TargetResult {
    pub(crate) workload: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) target: String,
    pub(crate) measured: String,
    pub(crate) is_met: bool,
    /// The maximal background load during the measurements, as a fraction of a core.
    pub(crate) background_share: f64,
}

/// All targets with measurements, at [`CONNECTIONS`] connections.
pub(crate) fn evaluate(report: &Report) -> Vec<TargetResult> {
    let mut results = Vec::new();
    for (workload, times, share, cpu) in TARGETS {
        let Some(ours) = report.measured(ServerKind::Gateway, workload, CONNECTIONS) else {
            continue;
        };
        let theirs = report.measured(ServerKind::FastApi, workload, CONNECTIONS);
        if let Some(theirs) = theirs {
            let measured = ours.per_second / theirs.per_second;
            let background_share = ours.background_share.max(theirs.background_share);
            results.push(TargetResult {
                workload: workload.name(),
                metric: "requests/s, ratio to FastAPI",
                target: format!("≥ {times:.0}"),
                measured: format!("{measured:.1}"),
                is_met: measured >= times,
                background_share,
            });
        }
        if let Some((share, baseline)) = share.zip(report.baseline(workload)) {
            let measured = ours.per_second / baseline.per_second;
            let background_share = ours.background_share.max(baseline.background_share);
            results.push(TargetResult {
                workload: workload.name(),
                metric: "share of Redis alone",
                target: format!("≥ {share:.2}"),
                measured: format!("{measured:.2}"),
                is_met: measured >= share,
                background_share,
            });
        }
        if let Some((cpu, theirs)) = cpu.zip(theirs) {
            results.push(at_most_fraction(
                "CPU, ratio to FastAPI",
                workload,
                cpu,
                (ours, theirs),
                |measurement| measurement.cpu_us,
            ));
        }
    }
    results.extend(latencies(report));
    results
}

fn latencies(report: &Report) -> Vec<TargetResult> {
    let p99 = |workload: Workload| {
        let measurement_of = |kind| report.measured(kind, workload, CONNECTIONS);
        let both = (measurement_of(ServerKind::Gateway)?, measurement_of(ServerKind::FastApi)?);
        Some(at_most_fraction(
            "p99, ratio to FastAPI",
            workload,
            P99_DIVISOR,
            both,
            |measurement| measurement.p99_ms,
        ))
    };
    let mut results: Vec<TargetResult> = Workload::all().filter_map(p99).collect();
    if let Some(mixed) = report.measured(ServerKind::Gateway, Workload::Mixed, CONNECTIONS) {
        results.push(TargetResult {
            workload: Workload::Mixed.name(),
            metric: "p99.9",
            target: format!("≤ {MAX_MIXED_P999_MS:.0} ms"),
            measured: format!("{:.1} ms", mixed.p999_ms),
            is_met: mixed.p999_ms <= MAX_MIXED_P999_MS,
            background_share: mixed.background_share,
        });
    }
    results
}

/// Our value must be at most one `target`th of the peer's value.
fn at_most_fraction(
    metric: &'static str,
    workload: Workload,
    target: f64,
    (ours, theirs): (&Measurement, &Measurement),
    value: fn(&Measurement) -> f64,
) -> TargetResult {
    let measured = value(theirs) / value(ours);
    TargetResult {
        workload: workload.name(),
        metric,
        target: format!("≤ 1/{target:.0}"),
        measured: format!("1/{measured:.1}"),
        is_met: measured >= target,
        background_share: ours.background_share.max(theirs.background_share),
    }
}
