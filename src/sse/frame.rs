//! Encodes events as frames of `text/event-stream` (WHATWG HTML, server-sent events).
//!
//! A frame is serialized once and shared by all watchers. If a stream entry produces several events, only the
//! first carries the entry's id. The others (`task_progress` after a `file_update`) repeat state that every new
//! connection receives first, so a disconnect between the events loses nothing.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ids::{FileId, JobId, StreamId},
    jobs::{FileStatus, Status},
    progress::snapshot::{EntryKind, FileSnapshot, JobSnapshot, StreamEntry, time_of},
};

/// The encoded events of one or more stream entries.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The newest of the entries.
    pub(super) id: StreamId,
    pub(super) bytes: Bytes,
    /// The number of entries in the frame, for the metrics.
    pub(super) event_count: u32,
    /// Whether the frame ends the job's events.
    pub(super) is_last: bool,
}

impl Frame {
    /// The frame without its id line, for a connection whose event ids cover several jobs.
    pub(super) fn without_id(&self) -> Bytes {
        if !self.bytes.starts_with(b"id:") {
            return self.bytes.clone();
        }
        let line_end = self.bytes.iter().position(|byte| *byte == b'\n');
        self.bytes.slice(line_end.map_or(0, |index| index + 1)..)
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamQueued)]
pub(crate) struct Queued {
    status: &'static str,
    progress: u8,
    task_id: JobId,
    job_id: JobId,
    total_files: u32,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamProgress)]
pub(crate) struct Progress<'a> {
    status: &'static str,
    progress: u8,
    current: u32,
    total: u32,
    total_files: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    job_id: JobId,
    task_id: JobId,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    eta_seconds: Option<u64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamFileUpdate)]
pub(crate) struct FileUpdate<'a> {
    job_id: JobId,
    file_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
    status: FileStatus,
    file_progress: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamCompleted)]
pub(crate) struct Completed {
    status: &'static str,
    progress: u8,
    job_id: JobId,
    result: JobReference,
    summary: Summary,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamResult)]
pub(crate) struct JobReference {
    job_id: JobId,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamSummary)]
pub(crate) struct Summary {
    total_files: u32,
    successful_files: u32,
    failed_files: u32,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamFailed)]
pub(crate) struct Failed<'a> {
    status: &'static str,
    error: &'a str,
    job_id: JobId,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamCancelled)]
pub(crate) struct Cancelled {
    status: &'static str,
    job_id: JobId,
    task_id: JobId,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamTimeout)]
pub(crate) struct TimedOut {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<JobId>,
}

