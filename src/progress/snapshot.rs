//! A job in the form in which its watchers see it, updated with the entries of its progress stream.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ids::{FileId, JobId, StreamId},
    jobs::{FileStatus, Job, Status, parse_percent},
};

/// An entry of a progress stream, written by this service or with the seed's three fields only.
#[derive(Clone, Debug)]
pub(crate) struct StreamEntry {
    pub(crate) id: StreamId,
    /// Names and values. A list is fast enough, because this service writes about a dozen fields.
    pub(crate) fields: Vec<(String, String)>,
}

impl StreamEntry {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
    }

    fn count(&self, name: &str) -> Option<u32> {
        self.text(name)?.parse().ok()
    }
}

/// The kind of a stream entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// Progress or result of the file with this index; `None` if the job does not have the file.
    File(Option<usize>),
    Queued,
    Progress,
    Completed,
    Failed,
    Cancelled,
    /// An entry that watchers do not get.
    Nothing,
}

/// The state of a job for its watchers.
#[derive(Clone, Debug)]
pub(crate) struct JobSnapshot {
    pub(crate) job_id: JobId,
    /// False until the job is found, because a browser may subscribe before the job is created.
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
    /// The id of the terminal stream entry.
    pub(crate) terminal_id: Option<StreamId>,
}

/// The progress of a file.
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
    /// The snapshot of a job that does not exist yet.
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
        let message = job.files.iter().rev().find_map(|file| file.message.clone());
        let files = job.files.iter().map(|file| FileSnapshot {
            status: file.status,
            progress: file.progress,
            filename: file.filename.clone(),
            error: file.error.clone(),
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

    /// The estimated remaining time in seconds, from the average speed between the start and `now`. `None` while it
    /// cannot be estimated.
    pub(crate) fn eta_seconds(&self, now: DateTime<Utc>) -> Option<u64> {
        const MIN_PROGRESS: u8 = 5;
        let elapsed_ms = u64::try_from((now - self.started_at?).num_milliseconds()).ok()?;
        if elapsed_ms < 1000 || !(MIN_PROGRESS..100).contains(&self.progress) {
            return None;
        }
        let progress = u64::from(self.progress);
        Some((elapsed_ms * (100 - progress) / progress).div_ceil(1000))
    }

    /// Applies the next entry of the stream and returns its kind.
    pub(crate) fn apply(&mut self, entry: &StreamEntry) -> EntryKind {
        let kind = self.classify(entry);
        self.update_counters(entry);
        match &kind {
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
                    self.status = if kind == EntryKind::Completed {
                        Status::Completed
                    } else {
                        Status::Failed
                    };
                }
                self.error = entry.text("error").map(str::to_owned);
                self.terminal_id = Some(entry.id);
            }
        }
        kind
    }

    fn classify(&self, entry: &StreamEntry) -> EntryKind {
        match entry.text("event") {
            None => {
                let index = entry
                    .text("file_id")
                    .and_then(|id| id.parse::<FileId>().ok())
                    .map(FileId::index);
                EntryKind::File(index.filter(|index| *index < self.files.len()))
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
        let Some(file) = index.and_then(|index| self.files.get_mut(index)) else { return };
        file.progress = parse_percent(entry.text("progress").unwrap_or_default());
        file.error = entry.text("error").map(str::to_owned);
        match entry.text("status").and_then(FileStatus::from_stored) {
            Some(status) => file.status = status,
            None if !file.status.is_finished() => file.status = FileStatus::Processing,
            None => (),
        }
        if entry.text("overall").is_none() && !self.files.is_empty() {
            // The entries of the seed's tracker lack the progress of the whole job.
            let contribution = |file: &FileSnapshot| {
                if file.status.is_finished() { 100 } else { u32::from(file.progress) }
            };
            let sum: u32 = self.files.iter().map(contribution).sum();
            let mean = sum / u32::try_from(self.files.len()).unwrap_or(u32::MAX);
            self.progress = self.progress.max(u8::try_from(mean).unwrap_or(100));
        }
    }
}

/// The time of a stream entry, from its id.
pub(crate) fn time_of(id: StreamId) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(id.ms).ok()?)
}
