//! The results, compared with the targets: printed as a table, and written as Markdown, JSON and a chart.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{chart, host_info::HostInfo, servers::ServerKind};

/// A performance target of the gateway.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// At least this multiple of the peer's value.
    AtLeastTimes(f64, ServerKind),
    /// At most this multiple of the peer's value.
    AtMostTimes(f64, ServerKind),
    AtMost(f64),
    /// No target; the value is only reported.
    None,
}

/// One row of the table.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: BTreeMap<ServerKind, f64>,
    /// Additional information about the values.
    pub(crate) notes: BTreeMap<ServerKind, String>,
    pub(crate) target: Target,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, target: Target) -> Self {
        let (values, notes) = (BTreeMap::new(), BTreeMap::new());
        Self { name: name.into(), unit, values, notes, target }
    }

    pub(crate) fn set(&mut self, kind: ServerKind, value: f64, note: impl Into<String>) {
        self.values.insert(kind, value);
        self.notes.insert(kind, note.into());
    }

    /// The gateway's value divided by the value of the target's peer; without a peer, by nchan's value.
    fn ratio(&self) -> Option<f64> {
        let peer = match self.target {
            Target::AtLeastTimes(_, peer) | Target::AtMostTimes(_, peer) => peer,
            Target::AtMost(_) | Target::None => ServerKind::Nchan,
        };
        let ratio = self.values.get(&ServerKind::Gateway)? / self.values.get(&peer)?;
        ratio.is_finite().then_some(ratio)
    }

    fn is_met(&self) -> Option<bool> {
        let ours = *self.values.get(&ServerKind::Gateway)?;
        match self.target {
            Target::AtLeastTimes(times, _) => self.ratio().map(|ratio| ratio >= times),
            Target::AtMostTimes(times, _) => self.ratio().map(|ratio| ratio <= times),
            Target::AtMost(max) => Some(ours <= max),
            Target::None => None,
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::AtLeastTimes(times, peer) => format!("≥ {times} × {}", peer.name()),
            Target::AtMostTimes(times, peer) => format!("≤ {times} × {}", peer.name()),
            Target::AtMost(max) => format!("≤ {} {}", number(max), self.unit),
            Target::None => String::new(),
        }
    }

    fn cell(&self, kind: ServerKind) -> String {
        let Some(value) = self.values.get(&kind) else { return "–".to_owned() };
        match self.notes.get(&kind).filter(|note| !note.is_empty()) {
            Some(note) => format!("{} ({note})", number(*value)),
            None => number(*value),
        }
    }

    fn to_json(&self) -> Value {
        let values: BTreeMap<_, _> =
            self.values.iter().map(|entry| (entry.0.name(), entry.1)).collect();
        let notes: BTreeMap<_, _> =
            self.notes.iter().map(|entry| (entry.0.name(), entry.1)).collect();
        json!({
            "name": self.name, "unit": self.unit, "values": values, "notes": notes,
            "ratio": self.ratio(), "target": self.target_text(), "met": self.is_met(),
        })
    }
}

pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".to_owned(),
        it if it >= 1e6 => format!("{:.2} M", value / 1e6),
        it if it >= 10_000.0 => format!("{:.0} k", value / 1e3),
        it if it >= 100.0 || it == 0.0 => format!("{value:.0}"),
        it if it >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A Markdown table with aligned columns.
pub(crate) fn table(rows: &[Row]) -> String {
    const PEERS: [ServerKind; 3] = [ServerKind::Nchan, ServerKind::NchanRedis, ServerKind::FastApi];
    let mut lines = vec![
        [
            "measurement",
            "unit",
            "gateway",
            "nchan",
            "nchan + Redis",
            "FastAPI",
            "ratio",
            "target",
            "met",
        ]
        .map(str::to_owned),
    ];
    lines.push([const { String::new() }; 9]);
    for row in rows {
        let met = row.is_met().map_or("", |is_met| if is_met { "yes" } else { "NO" });
        lines.push([
            row.name.clone(),
            row.unit.to_owned(),
            row.cell(ServerKind::Gateway),
            row.cell(PEERS[0]),
            row.cell(PEERS[1]),
            row.cell(PEERS[2]),
            row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            row.target_text(),
            met.to_owned(),
        ]);
    }
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..9).map(width).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let cell = if index == 1 { "-".repeat(*width) } else { cell.clone() };
            _ = write!(text, "| {cell:width$} ");
        }
        text += "|\n";
    }
    text
}

/// Writes `sse-DATE.md`, `.json` and `.svg` into `dir`.
pub(crate) fn write(dir: &Path, rows: &[Row], host_info: &HostInfo) -> Result<()> {
    fs::create_dir_all(dir)?;
    let name = format!("sse-{}", host_info.date);
    let mut text = format!("# Progress over SSE, {}\n\n", host_info.date);
    for (name, value) in &host_info.properties {
        _ = writeln!(text, "- {name}: {value}");
    }
    _ = write!(text, "\n{}\n![chart]({name}.svg)\n", table(rows));
    text += "\nHow to read this: [bench/README.md](../README.md).\n";
    fs::write(dir.join(format!("{name}.md")), text)?;
    let properties: BTreeMap<_, _> = host_info.properties.iter().cloned().collect();
    let rows_json: Vec<_> = rows.iter().map(Row::to_json).collect();
    let all = json!({ "date": host_info.date, "machine": properties, "rows": rows_json });
    fs::write(dir.join(format!("{name}.json")), serde_json::to_string_pretty(&all)? + "\n")?;
    fs::write(dir.join(format!("{name}.svg")), chart::draw(rows, &host_info.date))?;
    Ok(())
}
