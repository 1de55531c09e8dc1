//! The results: printed as tables, and written as Markdown, JSON and a chart.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    bench::{CONNECTIONS, MAX_BACKGROUND_SHARE, Measurement},
    chart,
    host_info::HostInfo,
    redis_baseline::RedisBaseline,
    servers::ServerKind,
    targets,
    workload::Workload,
};

pub(crate) struct Report {
    host_info: HostInfo,
    pub(crate) rows: Vec<Row>,
    pub(crate) baselines: Vec<(Workload, RedisBaseline)>,
    /// Workloads that could not be measured, with the reason.
    pub(crate) errors: Vec<String>,
}

pub(crate) struct Row {
    pub(crate) kind: ServerKind,
    pub(crate) workload: Workload,
    pub(crate) connection_count: usize,
    /// Round trips to Redis per request.
    pub(crate) round_trips: f64,
    pub(crate) measured: Measurement,
}

const HEAD: &str = "| server | connections | requests/s | p50 ms | p99 ms | p99.9 ms | CPU µs | Redis CPU µs | \
    Redis commands | round trips | bytes | RSS MiB | server CPU | load CPU | background |\n\
    | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";

impl Report {
    pub(crate) fn new(host_info: HostInfo) -> Self {
        Self { host_info, rows: Vec::new(), baselines: Vec::new(), errors: Vec::new() }
    }

    pub(crate) fn measured(
        &self,
        kind: ServerKind,
        workload: Workload,
        connection_count: usize,
    ) -> Option<&Measurement> {
        let matches = |row: &&Row| {
            (row.kind, row.workload, row.connection_count) == (kind, workload, connection_count)
        };
        self.rows.iter().find(matches).map(|row| &row.measured)
    }

    pub(crate) fn baseline(&self, workload: Workload) -> Option<&RedisBaseline> {
        self.baselines.iter().find(|entry| entry.0 == workload).map(|entry| &entry.1)
    }

    /// All tables, the targets first.
    pub(crate) fn text(&self) -> String {
        let mut text = self.targets_table();
        for error in &self.errors {
            _ = writeln!(text, "\n**Measurement failed:** {error}");
        }
        for workload in Workload::all() {
            if self.rows.iter().any(|row| row.workload == workload) {
                _ = write!(text, "\n## {}\n\n{}", workload.name(), self.table(workload));
            }
        }
        text
    }

    /// The number of measurements with too much background load.
    fn noise_note(&self) -> String {
        let noisy_count = self
            .rows
            .iter()
            .filter(|row| row.measured.background_share > MAX_BACKGROUND_SHARE)
            .count();
        format!(
            "- measured with a background load above {:.0} % of a core: {noisy_count} of {} measurements",
            MAX_BACKGROUND_SHARE * 100.0,
            self.rows.len()
        )
    }

    fn targets_table(&self) -> String {
        let mut text =
            "## Targets\n\n| workload | metric | target | measured | met | background |\n"
                .to_owned();
        text += "| --- | --- | ---: | ---: | --- | ---: |\n";
        for result in targets::evaluate(self) {
            let met = if result.is_met { "met" } else { "**not met**" };
            _ = writeln!(
                text,
                "| {} | {} | {} | {} | {met} | {} |",
                result.workload,
                result.metric,
                result.target,
                result.measured,
                percent(result.background_share)
            );
        }
        text
    }

    fn table(&self, workload: Workload) -> String {
        let mut text = HEAD.to_owned();
        for Row { kind, connection_count, round_trips, measured: measurement, .. } in
            self.rows.iter().filter(|row| row.workload == workload)
        {
            let trips = (round_trips * 100.0).round() / 100.0;
            _ = writeln!(
                text,
                "| {} | {connection_count} | {} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {trips} | {:.0} | {:.0} | {} | {} | {} |",
                kind.name(),
                rate(measurement.per_second),
                measurement.p50_ms,
                measurement.p99_ms,
                measurement.p999_ms,
                measurement.cpu_us,
                measurement.redis_cpu_us,
                measurement.commands,
                measurement.bytes,
                measurement.rss_mib,
                percent(measurement.server_share),
                percent(measurement.load_share),
                percent(measurement.background_share),
            );
        }
        if let Some(baseline) = self.baseline(workload) {
            _ = writeln!(
                text,
                "| Redis alone | {CONNECTIONS} | {} | {:.2} | {:.2} | – | – | {:.1} | {:.1} | 1 | – | – | – | – | {} |",
                rate(baseline.per_second),
                baseline.p50_ms,
                baseline.p99_ms,
                baseline.redis_cpu_us,
                baseline.commands,
                percent(baseline.background_share)
            );
        }
        text
    }

    fn json(&self) -> Result<Value> {
        let properties: BTreeMap<_, _> = self.host_info.properties.iter().cloned().collect();
        let mut rows = Vec::new();
        for row in &self.rows {
            rows.push(json!({
                "server": row.kind.name(), "work": row.workload.name(), "connections": row.connection_count,
                "round_trips": row.round_trips, "measured": serde_json::to_value(row.measured)?,
            }));
        }
        let baseline_json = |entry: &(Workload, RedisBaseline)| json!({ "work": entry.0.name(), "measured": entry.1 });
        let baselines: Vec<_> = self.baselines.iter().map(baseline_json).collect();
        Ok(json!({
            "date": self.host_info.date, "machine": properties, "targets": targets::evaluate(self),
            "rows": rows, "redis_alone": baselines, "errors": self.errors,
        }))
    }

    /// Writes `http-DATE.md`, `.json` and `.svg` into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<PathBuf> {
        let HostInfo { date, properties } = &self.host_info;
        let name = format!("http-{date}");
        let mut text = format!("# Requests, {date}\n\n");
        for (name, value) in properties {
            _ = writeln!(text, "- {name}: {value}");
        }
        _ = writeln!(text, "{}", self.noise_note());
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

/// Formats requests per second.
pub(crate) fn rate(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}
