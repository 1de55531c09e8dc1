//! The channel of a watched job: a bounded ring of shared frames, and the cursors of its watchers.

use std::{
    collections::VecDeque,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{OnceCell, broadcast, watch},
    time::Instant,
};

use crate::{
    ids::{JobId, StreamId},
    progress::snapshot::{JobSnapshot, StreamEntry},
    sse::{
        frame::{self, Frame},
        writer::{WriterPool, WriterSet},
    },
};

/// Published events that are buffered for a live stream. A slower stream loses the oldest ones.
const MAX_EVENTS_BEHIND: usize = 64;

/// The in-memory state of a watched job.
pub(crate) struct Channel {
    pub(crate) job: JobId,
    /// Set once the job was read.
    pub(super) loaded: OnceCell<()>,
    pub(super) subscriber_count: AtomicUsize,
    /// Whether the job's notifications are subscribed to.
    pub(super) is_listening: AtomicBool,
    /// Whether a notification arrived before the job was read.
    pub(super) was_signalled: AtomicBool,
    /// The job's published events, as frames, for live streams.
    events: OnceLock<broadcast::Sender<Bytes>>,
    /// Marked as changed whenever a cursor may have new frames.
    changed: watch::Sender<()>,
    /// The writer threads to notify of a change.
    pub(crate) writer_interest: WriterSet,
    writers: WriterPool,
    /// The last history that was read for a watcher behind the ring. Locked during the read, so that others share it.
    pub(super) replay_cache: tokio::sync::Mutex<Option<ReplayCache>>,
    state: Mutex<State>,
}

/// The frames after an entry that is older than the ring.
pub(super) struct ReplayCache {
    pub(super) epoch: u64,
    pub(super) after: StreamId,
    pub(super) frames: Vec<Frame>,
}

struct State {
    snapshot: JobSnapshot,
    /// The newest entry that was applied.
    head: StreamId,
    /// The frames after `floor`, up to `head`.
    ring: VecDeque<Frame>,
    floor: StreamId,
    max_ring: usize,
    /// The last concatenated frame and the entry that it follows, for further cursors at the same entry.
    concatenated: Option<(StreamId, Frame)>,
    /// Increases when the stream was recreated. Cursors of an older epoch are resynchronized.
    epoch: u64,
    /// Set once the job was deleted or has expired. Replaces all other frames.
    gone_frame: Option<Frame>,
    last_check: Instant,
}

/// The position of a watcher in the events of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(super) seen_id: StreamId,
    epoch: u64,
    /// Whether the watcher has received the job's state, which is sent once, after the missed events.
    snapshot_sent: bool,
}

impl Cursor {
    /// The cursor of a watcher whose last event is not in this stream. It is resynchronized.
    pub(super) const INVALID: Self =
        Self { seen_id: StreamId::ZERO, epoch: u64::MAX, snapshot_sent: true };
}

/// The next frames for a cursor.
pub(crate) enum Delivery {
    Frames(Vec<Frame>),
    /// The frames after this entry are no longer in memory and must be read from the stream.
    Replay(StreamId),
    /// The job has ended and the watcher has received all its frames.
    End,
}

