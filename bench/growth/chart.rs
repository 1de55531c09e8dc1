//! A chart of the service's CPU a request: a panel a question, a bar a number of jobs or of streams.

use crate::{
    bars::{self, Panel},
    jobs::Question,
    report::Report,
};

const JOBS: &str = "#2563eb";
const STREAMS: &str = "#d97706";

pub(crate) fn draw(report: &Report, date: &str) -> String {
    let among_jobs = |question: Question| Panel {
        title: format!("{}, by jobs in Redis", question.name()),
        bars: report
            .answers(question)
            .map(|it| (it.step.to_string(), it.measured.cpu_us, JOBS))
            .collect(),
    };
    let mut panels: Vec<Panel> = Question::ALL.into_iter().map(among_jobs).collect();
    let own = report.streams.iter().filter(|it| it.n_streams == it.n_jobs);
    panels.push(Panel {
        title: "GET job, by open streams, each of its own job".to_owned(),
        bars: own.map(|it| (it.n_streams.to_string(), it.get_job.cpu_us, STREAMS)).collect(),
    });
    let heading = format!("CPU of the service for a request, {date}");
    bars::draw(&heading, &panels, |it| format!("{it:.1} µs"))
}
