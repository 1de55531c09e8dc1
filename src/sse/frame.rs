//! Events as browsers get them: the frames of `text/event-stream` (WHATWG HTML, server-sent events).
//!
//! A frame is serialised once and shared by all who watch. Of the events that one stream entry makes, the
//! first carries its id. What follows without an id (`task_progress` after a file's change) only repeats
//! state that every new connection begins with, so a cut between the two loses nothing.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ids::{FileId, JobId, StreamId},
    jobs::{FileStatus, Status},
    progress::snapshot::{EntryKind, FileSnapshot, JobSnapshot, StreamEntry, time_of},
};

/// The bytes of what one stream entry means to watchers.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(super) id: StreamId,
    pub(super) bytes: Bytes,
    /// Entries that it tells of.
    pub(super) event_count: u32,
    /// Nothing follows; the connection closes.
    pub(super) is_last: bool,
}

impl Frame {
    /// The frame without its id line, for a connection whose ids stand for several jobs.
    pub(super) fn without_id(&self) -> Bytes {
        let end_of_id =
            self.bytes.starts_with(b"id:").then(|| self.bytes.iter().position(|it| *it == b'\n'));
        self.bytes.slice(end_of_id.flatten().map_or(0, |it| it + 1)..)
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

/// The data of an event, whose name says which.
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

/// The answer of GET …/progress, and the data of `resync`.
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

/// The frame of an entry that `view` has just taken in; `None` for what watchers are not told.
/// `replayed`: from the past, so that what the view says of the whole job now is not said of then.
pub(super) fn encode_entry(
    view: &JobSnapshot,
    entry: &StreamEntry,
    change: &EntryKind,
    replayed: bool,
) -> Option<Frame> {
    let mut text = FrameBuilder::default();
    match change {
        EntryKind::Nothing => return None,
        EntryKind::Queued => text.event(Some(entry.id), "task_queued", &queued(view)),
        EntryKind::Progress => {
            text.event(Some(entry.id), "task_progress", &progress(view, entry.id))
        }
        EntryKind::File(index) => {
            text.event(Some(entry.id), "file_update", &file_update(view, entry, *index));
            if !replayed || entry.text("overall").is_some() {
                text.event(None, "task_progress", &progress(view, entry.id));
            }
        }
        EntryKind::Cancelled => text.event(Some(entry.id), "task_cancelled", &cancelled(view)),
        EntryKind::Completed | EntryKind::Failed => return Some(terminal(view, entry.id)),
    }
    Some(Frame { id: entry.id, bytes: text.done(), event_count: 1, is_last: false })
}

/// Several frames as one, which ends where the last does.
pub(super) fn concat(frames: &[Frame], head: StreamId) -> Frame {
    let byte_count = frames.iter().map(|it| it.bytes.len()).sum();
    let mut bytes = Vec::with_capacity(byte_count);
    for frame in frames {
        bytes.extend_from_slice(&frame.bytes);
    }
    Frame {
        id: head,
        bytes: Bytes::from(bytes),
        event_count: frames.iter().map(|it| it.event_count).sum(),
        is_last: frames.last().is_some_and(|it| it.is_last),
    }
}

/// What a new watcher is told first.
pub(super) fn snapshot(view: &JobSnapshot, head: StreamId) -> Frame {
    if view.status.is_terminal() && view.terminal_id.is_some() {
        return terminal(view, view.terminal_id.unwrap_or(head));
    }
    let id = (head != StreamId::ZERO).then_some(head);
    let mut text = FrameBuilder::default();
    if view.status == Status::Pending {
        text.event(id, "task_queued", &queued(view));
    } else {
        text.event(id, "task_progress", &progress(view, head));
    }
    Frame { id: head, bytes: text.done(), event_count: 1, is_last: false }
}

/// What a watcher is told who missed events that are no longer kept.
pub(super) fn resync(view: &JobSnapshot, head: StreamId) -> Frame {
    let mut text = FrameBuilder::default();
    text.event(Some(head), "resync", &full_snapshot(view));
    Frame { id: head, bytes: text.done(), event_count: 1, is_last: false }
}

/// The end of a job that was deleted or has expired: its stream is gone, so the frame has no id.
pub(super) fn job_gone(view: &JobSnapshot, head: StreamId) -> Frame {
    let mut text = FrameBuilder::default();
    let data = Failed {
        status: "expired",
        error: "the job has been deleted or has expired",
        job_id: view.job_id,
    };
    text.event(None, "task_failed", &data);
    Frame { id: head, bytes: text.done(), event_count: 1, is_last: true }
}

fn terminal(view: &JobSnapshot, id: StreamId) -> Frame {
    let mut text = FrameBuilder::default();
    let job_id = view.job_id;
    if view.status.has_results() {
        let summary = Summary {
            total_files: view.total_files,
            successful_files: view.completed_files,
            failed_files: view.failed_files,
        };
        let result = JobReference { job_id };
        let data = Completed { status: "completed", progress: 100, job_id, result, summary };
        text.event(Some(id), "task_completed", &data);
    } else {
        let error = view.error.as_deref().unwrap_or("the job failed");
        text.event(
            Some(id),
            "task_failed",
            &Failed { status: view.status.as_str(), error, job_id },
        );
    }
    Frame { id, bytes: text.done(), event_count: 1, is_last: true }
}

/// A published event of the seed's, as it was published; `None` for what is no JSON.
pub(super) fn encode_published(payload: &[u8]) -> Option<Bytes> {
    let value: &serde_json::value::RawValue = serde_json::from_slice(payload).ok()?;
    // JSON may be spread over lines, and each would end the `data:` line.
    let data = value.get().replace(['\r', '\n'], " ");
    Some(Bytes::from(format!("data: {data}\n\n")))
}

/// `?timeout=` ran out.
pub(super) fn connection_timeout(job_id: Option<JobId>) -> Bytes {
    let mut text = FrameBuilder::default();
    text.event(None, "connection_timeout", &TimedOut { status: "timeout", job_id });
    text.done()
}

/// Tells a browser when to come back after the connection closed.
pub(crate) fn retry(after: Duration) -> Bytes {
    Bytes::from(format!("retry: {}\n\n", after.as_millis()))
}

/// A comment, to keep the connection from looking dead.
pub(crate) const HEARTBEAT: Bytes = Bytes::from_static(b": keep-alive\n\n");

pub(crate) fn full_snapshot(view: &JobSnapshot) -> Snapshot<'_> {
    Snapshot {
        job_id: view.job_id,
        status: view.status,
        overall_progress: view.progress,
        total_files: view.total_files,
        completed_files: view.completed_files,
        failed_files: view.failed_files,
        files: view
            .files
            .iter()
            .enumerate()
            .map(|(i, it)| (FileId::from_index(i).to_string(), it))
            .collect(),
    }
}

fn queued(view: &JobSnapshot) -> Queued {
    let (task_id, job_id) = (view.job_id, view.job_id);
    Queued { status: "queued", progress: 0, task_id, job_id, total_files: view.total_files }
}

fn cancelled(view: &JobSnapshot) -> Cancelled {
    Cancelled { status: "cancelled", job_id: view.job_id, task_id: view.job_id }
}

fn progress(view: &JobSnapshot, id: StreamId) -> Progress<'_> {
    Progress {
        status: "processing",
        progress: view.progress,
        current: view.finished_count(),
        total: view.total_files,
        total_files: view.total_files,
        message: view.message.as_deref(),
        job_id: view.job_id,
        task_id: view.job_id,
        timestamp: id.ms,
        eta_seconds: time_of(id).and_then(|it| view.eta_seconds(it)),
    }
}

