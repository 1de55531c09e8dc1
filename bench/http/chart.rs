//! A chart of requests a second: a panel a workload, a bar a server.

use crate::{
    bars::{self, Panel},
    bench::CONNECTIONS,
    report::{Report, rate},
    servers::Kind,
    workload::Workload,
};

pub(crate) fn draw(report: &Report, date: &str) -> String {
    let panel = |workload: Workload| Panel {
        title: workload.name().to_owned(),
        bars: bars(report, workload),
    };
    let panels: Vec<Panel> = Workload::all().map(panel).collect();
    bars::draw(&format!("Requests a second, {CONNECTIONS} connections, {date}"), &panels, rate)
}

/// Name, requests a second, color.
fn bars(report: &Report, workload: Workload) -> Vec<(String, f64, &'static str)> {
    let of = |kind| report.measured(kind, workload, CONNECTIONS).map(|it| it.per_second);
    let all = [
        ("Redis itself", report.raw(workload).map(|it| it.per_second), "#b0b7c3"),
        (Kind::Gateway.name(), of(Kind::Gateway), "#2563eb"),
        (Kind::FastApi.name(), of(Kind::FastApi), "#d97706"),
    ];
    let there =
        |(name, value, color): (&str, Option<f64>, _)| Some((name.to_owned(), value?, color));
    all.into_iter().filter_map(there).collect()
}