/// The data of an event. The name of the event determines the schema.
#[derive(ToSchema)]
#[schema(as = StreamEvent)]
#[expect(dead_code, reason = "describes what the functions below write")]
#[serde(untagged)]
pub(crate) enum StreamEvent<'a> {
    Queued(Queued),
    Progress(Progress<'a>),
    FileUpdate(FileUpdate<'a>),
    Completed(Completed),
    Failed(Failed<'a>),
    Cancelled(Cancelled),
    TimedOut(TimedOut),
    Resync(Snapshot<'a>),
}

/// The response of `GET .../progress`, and the data of a `resync` event.
#[derive(Serialize, ToSchema)]
#[schema(as = JobProgress)]
pub(crate) struct Snapshot<'a> {
    job_id: JobId,
    status: Status,
    overall_progress: u8,
    total_files: u32,
    completed_files: u32,
    failed_files: u32,
    files: std::collections::BTreeMap<String, &'a FileSnapshot>,
}

/// Encodes an entry that was just applied to `job`; `None` if watchers receive no event for it.
///
/// `is_replayed`: the entry is older than the job-level state of `job`, so the job's progress is only sent if the
/// entry contains it.
pub(super) fn encode_entry(
    job: &JobSnapshot,
    entry: &StreamEntry,
    kind: &EntryKind,
    is_replayed: bool,
) -> Option<Frame> {
    let mut frame = FrameBuilder::default();
    match kind {
        EntryKind::Nothing => return None,
        EntryKind::Queued => frame.event(Some(entry.id), "task_queued", &queued(job)),
        EntryKind::Progress => {
            frame.event(Some(entry.id), "task_progress", &progress(job, entry.id));
        }
        EntryKind::File(index) => {
            frame.event(Some(entry.id), "file_update", &file_update(job, entry, *index));
            if !is_replayed || entry.text("overall").is_some() {
                frame.event(None, "task_progress", &progress(job, entry.id));
            }
        }
        EntryKind::Cancelled => frame.event(Some(entry.id), "task_cancelled", &cancelled(job)),
        EntryKind::Completed | EntryKind::Failed => return Some(terminal(job, entry.id)),
    }
    Some(Frame { id: entry.id, bytes: frame.build(), event_count: 1, is_last: false })
}

/// Joins several frames into one. `head`: the id of the newest entry.
pub(super) fn concat(frames: &[Frame], head: StreamId) -> Frame {
    let byte_count = frames.iter().map(|frame| frame.bytes.len()).sum();
    let mut bytes = Vec::with_capacity(byte_count);
    for frame in frames {
        bytes.extend_from_slice(&frame.bytes);
    }
    Frame {
        id: head,
        bytes: Bytes::from(bytes),
        event_count: frames.iter().map(|frame| frame.event_count).sum(),
        is_last: frames.last().is_some_and(|frame| frame.is_last),
    }
}

/// The state of the job, which every new watcher receives first.
pub(super) fn snapshot(job: &JobSnapshot, head: StreamId) -> Frame {
    if job.status.is_terminal()
        && let Some(terminal_id) = job.terminal_id
    {
        return terminal(job, terminal_id);
    }
    let id = (head != StreamId::ZERO).then_some(head);
    let mut frame = FrameBuilder::default();
    if job.status == Status::Pending {
        frame.event(id, "task_queued", &queued(job));
    } else {
        frame.event(id, "task_progress", &progress(job, head));
    }
    Frame { id: head, bytes: frame.build(), event_count: 1, is_last: false }
}

/// The full state of the job, for a watcher that missed events that are no longer stored.
pub(super) fn resync(job: &JobSnapshot, head: StreamId) -> Frame {
    let mut frame = FrameBuilder::default();
    frame.event(Some(head), "resync", &full_snapshot(job));
    Frame { id: head, bytes: frame.build(), event_count: 1, is_last: false }
}

/// The last frame of a job that was deleted or has expired. It has no id because the stream no longer exists.
pub(super) fn job_gone(job: &JobSnapshot, head: StreamId) -> Frame {
    let mut frame = FrameBuilder::default();
    let data = Failed {
        status: "expired",
        error: "the job has been deleted or has expired",
        job_id: job.job_id,
    };
    frame.event(None, "task_failed", &data);
    Frame { id: head, bytes: frame.build(), event_count: 1, is_last: true }
}

fn terminal(job: &JobSnapshot, id: StreamId) -> Frame {
    let mut frame = FrameBuilder::default();
    let job_id = job.job_id;
    if job.status.has_results() {
        let summary = Summary {
            total_files: job.total_files,
            successful_files: job.completed_files,
            failed_files: job.failed_files,
        };
        let result = JobReference { job_id };
        let data = Completed { status: "completed", progress: 100, job_id, result, summary };
        frame.event(Some(id), "task_completed", &data);
    } else {
        let error = job.error.as_deref().unwrap_or("the job failed");
        frame.event(
            Some(id),
            "task_failed",
            &Failed { status: job.status.as_str(), error, job_id },
        );
    }
    Frame { id, bytes: frame.build(), event_count: 1, is_last: true }
}

/// Encodes an event that was published on the seed's event channel, unchanged; `None` if it is not valid JSON.
pub(super) fn encode_published(payload: &[u8]) -> Option<Bytes> {
    let value: &serde_json::value::RawValue = serde_json::from_slice(payload).ok()?;
    // JSON may contain line breaks between tokens, and each would end the `data:` line.
    let data = value.get().replace(['\r', '\n'], " ");
    Some(Bytes::from(format!("data: {data}\n\n")))
}

/// The last event of a connection that reached its `?timeout=`.
pub(super) fn connection_timeout(job_id: Option<JobId>) -> Bytes {
    let mut frame = FrameBuilder::default();
    frame.event(None, "connection_timeout", &TimedOut { status: "timeout", job_id });
    frame.build()
}

/// A `retry:` field: how long the browser waits before it reconnects.
pub(crate) fn retry(after: Duration) -> Bytes {
    Bytes::from(format!("retry: {}\n\n", after.as_millis()))
}

/// A comment that keeps an idle connection open.
pub(crate) const HEARTBEAT: Bytes = Bytes::from_static(b": keep-alive\n\n");

pub(crate) fn full_snapshot(job: &JobSnapshot) -> Snapshot<'_> {
    Snapshot {
        job_id: job.job_id,
        status: job.status,
        overall_progress: job.progress,
        total_files: job.total_files,
        completed_files: job.completed_files,
        failed_files: job.failed_files,
        files: job
            .files
            .iter()
            .enumerate()
            .map(|(index, file)| (FileId::from_index(index).to_string(), file))
            .collect(),
    }
}

fn queued(job: &JobSnapshot) -> Queued {
    let (task_id, job_id) = (job.job_id, job.job_id);
    Queued { status: "queued", progress: 0, task_id, job_id, total_files: job.total_files }
}

fn cancelled(job: &JobSnapshot) -> Cancelled {
    Cancelled { status: "cancelled", job_id: job.job_id, task_id: job.job_id }
}

fn progress(job: &JobSnapshot, id: StreamId) -> Progress<'_> {
    Progress {
        status: "processing",
        progress: job.progress,
        current: job.finished_count(),
        total: job.total_files,
        total_files: job.total_files,
        message: job.message.as_deref(),
        job_id: job.job_id,
        task_id: job.job_id,
        timestamp: id.ms,
        eta_seconds: time_of(id).and_then(|time| job.eta_seconds(time)),
    }
}

fn file_update<'a>(
    job: &'a JobSnapshot,
    entry: &'a StreamEntry,
    index: Option<usize>,
) -> FileUpdate<'a> {
    let file = index.and_then(|index| job.files.get(index));
    FileUpdate {
        job_id: job.job_id,
        file_id: entry.text("file_id").unwrap_or_default(),
        index,
        filename: file.map(|file| file.filename.as_str()),
        status: file.map_or(FileStatus::Processing, |file| file.status),
        file_progress: file.map_or_else(
            || crate::jobs::parse_percent(entry.text("progress").unwrap_or_default()),
            |file| file.progress,
        ),
        message: entry.text("message"),
        error: entry.text("error"),
    }
}

/// Builds the bytes of one or more events.
#[derive(Default)]
struct FrameBuilder(Vec<u8>);

impl FrameBuilder {
    /// Appends an event. `serde_json` writes no line breaks, so the data is one `data:` line.
    fn event(&mut self, id: Option<StreamId>, name: &str, data: &impl Serialize) {
        if let Some(id) = id {
            self.0.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        self.0.extend_from_slice(format!("event: {name}\ndata: ").as_bytes());
        serde_json::to_writer(&mut self.0, data)
            .expect("the event structs have no maps with non-string keys");
        self.0.extend_from_slice(b"\n\n");
    }

    fn build(self) -> Bytes {
        Bytes::from(self.0)
    }
}