impl Channel {
    pub(super) fn new(job: JobId, max_ring: usize, writers: WriterPool) -> Self {
        Self {
            job,
            loaded: OnceCell::new(),
            subscriber_count: AtomicUsize::new(0),
            is_listening: AtomicBool::new(false),
            was_signalled: AtomicBool::new(false),
            events: OnceLock::new(),
            changed: watch::channel(()).0,
            writer_interest: WriterSet::default(),
            writers,
            replay_cache: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                snapshot: JobSnapshot::unknown(job),
                head: StreamId::ZERO,
                ring: VecDeque::new(),
                floor: StreamId::ZERO,
                max_ring,
                concatenated: None,
                epoch: 0,
                gone_frame: None,
                last_check: Instant::now(),
            }),
        }
    }

    /// Returns whether a notification arrived while the job was read, and resets the flag.
    pub(super) fn take_signalled_while_loading(&self) -> bool {
        self.was_signalled.swap(false, Ordering::Relaxed)
    }

    /// Sends a published event to the live streams.
    pub(super) fn publish(&self, payload: &[u8]) {
        if let Some(events) = self.events.get()
            && events.receiver_count() > 0
            && let Some(frame) = frame::encode_published(payload)
        {
            _ = events.send(frame);
        }
    }

    /// A receiver of the job's published events from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<Bytes> {
        self.events.get_or_init(|| broadcast::channel(MAX_EVENTS_BEHIND).0).subscribe()
    }

    /// A receiver that is notified whenever a cursor may have new frames.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn notify(&self) {
        self.changed.send_replace(());
        self.writers.notify(self.job, &self.writer_interest);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn head(&self) -> StreamId {
        self.lock().head
    }

    /// Replaces the state by a new snapshot of the job.
    pub(super) fn reset(&self, snapshot: JobSnapshot, head: StreamId) {
        let mut state = self.lock();
        (state.snapshot, state.head, state.floor) = (snapshot, head, head);
        state.ring.clear();
        state.concatenated = None;
        state.gone_frame = None;
    }

    /// Starts over with a recreated stream and resynchronizes all watchers.
    pub(super) fn resync_all(&self, snapshot: JobSnapshot, head: StreamId) {
        self.reset(snapshot, head);
        self.lock().epoch += 1;
        self.notify();
    }

    /// Ends the channel of a deleted or expired job. Its watchers receive one last frame.
    pub(super) fn close_deleted(&self) {
        let mut state = self.lock();
        if state.snapshot.exists
            && state.snapshot.terminal_id.is_none()
            && state.gone_frame.is_none()
        {
            state.gone_frame = Some(frame::job_gone(&state.snapshot, state.head));
            drop(state);
            self.notify();
        }
    }

    /// Whether the job exists. A missing job is looked up again on each notification.
    pub(super) fn exists(&self) -> bool {
        self.lock().snapshot.exists
    }

    /// Whether the job has ended, so that no more frames follow.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.gone_frame.is_some() || state.snapshot.terminal_id.is_some()
    }

    /// Returns whether the last check of the job's record is at least `interval` ago, and if so restarts the interval.
    pub(super) fn claim_check(&self, interval: Duration) -> bool {
        let mut state = self.lock();
        let is_due = state.last_check.elapsed() >= interval;
        if is_due {
            state.last_check = Instant::now();
        }
        is_due
    }

    /// Sends the state of a job that was created after its first watchers had subscribed.
    pub(super) fn mark_created(&self, snapshot: JobSnapshot, head: StreamId) {
        let mut state = self.lock();
        let frame = frame::snapshot(&snapshot, head);
        (state.snapshot, state.head) = (snapshot, head);
        state.push(frame);
        drop(state);
        self.notify();
    }

    /// Applies new entries in the order of the stream. Entries that were already applied are skipped.
    pub(super) fn apply(&self, entries: &[StreamEntry]) {
        let mut state = self.lock();
        let mut new_count = 0;
        for entry in entries {
            if entry.id <= state.head {
                continue;
            }
            new_count += 1;
            let kind = state.snapshot.apply(entry);
            state.head = entry.id;
            if let Some(frame) = frame::encode_entry(&state.snapshot, entry, &kind, false) {
                state.push(frame);
            }
        }
        drop(state);
        if new_count > 0 {
            self.notify();
        }
    }

    /// Encodes entries that are older than the ring. The frames contain nothing of the job's present state.
    pub(super) fn encode_history(&self, entries: &[StreamEntry]) -> Vec<Frame> {
        let (mut snapshot, head) = {
            let state = self.lock();
            (state.snapshot.clone(), state.head)
        };
        let terminal_id = snapshot.terminal_id;
        snapshot.progress = 0;
        let mut frames = Vec::with_capacity(entries.len());
        for entry in entries.iter().take_while(|entry| entry.id <= head) {
            let kind = snapshot.apply(entry);
            if let Some(frame) = frame::encode_entry(&snapshot, entry, &kind, true) {
                // A terminal entry that a retry followed is not the end.
                if !frame.is_last || Some(frame.id) == terminal_id {
                    frames.push(frame);
                }
            }
        }
        frames
    }

    /// The cached frames after `after`, without the end of a job that was retried since; `None` if `cache` has others.
    pub(super) fn cached_history(
        &self,
        cache: Option<&ReplayCache>,
        after: StreamId,
    ) -> Option<Vec<Frame>> {
        let state = self.lock();
        let cache = cache.filter(|cache| cache.after == after && cache.epoch == state.epoch)?;
        Some(cache.frames.iter().filter(|frame| state.is_delivered(frame)).cloned().collect())
    }

    /// Frees the cached history unless a read is under way.
    pub(super) fn clear_replay_cache(&self) {
        if let Ok(mut cache) = self.replay_cache.try_lock() {
            *cache = None;
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// A cursor for a new watcher.
    pub(super) fn start(&self) -> Cursor {
        let state = self.lock();
        Cursor { seen_id: state.head, epoch: state.epoch, snapshot_sent: false }
    }

    /// Whether all frames after `id` are in memory.
    pub(super) fn contains(&self, id: StreamId) -> bool {
        id >= self.lock().floor
    }

    /// A cursor for a watcher that has received everything up to `id`.
    pub(super) fn resume_at(&self, id: StreamId) -> Cursor {
        let state = self.lock();
        let end_received = state.snapshot.terminal_id.is_some_and(|terminal_id| id >= terminal_id);
        Cursor { seen_id: id, epoch: state.epoch, snapshot_sent: end_received }
    }

    /// The entry that ended the job, if the job has ended.
    pub(crate) fn terminal_id(&self) -> Option<StreamId> {
        let state = self.lock();
        state.snapshot.terminal_id.filter(|_| state.snapshot.status.is_terminal())
    }

    /// Returns the next frames for `cursor` and moves it past them. `may_concat`: join several frames into one.
    pub(crate) fn deliver(&self, cursor: &mut Cursor, may_concat: bool) -> Delivery {
        let mut state = self.lock();
        if cursor.epoch != state.epoch {
            *cursor = Cursor { seen_id: state.head, epoch: state.epoch, snapshot_sent: true };
            return Delivery::Frames(state.resync());
        }
        if let Some(frame) = &state.gone_frame {
            return Delivery::Frames(vec![frame.clone()]);
        }
        if cursor.seen_id < state.floor {
            return Delivery::Replay(cursor.seen_id);
        }
        let mut frames = state.frames_after(cursor.seen_id, may_concat);
        // A watcher that is ahead of this process, after a reconnect from another one, must not receive an older state.
        let is_ahead = cursor.seen_id > state.head;
        cursor.seen_id = cursor.seen_id.max(state.head);
        let has_end = frames.iter().any(|frame| frame.is_last);
        if !std::mem::replace(&mut cursor.snapshot_sent, true) && !has_end && !is_ahead {
            frames.push(frame::snapshot(&state.snapshot, state.head));
        }
        if frames.is_empty()
            && state.snapshot.status.is_terminal()
            && state.snapshot.terminal_id.is_some()
        {
            return Delivery::End;
        }
        Delivery::Frames(frames)
    }

    /// The full state of the job, for a watcher whose missed events are no longer stored. Moves the cursor to the head.
    pub(crate) fn resync(&self, cursor: &mut Cursor) -> Vec<Frame> {
        let state = self.lock();
        *cursor = Cursor { seen_id: state.head, epoch: state.epoch, snapshot_sent: true };
        state.resync()
    }
}

impl State {
    /// False for the end of a job that was retried since.
    fn is_delivered(&self, frame: &Frame) -> bool {
        !frame.is_last || Some(frame.id) == self.snapshot.terminal_id
    }

    /// The frames after `seen_id`. With `may_concat`, several frames are joined into one, which is cached and shared by
    /// all watchers at the same entry.
    fn frames_after(&mut self, seen_id: StreamId, may_concat: bool) -> Vec<Frame> {
        if may_concat
            && let Some((after, frame)) = &self.concatenated
            && *after == seen_id
            && frame.id == self.head
        {
            return vec![frame.clone()];
        }
        // The ring is sorted by id.
        let first = self.ring.partition_point(|frame| frame.id <= seen_id);
        let frames = self.ring.range(first..).filter(|frame| self.is_delivered(frame)).cloned();
        let frames: Vec<Frame> = frames.collect();
        if !may_concat || frames.len() < 2 {
            return frames;
        }
        let concatenated = frame::concat(&frames, self.head);
        self.concatenated = Some((seen_id, concatenated.clone()));
        vec![concatenated]
    }

    fn push(&mut self, frame: Frame) {
        if self.ring.len() >= self.max_ring
            && let Some(oldest) = self.ring.pop_front()
        {
            self.floor = oldest.id;
        }
        self.ring.push_back(frame);
    }

    fn resync(&self) -> Vec<Frame> {
        let mut frames = vec![frame::resync(&self.snapshot, self.head)];
        let snapshot = frame::snapshot(&self.snapshot, self.head);
        if snapshot.is_last {
            frames.push(snapshot);
        }
        frames
    }
}
