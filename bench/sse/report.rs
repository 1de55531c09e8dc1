//! What came out, against the targets: printed as a table, written as Markdown, JSON and a chart.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{chart, machine::Circumstances, servers::Kind};

/// What is asked of the gateway.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// So many times what this peer has.
    AtLeastTimes(f64, Kind),
    /// At most so many times what this peer has.
    AtMostTimes(f64, Kind),
    AtMost(f64),
    /// Only shown.
    None,
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) values: BTreeMap<Kind, f64>,
    /// What else there is to say of a value.
    pub(crate) notes: BTreeMap<Kind, String>,
    pub(crate) target: Target,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, target: Target) -> Self {
        let (values, notes) = (BTreeMap::new(), BTreeMap::new());
        Self { what: what.into(), unit, values, notes, target }
    }

    pub(crate) fn set(&mut self, kind: Kind, value: f64, note: impl Into<String>) {
        self.values.insert(kind, value);
        self.notes.insert(kind, note.into());
    }

    /// The gateway's value in terms of the peer that the target names, or else of nchan's.
    fn ratio(&self) -> Option<f64> {
        let peer = match self.target {
            Target::AtLeastTimes(_, peer) | Target::AtMostTimes(_, peer) => peer,
            Target::AtMost(_) | Target::None => Kind::Nchan,
        };
        let ratio = self.values.get(&Kind::Gateway)? / self.values.get(&peer)?;
        ratio.is_finite().then_some(ratio)
    }

    fn is_met(&self) -> Option<bool> {
        let ours = *self.values.get(&Kind::Gateway)?;
        match self.target {
            Target::AtLeastTimes(times, _) => self.ratio().map(|it| it >= times),
            Target::AtMostTimes(times, _) => self.ratio().map(|it| it <= times),
            Target::AtMost(most) => Some(ours <= most),
            Target::None => None,
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::AtLeastTimes(times, peer) => format!("≥ {times} × {}", peer.name()),
            Target::AtMostTimes(times, peer) => format!("≤ {times} × {}", peer.name()),
            Target::AtMost(most) => format!("≤ {} {}", number(most), self.unit),
            Target::None => String::new(),
        }
    }

    fn cell(&self, kind: Kind) -> String {
        let Some(value) = self.values.get(&kind) else { return "–".to_owned() };
        match self.notes.get(&kind).filter(|it| !it.is_empty()) {
            Some(note) => format!("{} ({note})", number(*value)),
            None => number(*value),
        }
    }

    fn to_json(&self) -> Value {
        let values: BTreeMap<_, _> = self.values.iter().map(|it| (it.0.name(), it.1)).collect();
        let notes: BTreeMap<_, _> = self.notes.iter().map(|it| (it.0.name(), it.1)).collect();
        json!({
            "what": self.what, "unit": self.unit, "values": values, "notes": notes,
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

/// A Markdown table with columns as wide as they have to be.
pub(crate) fn table(rows: &[Row]) -> String {
    const PEERS: [Kind; 3] = [Kind::Nchan, Kind::NchanRedis, Kind::FastApi];
    let mut lines = vec![
        ["what", "unit", "gateway", "nchan", "nchan + Redis", "FastAPI", "ratio", "target", "met"]
            .map(str::to_owned),
    ];
    lines.push([const { String::new() }; 9]);
    for row in rows {
        let met = row.is_met().map_or("", |it| if it { "yes" } else { "NO" });
        lines.push([
            row.what.clone(),
            row.unit.to_owned(),
            row.cell(Kind::Gateway),
            row.cell(PEERS[0]),
            row.cell(PEERS[1]),
            row.cell(PEERS[2]),
            row.ratio().map_or_else(String::new, |it| format!("{it:.2}")),
            row.target_text(),
            met.to_owned(),
        ]);
    }
    let width = |i: usize| lines.iter().map(|it| it[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..9).map(width).collect();
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let cell = if n == 1 { "-".repeat(*width) } else { cell.clone() };
            _ = write!(text, "| {cell:width$} ");
        }
        text += "|\n";
    }
    text
}

/// Writes `sse-DATE.md`, `.json` and `.svg` into `dir`.
pub(crate) fn write(dir: &Path, rows: &[Row], at: &Circumstances) -> Result<()> {
    fs::create_dir_all(dir)?;
    let name = format!("sse-{}", at.date);
    let mut text = format!("# Progress over SSE, {}\n\n", at.date);
    for (what, value) in &at.machine {
        _ = writeln!(text, "- {what}: {value}");
    }
    _ = write!(text, "\n{}\n![chart]({name}.svg)\n", table(rows));
    text += "\nHow to read this: [bench/README.md](../README.md).\n";
    fs::write(dir.join(format!("{name}.md")), text)?;
    let machine: BTreeMap<_, _> = at.machine.iter().cloned().collect();
    let rows_json: Vec<_> = rows.iter().map(Row::to_json).collect();
    let all = json!({ "date": at.date, "machine": machine, "rows": rows_json });
    fs::write(dir.join(format!("{name}.json")), serde_json::to_string_pretty(&all)? + "\n")?;
    fs::write(dir.join(format!("{name}.svg")), chart::draw(rows, &at.date))?;
    Ok(())
}