fn file_update<'a>(
    view: &'a JobSnapshot,
    entry: &'a StreamEntry,
    index: Option<usize>,
) -> FileUpdate<'a> {
    let file = index.and_then(|it| view.files.get(it));
    FileUpdate {
        job_id: view.job_id,
        file_id: entry.text("file_id").unwrap_or_default(),
        index,
        filename: file.map(|it| it.filename.as_str()),
        status: file.map_or(FileStatus::Processing, |it| it.status),
        file_progress: file.map_or_else(
            || crate::jobs::parse_percent(entry.text("progress").unwrap_or_default()),
            |it| it.progress,
        ),
        message: entry.text("message"),
        error: entry.text("error"),
    }
}

/// The text of one or more events.
#[derive(Default)]
struct FrameBuilder(Vec<u8>);

impl FrameBuilder {
    /// JSON has no raw line break, so its text is one `data:` line.
    fn event(&mut self, id: Option<StreamId>, name: &str, data: &impl Serialize) {
        if let Some(id) = id {
            self.0.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        self.0.extend_from_slice(format!("event: {name}\ndata: ").as_bytes());
        serde_json::to_writer(&mut self.0, data)
            .expect("our own structs, without maps of other keys, serialise");
        self.0.extend_from_slice(b"\n\n");
    }

    fn done(self) -> Bytes {
        Bytes::from(self.0)
    }
}
