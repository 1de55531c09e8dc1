//! What bench/instructions measures of frames.

use bytes::Bytes;

use super::frame;
use crate::{
    ids::{JobId, StreamId},
    jobs::FileStatus,
    progress::snapshot::{FileSnapshot, JobSnapshot, StreamEntry},
};

/// A job of 25 files that is watched, and an entry of its stream.
#[derive(Debug)]
pub struct WatchedJob {
    view: JobSnapshot,
    entry: StreamEntry,
}

impl Default for WatchedJob {
    fn default() -> Self {
        let file = |i| FileSnapshot {
            status: FileStatus::Pending,
            progress: 0,
            filename: format!("picture-{i}.png"),
            error: None,
        };
        let mut view = JobSnapshot::unknown(JobId::random());
        view.files = (0..25).map(file).collect();
        let fields = [
            ("file_id", "file_007"),
            ("progress", "40"),
            ("timestamp", "1700000000.25"),
            ("message", "building the mesh"),
            ("status", "processing"),
            ("attempt", "1"),
            ("overall", "2"),
            ("completed", "0"),
            ("failed", "0"),
            ("total", "25"),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { view, entry: StreamEntry { id: StreamId::ZERO, fields } }
    }
}

impl WatchedJob {
    /// Takes in the entry and makes its frame, as the hub does once for all browsers.
    pub fn frame(&mut self) -> Option<Bytes> {
        let change = self.view.apply(&self.entry);
        frame::encode_entry(&self.view, &self.entry, &change, false).map(|it| it.bytes)
    }
}
