//! A chart of requests a second as SVG: a panel a workload, a bar a server.

use std::fmt::Write as _;

use crate::{
    bench::CONNECTIONS,
    report::{Report, rate},
    servers::Kind,
    workload::Workload,
};

const WIDTH: usize = 760;
const LABEL: usize = 100;
const BAR: usize = 16;
const TITLE: usize = 26;
const HEADING: usize = 40;

/// Each panel has a scale of its own, from zero.
pub(crate) fn draw(report: &Report, date: &str) -> String {
    let (mut body, mut y) = (String::new(), HEADING);
    for workload in Workload::all() {
        let bars = bars(report, workload);
        if bars.is_empty() {
            continue;
        }
        _ = writeln!(
            body,
            "<text x=\"12\" y=\"{}\" font-weight=\"bold\">{}</text>",
            y + 18,
            workload.name()
        );
        y += TITLE;
        let most = bars.iter().map(|it| it.1).fold(f64::MIN_POSITIVE, f64::max);
        for (name, value, color) in bars {
            let length = (value / most * (WIDTH - LABEL - 100) as f64).max(1.0);
            _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\
                 <rect x=\"{LABEL}\" y=\"{y}\" width=\"{length:.0}\" height=\"{BAR}\" fill=\"{color}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{}</text>",
                LABEL - 8,
                y + 12,
                LABEL as f64 + length + 6.0,
                y + 12,
                rate(value)
            );
            y += BAR + 4;
        }
        y += 4;
    }
    let height = y + 10;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">Requests a second, {CONNECTIONS} connections, {date}</text>\n\
         {body}</svg>\n"
    )
}

/// Name, requests a second, color.
fn bars(report: &Report, workload: Workload) -> Vec<(&'static str, f64, &'static str)> {
    let of = |kind| report.measured(kind, workload, CONNECTIONS).map(|it| it.per_second);
    let all = [
        ("Redis itself", report.raw(workload).map(|it| it.per_second), "#b0b7c3"),
        (Kind::Gateway.name(), of(Kind::Gateway), "#2563eb"),
        (Kind::FastApi.name(), of(Kind::FastApi), "#d97706"),
    ];
    all.into_iter().filter_map(|(name, value, color)| Some((name, value?, color))).collect()
}
