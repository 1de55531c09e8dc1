//! What came out: printed as tables, and written as Markdown, JSON and a chart.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    bench::{CONNECTIONS, Measured, NOISE},
    chart,
    jobs::Question,
    machine::Circumstances,
    targets,
};

pub(crate) struct Report {
    circumstances: Circumstances,
    pub(crate) program: Option<Program>,
    pub(crate) jobs: Vec<JobsRow>,
    /// By the number of jobs.
    pub(crate) idle: Vec<(usize, Idle)>,
    /// With the most jobs.
    pub(crate) redis_mib: f64,
    pub(crate) streams: Vec<StreamsRow>,
}

#[derive(Serialize)]
pub(crate) struct Program {
    pub(crate) mib: f64,
    pub(crate) rss_mib: f64,
    pub(crate) idle: Idle,
}

/// Parts of a core.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Idle {
    pub(crate) server_share: f64,
    pub(crate) redis_share: f64,
    pub(crate) others_share: f64,
}

pub(crate) struct JobsRow {
    /// How many jobs there should be, and how many there were before the question.
    pub(crate) step: usize,
    pub(crate) n_jobs: usize,
    pub(crate) question: Question,
    pub(crate) measured: Measured,
}

#[derive(Serialize)]
pub(crate) struct StreamsRow {
    pub(crate) n_streams: usize,
    pub(crate) n_jobs: usize,
    /// What resident memory grew by when they were opened.
    pub(crate) grown_kib: f64,
    pub(crate) idle: Idle,
    pub(crate) get_job: Measured,
}

impl StreamsRow {
    pub(crate) fn kib_each(&self) -> f64 {
        self.grown_kib / self.n_streams as f64
    }
}

impl Report {
    pub(crate) fn new(circumstances: Circumstances) -> Self {
        Self {
            circumstances,
            program: None,
            jobs: Vec::new(),
            idle: Vec::new(),
            redis_mib: 0.0,
            streams: Vec::new(),
        }
    }

    /// Of one question, by rising numbers of jobs.
    pub(crate) fn answers(&self, question: Question) -> impl Iterator<Item = &JobsRow> {
        self.jobs.iter().filter(move |it| it.question == question)
    }

    /// All tables, the targets first.
    pub(crate) fn text(&self) -> String {
        let mut text = self.targets_table();
        for question in Question::ALL {
            _ = write!(text, "\n## {}\n\n{}", question.name(), self.jobs_table(question));
        }
        text + &self.idle_table() + &self.streams_table()
    }

    fn targets_table(&self) -> String {
        let mut text =
            "## Targets\n\n| cost | of | target | measured | met | others |\n".to_owned();
        text += "| --- | --- | ---: | ---: | --- | ---: |\n";
        for it in targets::check(self) {
            let met = match it.is_met {
                Some(true) => "met",
                Some(false) => "**not met**",
                None => "–",
            };
            _ = writeln!(
                text,
                "| {} | {} | {} | {} | {met} | {} |",
                it.cost,
                it.of,
                it.target,
                it.measured,
                percent(it.others_share)
            );
        }
        text
    }

    fn jobs_table(&self, question: Question) -> String {
        let mut text =
            "| jobs | requests/s | p50 ms | p99 ms | CPU µs | Redis CPU µs | Redis commands | \
            bytes | RSS MiB | others |\n"
                .to_owned();
        text += "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";
        for JobsRow { n_jobs, measured: it, .. } in self.answers(question) {
            _ = writeln!(
                text,
                "| {n_jobs} | {:.0} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {} |",
                it.per_second,
                it.p50_ms,
                it.p99_ms,
                it.cpu_us,
                it.redis_cpu_us,
                it.commands,
                it.bytes,
                it.rss_mib,
                percent(it.others_share)
            );
        }
        text
    }

