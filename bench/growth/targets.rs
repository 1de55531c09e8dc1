//! What must not grow, beside what was measured.

use serde::Serialize;

use crate::{
    bench::Measured,
    jobs::Question,
    report::{JobsRow, Report, StreamsRow},
};

/// What counts as flat: with the most, of that with the fewest.
const FLAT: f64 = 1.2;

#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    pub(crate) cost: String,
    pub(crate) of: &'static str,
    pub(crate) target: String,
    pub(crate) measured: String,
    /// Of what has no target, nothing.
    pub(crate) is_met: Option<bool>,
    /// What other programs took of a core, at most, while the figures were measured.
    pub(crate) others_share: f64,
}

pub(crate) fn check(report: &Report) -> Vec<Checked> {
    let mut checked = Vec::new();
    for question in Question::ALL {
        // One job makes no page of many.
        let first = usize::from(question == Question::List);
        let (least, most) = (report.answers(question).nth(first), report.answers(question).last());
        if let Some((least, most)) = least.zip(most) {
            checked.extend(among_jobs(least, most));
        }
    }
    checked.extend(beside_streams(report));
    checked
}

fn among_jobs(least: &JobsRow, most: &JobsRow) -> [Checked; 3] {
    let name = format!("{}, at {} jobs / at {}", most.question.name(), most.step, least.step);
    let both = (&least.measured, &most.measured);
    [
        flat(name.clone(), "CPU", both, |it| it.cpu_us),
        flat(name.clone(), "Redis CPU", both, |it| it.redis_cpu_us),
        flat(name, "Redis commands", both, |it| it.commands),
    ]
}

fn beside_streams(report: &Report) -> Vec<Checked> {
    let mut checked = Vec::new();
    let own: Vec<&StreamsRow> =
        report.streams.iter().filter(|it| it.n_streams == it.n_jobs).collect();
    let shared: Vec<&StreamsRow> =
        report.streams.iter().filter(|it| it.n_streams > it.n_jobs).collect();
    if let (Some(least), Some(most)) = (own.first(), own.last()) {
        let name = format!("GET job, beside {} streams / beside 1", most.n_streams);
        checked.push(flat(name, "CPU", (&least.get_job, &most.get_job), |it| it.cpu_us));
    }
    let (Some(of_one), Some(of_own)) = (shared.last(), own.last()) else { return checked };
    let (of_one, of_own) = (of_one.kib_each(), of_own.kib_each());
    let memory = |cost: &str, kib: f64| Checked {
        cost: cost.to_owned(),
        of: "memory",
        target: "–".to_owned(),
        measured: format!("{kib:.1} KiB"),
        is_met: None,
        others_share: 0.0,
    };
    checked.push(memory("an open stream", of_one));
    checked.push(memory("a watched job beside", of_own - of_one));
    checked
}

fn flat(
    cost: String,
    of: &'static str,
    (least, most): (&Measured, &Measured),
    value: fn(&Measured) -> f64,
) -> Checked {
    let measured = value(most) / value(least);
    Checked {
        cost,
        of,
        target: format!("flat: ≤ {FLAT}"),
        measured: format!("{measured:.2}"),
        is_met: Some(measured <= FLAT),
        others_share: least.others_share.max(most.others_share),
    }
}
