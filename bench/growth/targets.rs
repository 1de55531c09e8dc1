//! Costs that must not grow, compared with the measurements.

use serde::Serialize;

use crate::{
    bench::Measurement,
    jobs::Operation,
    report::{JobsRow, Report, StreamsRow},
};

/// The maximal ratio between the largest and the smallest number of jobs or streams that counts as flat.
const FLAT: f64 = 1.2;

#[derive(Debug, Serialize)]
pub(crate) struct TargetResult {
    pub(crate) cost: String,
    pub(crate) resource: &'static str,
    pub(crate) target: String,
    pub(crate) measured: String,
    /// `None` if there is no target.
    pub(crate) is_met: Option<bool>,
    /// The maximal background load during the measurements, as a fraction of a core.
    pub(crate) background_share: f64,
}

pub(crate) fn evaluate(report: &Report) -> Vec<TargetResult> {
    let mut results = Vec::new();
    for operation in Operation::ALL {
        // A list of one job is not comparable with a full page.
        let first = usize::from(operation == Operation::List);
        let (smallest, largest) =
            (report.rows(operation).nth(first), report.rows(operation).last());
        if let Some((smallest, largest)) = smallest.zip(largest) {
            results.extend(by_jobs(smallest, largest));
        }
    }
    results.extend(by_streams(report));
    results
}

fn by_jobs(smallest: &JobsRow, largest: &JobsRow) -> [TargetResult; 3] {
    let name =
        format!("{}, at {} jobs / at {}", largest.operation.name(), largest.step, smallest.step);
    let both = (&smallest.measured, &largest.measured);
    [
        flat(name.clone(), "CPU", both, |measurement| measurement.cpu_us),
        flat(name.clone(), "Redis CPU", both, |measurement| measurement.redis_cpu_us),
        flat(name, "Redis commands", both, |measurement| measurement.commands),
    ]
}

fn by_streams(report: &Report) -> Vec<TargetResult> {
    let mut results = Vec::new();
    let own: Vec<&StreamsRow> =
        report.streams.iter().filter(|row| row.stream_count == row.job_count).collect();
    let shared: Vec<&StreamsRow> =
        report.streams.iter().filter(|row| row.stream_count > row.job_count).collect();
    if let (Some(smallest), Some(largest)) = (own.first(), own.last()) {
        let name = format!("GET job, with {} streams / with 1", largest.stream_count);
        results.push(flat(name, "CPU", (&smallest.get_job, &largest.get_job), |measurement| {
            measurement.cpu_us
        }));
    }
    let (Some(shared), Some(own)) = (shared.last(), own.last()) else { return results };
    let (shared_kib, own_kib) = (shared.kib_per_stream(), own.kib_per_stream());
    let memory = |cost: &str, kib: f64| TargetResult {
        cost: cost.to_owned(),
        resource: "memory",
        target: "–".to_owned(),
        measured: format!("{kib:.1} KiB"),
        is_met: None,
        background_share: 0.0,
    };
    results.push(memory("an open stream", shared_kib));
    results.push(memory("a watched job", own_kib - shared_kib));
    results
}

fn flat(
    cost: String,
    resource: &'static str,
    (smallest, largest): (&Measurement, &Measurement),
    value: fn(&Measurement) -> f64,
) -> TargetResult {
    let measured = value(largest) / value(smallest);
    TargetResult {
        cost,
        resource,
        target: format!("flat: ≤ {FLAT}"),
        measured: format!("{measured:.2}"),
        is_met: Some(measured <= FLAT),
        background_share: smallest.background_share.max(largest.background_share),
    }
}
