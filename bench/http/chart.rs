//! A chart of requests per second: one panel per workload, one bar per server.

use crate::{
    bar_chart::{self, Panel},
    bench::CONNECTIONS,
    report::{Report, rate},
    servers::ServerKind,
    workload::Workload,
};

pub(crate) fn draw(report: &Report, date: &str) -> String {
    let panel = |workload: Workload| Panel {
        title: workload.name().to_owned(),
        bars: bars(report, workload),
    };
    let panels: Vec<Panel> = Workload::all().map(panel).collect();
    bar_chart::draw(
        &format!("Requests per second, {CONNECTIONS} connections, {date}"),
        &panels,
        rate,
    )
}

/// Name, requests per second and color of each bar.
fn bars(report: &Report, workload: Workload) -> Vec<(String, f64, &'static str)> {
    let rate_of = |kind| {
        report.measured(kind, workload, CONNECTIONS).map(|measurement| measurement.per_second)
    };
    let all = [
        ("Redis alone", report.baseline(workload).map(|baseline| baseline.per_second), "#b0b7c3"),
        (ServerKind::Gateway.name(), rate_of(ServerKind::Gateway), "#2563eb"),
        (ServerKind::FastApi.name(), rate_of(ServerKind::FastApi), "#d97706"),
    ];
    let present =
        |(name, value, color): (&str, Option<f64>, _)| Some((name.to_owned(), value?, color));
    all.into_iter().filter_map(present).collect()
}
