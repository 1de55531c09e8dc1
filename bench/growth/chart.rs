//! A chart of the gateway's CPU time per request: one panel per operation, one bar per number of jobs or streams.

use crate::{
    bar_chart::{self, Panel},
    jobs::Operation,
    report::Report,
};

const JOBS: &str = "#2563eb";
const STREAMS: &str = "#d97706";

pub(crate) fn draw(report: &Report, date: &str) -> String {
    let panel = |operation: Operation| Panel {
        title: format!("{}, by jobs in Redis", operation.name()),
        bars: report
            .rows(operation)
            .map(|row| (row.step.to_string(), row.measured.cpu_us, JOBS))
            .collect(),
    };
    let mut panels: Vec<Panel> = Operation::ALL.into_iter().map(panel).collect();
    let own_jobs = report.streams.iter().filter(|row| row.stream_count == row.job_count);
    panels.push(Panel {
        title: "GET job, by open streams, one job per stream".to_owned(),
        bars: own_jobs
            .map(|row| (row.stream_count.to_string(), row.get_job.cpu_us, STREAMS))
            .collect(),
    });
    let heading = format!("CPU time of the gateway per request, {date}");
    bar_chart::draw(&heading, &panels, |value| format!("{value:.1} µs"))
}