    fn idle_table(&self) -> String {
        let mut text = "\n## Nobody asks\n\n| jobs | CPU | Redis CPU | others |\n".to_owned();
        text += "| ---: | ---: | ---: | ---: |\n";
        let empty = self.program.iter().map(|it| (0, it.idle));
        for (n_jobs, it) in empty.chain(self.idle.iter().copied()) {
            _ = writeln!(
                text,
                "| {n_jobs} | {} | {} | {} |",
                tenths(it.server_share),
                tenths(it.redis_share),
                percent(it.others_share)
            );
        }
        text
    }

    fn streams_table(&self) -> String {
        let mut text = "\n## Open streams\n\n| streams | of jobs | KiB a stream | idle CPU | idle Redis CPU | \
            GET job, CPU µs | Redis CPU µs | requests/s | p99 ms | others |\n\
            | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
            .to_owned();
        for it in &self.streams {
            _ = writeln!(
                text,
                "| {} | {} | {:.1} | {} | {} | {:.1} | {:.1} | {:.0} | {:.2} | {} |",
                it.n_streams,
                it.n_jobs,
                it.kib_each(),
                tenths(it.idle.server_share),
                tenths(it.idle.redis_share),
                it.get_job.cpu_us,
                it.get_job.redis_cpu_us,
                it.get_job.per_second,
                it.get_job.p99_ms,
                percent(it.get_job.others_share.max(it.idle.others_share))
            );
        }
        text
    }

    fn machine(&self) -> Vec<(&'static str, String)> {
        let mut machine = self.circumstances.machine.clone();
        if let Some(it) = &self.program {
            machine.push(("program", format!("{:.1} MiB", it.mib)));
            machine.push(("resident when idle", format!("{:.1} MiB", it.rss_mib)));
        }
        let n_jobs = self.idle.last().map_or(0, |it| it.0);
        machine.push(("Redis in the end", format!("{:.0} MiB, {n_jobs} jobs", self.redis_mib)));
        let all = self.jobs.iter().map(|it| it.measured.others_share);
        let all: Vec<f64> =
            all.chain(self.streams.iter().map(|it| it.get_job.others_share)).collect();
        let n_noisy = all.iter().filter(|it| **it > NOISE).count();
        machine.push((
            "measured while other programs took more than 15 % of a core",
            format!("{n_noisy} of {} figures", all.len()),
        ));
        machine.push(("connections", CONNECTIONS.to_string()));
        machine
    }

    fn json(&self) -> Value {
        let machine: BTreeMap<_, _> = self.machine().into_iter().collect();
        let job = |it: &JobsRow| json!({ "step": it.step, "jobs": it.n_jobs, "work": it.question.name(), "measured": it.measured });
        let idle = |it: &(usize, Idle)| json!({ "jobs": it.0, "shares": it.1 });
        json!({
            "date": self.circumstances.date,
            "machine": machine,
            "targets": targets::check(self),
            "program": self.program,
            "jobs": self.jobs.iter().map(job).collect::<Vec<_>>(),
            "idle": self.idle.iter().map(idle).collect::<Vec<_>>(),
            "streams": self.streams,
        })
    }

    /// Writes `growth-DATE.md`, `.json` and `.svg` into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<PathBuf> {
        let date = &self.circumstances.date;
        let name = format!("growth-{date}");
        let mut text = format!("# Growth, {date}\n\n");
        for (what, value) in self.machine() {
            _ = writeln!(text, "- {what}: {value}");
        }
        _ = write!(text, "\nHow to read this: [bench/README.md](../README.md).\n\n");
        _ = write!(text, "![chart]({name}.svg)\n\n{}", self.text());
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{name}.md"));
        fs::write(&path, text)?;
        let json = serde_json::to_string_pretty(&self.json())? + "\n";
        fs::write(dir.join(format!("{name}.json")), json)?;
        fs::write(dir.join(format!("{name}.svg")), chart::draw(self, date))?;
        Ok(path)
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn tenths(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
