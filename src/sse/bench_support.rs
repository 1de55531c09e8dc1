//! A fixture for `bench/instructions`: encoding the frame of a stream entry.

use bytes::Bytes;

use super::frame;
use crate::{
    ids::{JobId, StreamId},
    jobs::FileStatus,
    progress::snapshot::{FileSnapshot, JobSnapshot, StreamEntry},
};

/// A watched job of 25 files and an entry of its stream.
#[derive(Debug)]
pub struct WatchedJob {
    snapshot: JobSnapshot,
    entry: StreamEntry,
}

impl Default for WatchedJob {
    fn default() -> Self {
        let file = |index| FileSnapshot {
            status: FileStatus::Pending,
            progress: 0,
            filename: format!("picture-{index}.png"),
            error: None,
        };
        let mut snapshot = JobSnapshot::unknown(JobId::random());
        snapshot.files = (0..25).map(file).collect();
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
        Self { snapshot, entry: StreamEntry { id: StreamId::ZERO, fields } }
    }
}

impl WatchedJob {
    /// Applies the entry and encodes its frame, as the hub does once for all watchers.
    pub fn frame(&mut self) -> Option<Bytes> {
        let kind = self.snapshot.apply(&self.entry);
        frame::encode_entry(&self.snapshot, &self.entry, &kind, false).map(|frame| frame.bytes)
    }
}
