//! What came out: printed as tables, and written as Markdown, JSON and a chart.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    bench::{CONNECTIONS, Measured, NOISE},
    chart,
    machine::Circumstances,
    raw::Raw,
    servers::Kind,
    targets,
    workload::Workload,
};

pub(crate) struct Report {
    circumstances: Circumstances,
    pub(crate) rows: Vec<Row>,
    pub(crate) raws: Vec<(Workload, Raw)>,
    /// What could not be measured, and why.
    pub(crate) errors: Vec<String>,
}

pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) workload: Workload,
    pub(crate) n_connections: usize,
    /// Of a single request.
    pub(crate) round_trips: f64,
    pub(crate) measured: Measured,
}

const HEAD: &str = "| server | connections | requests/s | p50 ms | p99 ms | p99.9 ms | CPU µs | Redis CPU µs | \
    Redis commands | round trips | bytes | RSS MiB | server's core | load's core | others |\n\
    | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";

impl Report {
    pub(crate) fn new(circumstances: Circumstances) -> Self {
        Self { circumstances, rows: Vec::new(), raws: Vec::new(), errors: Vec::new() }
    }

    pub(crate) fn measured(
        &self,
        kind: Kind,
        workload: Workload,
        n_connections: usize,
    ) -> Option<&Measured> {
        let is_it =
            |it: &&Row| (it.kind, it.workload, it.n_connections) == (kind, workload, n_connections);
        self.rows.iter().find(is_it).map(|it| &it.measured)
    }

    pub(crate) fn raw(&self, workload: Workload) -> Option<&Raw> {
        self.raws.iter().find(|it| it.0 == workload).map(|it| &it.1)
    }

    /// All tables, the targets first.
    pub(crate) fn text(&self) -> String {
        let mut text = self.targets_table();
        for error in &self.errors {
            _ = writeln!(text, "\n**Not measured:** {error}");
        }
        for workload in Workload::all() {
            if self.rows.iter().any(|it| it.workload == workload) {
                _ = write!(text, "\n## {}\n\n{}", workload.name(), self.table(workload));
            }
        }
        text
    }

    /// How far to believe it.
    fn noise(&self) -> String {
        let n_noisy = self.rows.iter().filter(|it| it.measured.others_share > NOISE).count();
        format!(
            "- measured while other programs took more than {:.0} % of a core: {n_noisy} of {} figures",
            NOISE * 100.0,
            self.rows.len()
        )
    }

    fn targets_table(&self) -> String {
        let mut text =
            "## Targets\n\n| work | figure | target | measured | met | others |\n".to_owned();
        text += "| --- | --- | ---: | ---: | --- | ---: |\n";
        for it in targets::check(self) {
            let met = if it.is_met { "met" } else { "**not met**" };
            _ = writeln!(
                text,
                "| {} | {} | {} | {} | {met} | {} |",
                it.work,
                it.figure,
                it.target,
                it.measured,
                percent(it.others_share)
            );
        }
        text
    }

    fn table(&self, workload: Workload) -> String {
        let mut text = HEAD.to_owned();
        for Row { kind, n_connections, round_trips, measured: it, .. } in
            self.rows.iter().filter(|it| it.workload == workload)
        {
            let trips = (round_trips * 100.0).round() / 100.0;
            _ = writeln!(
                text,
                "| {} | {n_connections} | {} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {trips} | {:.0} | {:.0} | {} | {} | {} |",
                kind.name(),
                rate(it.per_second),
                it.p50_ms,
                it.p99_ms,
                it.p999_ms,
                it.cpu_us,
                it.redis_cpu_us,
                it.commands,
                it.bytes,
                it.rss_mib,
                percent(it.server_share),
                percent(it.load_share),
                percent(it.others_share),
            );
        }
        if let Some(it) = self.raw(workload) {
            _ = writeln!(
                text,
                "| Redis itself | {CONNECTIONS} | {} | {:.2} | {:.2} | – | – | {:.1} | {:.1} | 1 | – | – | – | – | {} |",
                rate(it.per_second),
                it.p50_ms,
                it.p99_ms,
                it.redis_cpu_us,
                it.commands,
                percent(it.others_share)
            );
        }
        text
    }

    fn json(&self) -> Result<Value> {
        let machine: BTreeMap<_, _> = self.circumstances.machine.iter().cloned().collect();
        let mut rows = Vec::new();
        for it in &self.rows {
            rows.push(json!({
                "server": it.kind.name(), "work": it.workload.name(), "connections": it.n_connections,
                "round_trips": it.round_trips, "measured": serde_json::to_value(it.measured)?,
            }));
        }
        let raw = |it: &(Workload, Raw)| json!({ "work": it.0.name(), "measured": it.1 });
        let raws: Vec<_> = self.raws.iter().map(raw).collect();
        Ok(json!({
            "date": self.circumstances.date, "machine": machine, "targets": targets::check(self),
            "rows": rows, "redis_itself": raws, "errors": self.errors,
        }))
    }

    /// Writes `http-DATE.md`, `.json` and `.svg` into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<PathBuf> {
        let Circumstances { date, machine } = &self.circumstances;
        let name = format!("http-{date}");
        let mut text = format!("# Requests, {date}\n\n");
        for (what, value) in machine {
            _ = writeln!(text, "- {what}: {value}");
        }
        _ = writeln!(text, "{}", self.noise());
        _ = write!(text, "\nHow to read this: [bench/README.md](../README.md).\n\n");
        _ = write!(text, "![chart]({name}.svg)\n\n{}", self.text());
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{name}.md"));
        fs::write(&path, text)?;
        let json = serde_json::to_string_pretty(&self.json()?)? + "\n";
        fs::write(dir.join(format!("{name}.json")), json)?;
        fs::write(dir.join(format!("{name}.svg")), chart::draw(self, date))?;
        Ok(path)
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Requests a second.
pub(crate) fn rate(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}
