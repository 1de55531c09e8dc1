//! What came out: printed as a table, and written as Markdown.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    load::{Measured, RawRedis, What},
    servers::{Kind, Limits},
};

/// Where and when.
pub(crate) struct Circumstances {
    pub(crate) date: String,
    /// Name and value.
    pub(crate) machine: Vec<(&'static str, String)>,
}

pub(crate) struct Report {
    circumstances: Circumstances,
    redis: Option<RawRedis>,
    rows: Vec<(Kind, Limits, What, Measured)>,
}

impl Report {
    pub(crate) fn new(circumstances: Circumstances) -> Self {
        Self { circumstances, redis: None, rows: Vec::new() }
    }

    pub(crate) fn redis(&mut self, raw: &RawRedis) {
        self.redis = Some(*raw);
    }

    pub(crate) fn add(&mut self, kind: Kind, limits: Limits, what: What, measured: Measured) {
        self.rows.push((kind, limits, what, measured));
    }

    /// The peer's rate for the same.
    fn peer(&self, limits: Limits, what: What) -> Option<f64> {
        // The peer has no table, so it asks Redis whatever the gateway does.
        let limits = if limits == Limits::Over { Limits::OverWithoutTable } else { limits };
        let row = self.rows.iter().find(|it| (it.0, it.1, it.2) == (Kind::FastApi, limits, what));
        row.map(|it| it.3.per_second)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        if let Some(RawRedis { gets_per_second, charges_per_second }) = self.redis {
            _ = writeln!(
                text,
                "Redis by itself: {gets_per_second:.0} GET/s, {charges_per_second:.0} charges/s.\n"
            );
        }
        text += "| server | limits | request | requests/s | of Redis' charges/s | × FastAPI | p99 | CPU each |\n";
        text += "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |\n";
        for (kind, limits, what, it) in &self.rows {
            let of_redis = self.redis.map(|raw| it.per_second / raw.charges_per_second);
            let of_peer = self.peer(*limits, *what).map(|peer| it.per_second / peer);
            let ratio = |it: Option<f64>| it.map_or("–".to_owned(), |it| format!("{it:.2}"));
            let limits = match limits {
                Limits::Off => "off",
                Limits::On => "on",
                Limits::Over => "over, known",
                Limits::OverWithoutTable => "over, Redis asked",
            };
            let what = match what {
                What::GetJob => "GET job",
                What::PostJob => "POST job",
                What::Refused => "429",
            };
            let Measured { per_second, p99_ms, cpu_us } = it;
            _ = writeln!(
                text,
                "| {} | {limits} | {what} | {per_second:.0} | {} | {} | {p99_ms:.1} ms | {cpu_us:.0} µs |",
                kind.name(),
                ratio(of_redis),
                ratio(of_peer),
            );
        }
        text
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        let mut text = format!("# Requests, {}\n\n", self.circumstances.date);
        for (name, value) in &self.circumstances.machine {
            _ = writeln!(text, "- {name}: {value}");
        }
        text.push('\n');
        text += &self.table();
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("http-{}.md", self.circumstances.date));
        fs::write(&path, text)?;
        Ok(path)
    }
}
