//! What is asked of the gateway, beside what was measured.

use serde::Serialize;

use crate::{
    bench::{CONNECTIONS, Measured},
    report::Report,
    servers::Kind,
    workload::Workload,
};

/// Times `FastAPI`'s requests a second, share of Redis' own limit, part of `FastAPI`'s CPU: at least, at least, at
/// most one in so many.
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
/// Of `FastAPI`'s p99, everywhere.
const P99: f64 = 10.0;
/// Milliseconds, of the mixed load.
const MIXED_P999: f64 = 10.0;

#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    pub(crate) work: &'static str,
    pub(crate) figure: &'static str,
    pub(crate) target: String,
    pub(crate) measured: String,
    pub(crate) is_met: bool,
    /// What other programs took of a core, at most, while the figures were measured.
    pub(crate) others_share: f64,
}

/// All targets that there are figures for, at [`CONNECTIONS`].
pub(crate) fn check(report: &Report) -> Vec<Checked> {
    let mut checked = Vec::new();
    for (workload, times, share, cpu) in TARGETS {
        let Some(ours) = report.measured(Kind::Gateway, workload, CONNECTIONS) else { continue };
        let theirs = report.measured(Kind::FastApi, workload, CONNECTIONS);
        if let Some(theirs) = theirs {
            let measured = ours.per_second / theirs.per_second;
            let others_share = ours.others_share.max(theirs.others_share);
            checked.push(Checked {
                work: workload.name(),
                figure: "times FastAPI's requests/s",
                target: format!("≥ {times:.0}"),
                measured: format!("{measured:.1}"),
                is_met: measured >= times,
                others_share,
            });
        }
        if let Some((share, raw)) = share.zip(report.raw(workload)) {
            let measured = ours.per_second / raw.per_second;
            let others_share = ours.others_share.max(raw.others_share);
            checked.push(Checked {
                work: workload.name(),
                figure: "share of Redis' own limit",
                target: format!("≥ {share:.2}"),
                measured: format!("{measured:.2}"),
                is_met: measured >= share,
                others_share,
            });
        }
        if let Some((cpu, theirs)) = cpu.zip(theirs) {
            checked.push(one_in("CPU of FastAPI's", workload, cpu, (ours, theirs), |it| it.cpu_us));
        }
    }
    checked.extend(latencies(report));
    checked
}

fn latencies(report: &Report) -> Vec<Checked> {
    let p99 = |workload: Workload| {
        let of = |kind| report.measured(kind, workload, CONNECTIONS);
        let both = (of(Kind::Gateway)?, of(Kind::FastApi)?);
        Some(one_in("p99 of FastAPI's", workload, P99, both, |it| it.p99_ms))
    };
    let mut checked: Vec<Checked> = Workload::all().filter_map(p99).collect();
    if let Some(mixed) = report.measured(Kind::Gateway, Workload::Mixed, CONNECTIONS) {
        checked.push(Checked {
            work: Workload::Mixed.name(),
            figure: "p99.9",
            target: format!("≤ {MIXED_P999:.0} ms"),
            measured: format!("{:.1} ms", mixed.p999_ms),
            is_met: mixed.p999_ms <= MIXED_P999,
            others_share: mixed.others_share,
        });
    }
    checked
}

/// At most one `target`th of what the peer has.
fn one_in(
    figure: &'static str,
    workload: Workload,
    target: f64,
    (ours, theirs): (&Measured, &Measured),
    of: fn(&Measured) -> f64,
) -> Checked {
    let measured = of(theirs) / of(ours);
    Checked {
        work: workload.name(),
        figure,
        target: format!("≤ 1/{target:.0}"),
        measured: format!("1/{measured:.1}"),
        is_met: measured >= target,
        others_share: ours.others_share.max(theirs.others_share),
    }
}
