//! Output of the demo: one line per event and, on a terminal, progress bars that stay below the text.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
};

use serde::Deserialize;
use sse_stream::Sse;

use super::service::Job;

/// More bars would not fit on a small terminal and could then not be redrawn.
const MAX_BARS: usize = 10;
const BAR_WIDTH: usize = 24;

const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const BLUE: &str = "34";
const CYAN: &str = "36";

/// Standard output, and the state of the job.
pub(super) struct Terminal {
    has_bars: bool,
    has_colour: bool,
    overall: u8,
    files: Vec<FileRow>,
    /// Number of bars drawn below the text.
    drawn_bars: usize,
}

struct FileRow {
    filename: String,
    status: String,
    progress: u8,
    message: String,
}

/// The event fields that bars display.
#[derive(Deserialize)]
struct Data {
    index: Option<usize>,
    status: Option<String>,
    file_progress: Option<u8>,
    progress: Option<u8>,
    message: Option<String>,
    error: Option<String>,
}

impl Terminal {
    pub(super) fn new(job: &Job) -> Self {
        let has = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let has_bars = io::stdout().is_terminal() && !is_dumb;
        let files = job.files.iter().map(|file| FileRow {
            filename: file.filename.clone(),
            status: "pending".to_owned(),
            progress: 0,
            message: String::new(),
        });
        Self {
            has_bars,
            has_colour: has_bars && !has("NO_COLOR"),
            overall: 0,
            files: files.collect(),
            drawn_bars: 0,
        }
    }

    /// Prints an event and updates the bars.
    pub(super) fn event(&mut self, event: &Sse) -> io::Result<()> {
        let name = event.event.as_deref().unwrap_or("message");
        let data = event.data.as_deref().unwrap_or_default();
        self.update(name, data);
        let colour = match name {
            "task_completed" => GREEN,
            "task_failed" | "task_cancelled" => RED,
            "file_update" => CYAN,
            _ => BLUE,
        };
        let name = self.paint(colour, &format!("{name:<14}"));
        let id = self.paint(DIM, &format!("{:<17}", event.id.as_deref().unwrap_or_default()));
        self.print(&format!("{name} {id} {data}"))
    }

    fn update(&mut self, name: &str, data: &str) {
        let Ok(data) = serde_json::from_str::<Data>(data) else { return };
        if let Some(overall) = data.progress {
            self.overall = overall;
        }
        let file = data.index.and_then(|index| self.files.get_mut(index));
        if let (Some(file), "file_update") = (file, name) {
            file.status = data.status.unwrap_or_default();
            file.progress = data.file_progress.unwrap_or(file.progress);
            file.message = data.error.or(data.message).unwrap_or_default();
        }
    }

    /// Replaces the bars by `line` and the updated bars below it, in one write to avoid flicker.
    pub(super) fn print(&mut self, line: &str) -> io::Result<()> {
        let mut text = String::new();
        if self.drawn_bars > 0 {
            _ = write!(text, "\x1b[{}A\x1b[J", self.drawn_bars);
        }
        text.push_str(line);
        text.push('\n');
        if self.has_bars {
            let bars = self.bars();
            self.drawn_bars = bars.len();
            // Without line wrapping, so that each bar takes one line on a narrow terminal.
            _ = writeln!(text, "\x1b[?7l{}\x1b[?7h", bars.join("\n"));
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    fn bars(&self) -> Vec<String> {
        let all_fit = self.files.len() <= MAX_BARS;
        let visible =
            self.files.iter().filter(|file| all_fit || file.status == "processing").take(MAX_BARS);
        let mut bars: Vec<String> = visible.map(|file| self.file_bar(file)).collect();
        let finished_count = self.files.iter().filter(|file| file.is_finished()).count();
        let finished = format!("{finished_count} of {} files", self.files.len());
        bars.push(self.bar(
            if self.overall == 100 { GREEN } else { BLUE },
            "all",
            self.overall,
            &finished,
        ));
        bars
    }

    fn file_bar(&self, file: &FileRow) -> String {
        let (colour, text) = match file.status.as_str() {
            "completed" => (GREEN, "done"),
            "failed" | "cancelled" => (RED, file.message.as_str()),
            "pending" => (CYAN, "waiting"),
            _ => (CYAN, file.message.as_str()),
        };
        self.bar(colour, &file.filename, file.progress, text)
    }

    fn bar(&self, colour: &str, name: &str, percent: u8, text: &str) -> String {
        let full_width = BAR_WIDTH * usize::from(percent.min(100)) / 100;
        let full = self.paint(colour, &"█".repeat(full_width));
        let rest = self.paint(DIM, &"░".repeat(BAR_WIDTH - full_width));
        format!("  {:<18} {full}{rest} {percent:>3} %  {}", truncate(name, 18), truncate(text, 26))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.has_colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl FileRow {
    fn is_finished(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "cancelled")
    }
}

/// `text` on one line of at most `width` characters, without control characters.
fn truncate(text: &str, width: usize) -> String {
    let plain: Vec<char> = text.chars().filter(|char| !char.is_control()).collect();
    if plain.len() <= width {
        return plain.into_iter().collect();
    }
    plain.into_iter().take(width.saturating_sub(1)).chain(['…']).collect()
}
