//! What a watcher knows of a job: begun from a snapshot, kept up by the entries of its stream.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ids::{FileId, JobId, StreamId},
    jobs::{FileStatus, Job, Status, parse_percent},
};

/// An entry of a progress stream. Ours and those that only the seed's three fields fill look alike here.
#[derive(Clone, Debug)]
pub(crate) struct StreamEntry {
    pub(crate) id: StreamId,
    /// Names and values, a dozen at most of what we look for.
    pub(crate) fields: Vec<(String, String)>,
}

impl StreamEntry {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }

    fn count(&self, name: &str) -> Option<u32> {
        self.text(name)?.parse().ok()
    }
}

/// What an entry was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A file's progress or result; `None` for a file that is not in the job's list.
    File(Option<usize>),
    Queued,
    Progress,
    Completed,
    Failed,
    Cancelled,
    /// Nothing that a watcher is told.
    Nothing,
}

/// A job as its watchers see it.
#[derive(Clone, Debug)]
pub(crate) struct JobSnapshot {
    pub(crate) job_id: JobId,
    /// False until the job was found: a browser may be faster than whoever creates the job.
    pub(crate) exists: bool,
    pub(crate) status: Status,
    pub(crate) total_files: u32,
    pub(crate) completed_files: u32,
    pub(crate) failed_files: u32,
    pub(crate) progress: u8,
    pub(crate) files: Vec<FileSnapshot>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) error: Option<String>,
    pub(crate) message: Option<String>,
    /// The entry that said the end.
    pub(crate) terminal_id: Option<StreamId>,
}

/// A file as watchers see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = FileProgress)]
pub(crate) struct FileSnapshot {
    pub(crate) status: FileStatus,
    /// Percent.
    #[schema(maximum = 100, example = 40)]
    pub(crate) progress: u8,
    #[schema(example = "chair.png")]
    pub(crate) filename: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl JobSnapshot {
    /// The view of a job that does not exist yet.
    pub(crate) fn unknown(job_id: JobId) -> Self {
        Self {
            job_id,
            exists: false,
            status: Status::Pending,
            total_files: 0,
            completed_files: 0,
            failed_files: 0,
            progress: 0,
            files: Vec::new(),
            started_at: None,
            error: None,
            message: None,
            terminal_id: None,
        }
    }

    pub(crate) fn new(job: &Job) -> Self {
        let message = job.files.iter().rev().find_map(|it| it.message.clone());
        let files = job.files.iter().map(|it| FileSnapshot {
            status: it.status,
            progress: it.progress,
            filename: it.filename.clone(),
            error: it.error.clone(),
        });
        // The seed's tracker records progress without touching the job's status.
        let has_begun = job.status == Status::Pending && job.progress > 0;
        Self {
            job_id: job.id,
            exists: true,
            status: if has_begun { Status::Processing } else { job.status },
            total_files: job.total_files,
            completed_files: job.completed_files,
            failed_files: job.failed_files,
            progress: job.progress,
            files: files.collect(),
            started_at: job.started_at,
            error: job.error.clone(),
            message,
            terminal_id: job.terminal_id,
        }
    }

    pub(crate) fn finished_count(&self) -> u32 {
        self.completed_files.saturating_add(self.failed_files).min(self.total_files)
    }

    /// Seconds until the end, if work goes on as it went from the start until `at`.
    pub(crate) fn eta_seconds(&self, at: DateTime<Utc>) -> Option<u64> {
        const ENOUGH_TO_JUDGE: u8 = 5;
        let elapsed_ms = u64::try_from((at - self.started_at?).num_milliseconds()).ok()?;
        if elapsed_ms < 1000 || !(ENOUGH_TO_JUDGE..100).contains(&self.progress) {
            return None;
        }
        let progress = u64::from(self.progress);
        Some((elapsed_ms * (100 - progress) / progress).div_ceil(1000))
    }

    /// Takes in the next entry of the stream and says what it was about.
    pub(crate) fn apply(&mut self, entry: &StreamEntry) -> EntryKind {
        let change = self.classify(entry);
        self.update_counters(entry);
        match &change {
            EntryKind::File(index) => self.apply_file(entry, *index),
            EntryKind::Queued => {
                self.status = Status::Pending;
                self.progress = 0;
                self.terminal_id = None;
                self.error = None;
            }
            EntryKind::Progress | EntryKind::Nothing => (),
            EntryKind::Cancelled => self.status = Status::Cancelled,
            EntryKind::Completed | EntryKind::Failed => {
                self.status = Status::from_stored(entry.text("status").unwrap_or_default());
                if !self.status.is_terminal() {
                    self.status = if change == EntryKind::Completed {
                        Status::Completed
                    } else {
                        Status::Failed
                    };
                }
                self.error = entry.text("error").map(str::to_owned);
                self.terminal_id = Some(entry.id);
            }
        }
        change
    }

    fn classify(&self, entry: &StreamEntry) -> EntryKind {
        match entry.text("event") {
            None => {
                let index = entry
                    .text("file_id")
                    .and_then(|it| it.parse::<FileId>().ok())
                    .map(FileId::index);
                EntryKind::File(index.filter(|it| *it < self.files.len()))
            }
            Some("task_queued") => EntryKind::Queued,
            Some("task_progress") => EntryKind::Progress,
            Some("task_completed") => EntryKind::Completed,
            Some("task_failed") => EntryKind::Failed,
            Some("task_cancelled") => EntryKind::Cancelled,
            Some(_) => EntryKind::Nothing,
        }
    }

    fn update_counters(&mut self, entry: &StreamEntry) {
        self.total_files = entry.count("total").unwrap_or(self.total_files);
        self.completed_files = entry.count("completed").unwrap_or(self.completed_files);
        self.failed_files = entry.count("failed").unwrap_or(self.failed_files);
        if let Some(overall) = entry.text("overall") {
            self.progress = self.progress.max(parse_percent(overall));
        }
        self.message = entry.text("message").map(str::to_owned);
    }

    fn apply_file(&mut self, entry: &StreamEntry, index: Option<usize>) {
        if self.status == Status::Pending {
            self.status = Status::Processing;
            self.started_at = self.started_at.or_else(|| time_of(entry.id));
        }
        let Some(file) = index.and_then(|it| self.files.get_mut(it)) else { return };
        file.progress = parse_percent(entry.text("progress").unwrap_or_default());
        file.error = entry.text("error").map(str::to_owned);
        match entry.text("status").and_then(FileStatus::from_stored) {
            Some(status) => file.status = status,
            None if !file.status.is_finished() => file.status = FileStatus::Processing,
            None => (),
        }
        if entry.text("overall").is_none() && !self.files.is_empty() {
            // The seed's tracker says nothing of the whole job.
            let share = |it: &FileSnapshot| {
                if it.status.is_finished() { 100 } else { u32::from(it.progress) }
            };
            let sum: u32 = self.files.iter().map(share).sum();
            let mean = sum / u32::try_from(self.files.len()).unwrap_or(u32::MAX);
            self.progress = self.progress.max(u8::try_from(mean).unwrap_or(100));
        }
    }
}

/// The time in an entry's id.
pub(crate) fn time_of(id: StreamId) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(id.ms).ok()?)
}
