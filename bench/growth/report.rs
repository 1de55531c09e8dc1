//! The results: printed as tables, and written as Markdown, JSON and a chart.

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
    bench::{CONNECTIONS, MAX_BACKGROUND_SHARE, Measurement},
    chart,
    host_info::HostInfo,
    jobs::Operation,
    targets,
};

pub(crate) struct Report {
    host_info: HostInfo,
    pub(crate) program: Option<Program>,
    pub(crate) jobs: Vec<JobsRow>,
    /// Idle CPU by number of jobs.
    pub(crate) idle: Vec<(usize, IdleCpu)>,
    /// Memory of Redis with the largest number of jobs.
    pub(crate) redis_mib: f64,
    pub(crate) streams: Vec<StreamsRow>,
}

#[derive(Serialize)]
pub(crate) struct Program {
    pub(crate) mib: f64,
    pub(crate) rss_mib: f64,
    pub(crate) idle: IdleCpu,
}

/// CPU usage as fractions of a core.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct IdleCpu {
    pub(crate) server_share: f64,
    pub(crate) redis_share: f64,
    pub(crate) background_share: f64,
}

pub(crate) struct JobsRow {
    /// The planned number of jobs, and the actual number before the measurement.
    pub(crate) step: usize,
    pub(crate) job_count: usize,
    pub(crate) operation: Operation,
    pub(crate) measured: Measurement,
}

#[derive(Serialize)]
pub(crate) struct StreamsRow {
    pub(crate) stream_count: usize,
    pub(crate) job_count: usize,
    /// Growth of resident memory while the streams were opened.
    pub(crate) growth_kib: f64,
    pub(crate) idle: IdleCpu,
    pub(crate) get_job: Measurement,
}

impl StreamsRow {
    pub(crate) fn kib_per_stream(&self) -> f64 {
        self.growth_kib / self.stream_count as f64
    }
}

impl Report {
    pub(crate) fn new(host_info: HostInfo) -> Self {
        Self {
            host_info,
            program: None,
            jobs: Vec::new(),
            idle: Vec::new(),
            redis_mib: 0.0,
            streams: Vec::new(),
        }
    }

    /// The rows of one operation, by increasing number of jobs.
    pub(crate) fn rows(&self, operation: Operation) -> impl Iterator<Item = &JobsRow> {
        self.jobs.iter().filter(move |row| row.operation == operation)
    }

    /// All tables, the targets first.
    pub(crate) fn text(&self) -> String {
        let mut text = self.targets_table();
        for operation in Operation::ALL {
            _ = write!(text, "\n## {}\n\n{}", operation.name(), self.jobs_table(operation));
        }
        text + &self.idle_table() + &self.streams_table()
    }

    fn targets_table(&self) -> String {
        let mut text =
            "## Targets\n\n| cost | resource | target | measured | met | background |\n".to_owned();
        text += "| --- | --- | ---: | ---: | --- | ---: |\n";
        for result in targets::evaluate(self) {
            let met = match result.is_met {
                Some(true) => "met",
                Some(false) => "**not met**",
                None => "–",
            };
            _ = writeln!(
                text,
                "| {} | {} | {} | {} | {met} | {} |",
                result.cost,
                result.resource,
                result.target,
                result.measured,
                percent(result.background_share)
            );
        }
        text
    }

    fn jobs_table(&self, operation: Operation) -> String {
        let mut text =
            "| jobs | requests/s | p50 ms | p99 ms | CPU µs | Redis CPU µs | Redis commands | \
            bytes | RSS MiB | background |\n"
                .to_owned();
        text += "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";
        for JobsRow { job_count, measured: measurement, .. } in self.rows(operation) {
            _ = writeln!(
                text,
                "| {job_count} | {:.0} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {} |",
                measurement.per_second,
                measurement.p50_ms,
                measurement.p99_ms,
                measurement.cpu_us,
                measurement.redis_cpu_us,
                measurement.commands,
                measurement.bytes,
                measurement.rss_mib,
                percent(measurement.background_share)
            );
        }
        text
    }

    fn idle_table(&self) -> String {
        let mut text = "\n## Idle\n\n| jobs | CPU | Redis CPU | background |\n".to_owned();
        text += "| ---: | ---: | ---: | ---: |\n";
        let empty = self.program.iter().map(|program| (0, program.idle));
        for (job_count, idle) in empty.chain(self.idle.iter().copied()) {
            _ = writeln!(
                text,
                "| {job_count} | {} | {} | {} |",
                tenths(idle.server_share),
                tenths(idle.redis_share),
                percent(idle.background_share)
            );
        }
        text
    }

    fn streams_table(&self) -> String {
        let mut text =
            "\n## Open streams\n\n| streams | jobs | KiB per stream | idle CPU | idle Redis CPU | \
            GET job, CPU µs | Redis CPU µs | requests/s | p99 ms | background |\n\
            | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
                .to_owned();
        for row in &self.streams {
            _ = writeln!(
                text,
                "| {} | {} | {:.1} | {} | {} | {:.1} | {:.1} | {:.0} | {:.2} | {} |",
                row.stream_count,
                row.job_count,
                row.kib_per_stream(),
                tenths(row.idle.server_share),
                tenths(row.idle.redis_share),
                row.get_job.cpu_us,
                row.get_job.redis_cpu_us,
                row.get_job.per_second,
                row.get_job.p99_ms,
                percent(row.get_job.background_share.max(row.idle.background_share))
            );
        }
        text
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        let mut properties = self.host_info.properties.clone();
        if let Some(program) = &self.program {
            properties.push(("binary", format!("{:.1} MiB", program.mib)));
            properties.push(("resident memory when idle", format!("{:.1} MiB", program.rss_mib)));
        }
        let job_count = self.idle.last().map_or(0, |entry| entry.0);
        properties.push((
            "Redis memory at the end",
            format!("{:.0} MiB, {job_count} jobs", self.redis_mib),
        ));
        let shares = self.jobs.iter().map(|row| row.measured.background_share);
        let shares: Vec<f64> =
            shares.chain(self.streams.iter().map(|row| row.get_job.background_share)).collect();
        let noisy_count = shares.iter().filter(|share| **share > MAX_BACKGROUND_SHARE).count();
        properties.push((
            "measured with a background load above 15 % of a core",
            format!("{noisy_count} of {} measurements", shares.len()),
        ));
        properties.push(("connections", CONNECTIONS.to_string()));
        properties
    }

    fn json(&self) -> Value {
        let properties: BTreeMap<_, _> = self.properties().into_iter().collect();
        let job = |row: &JobsRow| json!({ "step": row.step, "jobs": row.job_count, "work": row.operation.name(), "measured": row.measured });
        let idle = |entry: &(usize, IdleCpu)| json!({ "jobs": entry.0, "shares": entry.1 });
        json!({
            "date": self.host_info.date,
            "machine": properties,
            "targets": targets::evaluate(self),
            "program": self.program,
            "jobs": self.jobs.iter().map(job).collect::<Vec<_>>(),
            "idle": self.idle.iter().map(idle).collect::<Vec<_>>(),
            "streams": self.streams,
        })
    }

    /// Writes `growth-DATE.md`, `.json` and `.svg` into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<PathBuf> {
        let date = &self.host_info.date;
        let name = format!("growth-{date}");
        let mut text = format!("# Growth, {date}\n\n");
        for (name, value) in self.properties() {
            _ = writeln!(text, "- {name}: {value}");
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
