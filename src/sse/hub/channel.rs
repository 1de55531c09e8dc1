//! A watched job: a bounded ring of shared frames, and the cursors of those who watch.

use std::{
    collections::VecDeque,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
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

/// Published events that a live follower may lag behind before it loses some.
const MAX_EVENTS_BEHIND: usize = 64;

/// A watched job.
pub(crate) struct Channel {
    pub(crate) job: JobId,
    /// Set once the job has been read.
    pub(super) loaded: OnceCell<()>,
    pub(super) subscriber_count: AtomicUsize,
    /// Whether its signals are subscribed to.
    pub(super) is_listening: AtomicBool,
    /// Whether a signal came before the job had been read.
    pub(super) was_touched: AtomicBool,
    /// The job's published events, as frames, for those who follow them live.
    events: OnceLock<broadcast::Sender<Bytes>>,
    /// Marked as changed whenever there may be something new for a cursor.
    changed: watch::Sender<()>,
    /// Which of the writers are told as well.
    pub(crate) writer_interest: WriterSet,
    writers: WriterPool,
    /// What was last read for those who fell behind; held while it is read.
    pub(super) replay_cache: tokio::sync::Mutex<Option<ReplayCache>>,
    state: Mutex<State>,
}

/// Frames that followed an entry.
pub(super) struct ReplayCache {
    pub(super) epoch: u64,
    pub(super) after: StreamId,
    pub(super) frames: Vec<Frame>,
}

struct State {
    view: JobSnapshot,
    /// The newest entry that was read.
    head: StreamId,
    /// Frames after `floor` up to `head`.
    ring: VecDeque<Frame>,
    floor: StreamId,
    max_ring: usize,
    /// What the last cursor from this entry on was given at once, for the next one at the same place.
    joined: Option<(StreamId, Frame)>,
    /// Grows when the stream began anew; cursors of an older epoch are resynchronised.
    epoch: u64,
    /// Said instead of anything else, once the job is gone.
    gone: Option<Frame>,
    last_check: Instant,
}

/// How far a watcher has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(super) seen: StreamId,
    epoch: u64,
    /// Whether it was told the state of the job, which is said once, after what it missed.
    snapshot_sent: bool,
}

impl Cursor {
    /// Of a watcher whose last event is not of this stream.
    pub(super) const INVALID: Self =
        Self { seen: StreamId::ZERO, epoch: u64::MAX, snapshot_sent: true };
}

/// What there is for a cursor now.
pub(crate) enum Delivery {
    Frames(Vec<Frame>),
    /// What comes after this entry is no longer in memory.
    Replay(StreamId),
    /// The end, which the watcher knows already or is told elsewhere.
    End,
}

impl Channel {
    pub(super) fn new(job: JobId, max_ring: usize, writers: WriterPool) -> Self {
        Self {
            job,
            loaded: OnceCell::new(),
            subscriber_count: AtomicUsize::new(0),
            is_listening: AtomicBool::new(false),
            was_touched: AtomicBool::new(false),
            events: OnceLock::new(),
            changed: watch::channel(()).0,
            writer_interest: WriterSet::default(),
            writers,
            replay_cache: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                view: JobSnapshot::unknown(job),
                head: StreamId::ZERO,
                ring: VecDeque::new(),
                floor: StreamId::ZERO,
                max_ring,
                joined: None,
                epoch: 0,
                gone: None,
                last_check: Instant::now(),
            }),
        }
    }

    /// Whether a signal came while the job was read; it counts as heeded now.
    pub(super) fn was_touched_while_loading(&self) -> bool {
        self.was_touched.swap(false, Ordering::Relaxed)
    }

    /// Passes a published event on to those who follow them.
    pub(super) fn publish(&self, payload: &[u8]) {
        if let Some(events) = self.events.get()
            && events.receiver_count() > 0
            && let Some(frame) = frame::encode_published(payload)
        {
            _ = events.send(frame);
        }
    }

    /// The job's published events from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<Bytes> {
        self.events.get_or_init(|| broadcast::channel(MAX_EVENTS_BEHIND).0).subscribe()
    }

    /// Changes whenever there may be something new for a cursor.
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

    /// Begins from a snapshot of the job.
    pub(super) fn reset(&self, view: JobSnapshot, head: StreamId) {
        let mut state = self.lock();
        (state.view, state.head, state.floor) = (view, head, head);
        state.ring.clear();
        state.joined = None;
        state.gone = None;
    }

    /// Begins anew on a stream that is not the one before: everybody is resynchronised.
    pub(super) fn resync_all(&self, view: JobSnapshot, head: StreamId) {
        self.reset(view, head);
        self.lock().epoch += 1;
        self.notify();
    }

    /// The job does not exist any more; its watchers are told so, and no more.
    pub(super) fn close_deleted(&self) {
        let mut state = self.lock();
        if state.view.exists && state.view.terminal_id.is_none() && state.gone.is_none() {
            state.gone = Some(frame::job_gone(&state.view, state.head));
            drop(state);
            self.notify();
        }
    }

    /// Whether the job was found. One that was not is looked for again when its stream changes.
    pub(super) fn exists(&self) -> bool {
        self.lock().view.exists
    }

    /// Whether nothing more can come.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.gone.is_some() || state.view.terminal_id.is_some()
    }

    /// Whether the record was last looked at longer than `every` ago; if so, it counts as looked at now.
    pub(super) fn check_is_due(&self, every: std::time::Duration) -> bool {
        let mut state = self.lock();
        let due = state.last_check.elapsed() >= every;
        if due {
            state.last_check = Instant::now();
        }
        due
    }

    /// A job that its watchers were faster than has come to be: they are told how it stands.
    pub(super) fn mark_created(&self, view: JobSnapshot, head: StreamId) {
        let mut state = self.lock();
        let greeting = frame::snapshot(&view, head);
        (state.view, state.head) = (view, head);
        state.push(greeting);
        drop(state);
        self.notify();
    }

    /// Takes in entries as they were read, each once.
    pub(super) fn apply(&self, entries: &[StreamEntry]) {
        let mut state = self.lock();
        let mut new_count = 0;
        for entry in entries {
            if entry.id <= state.head {
                continue;
            }
            new_count += 1;
            let change = state.view.apply(entry);
            state.head = entry.id;
            if let Some(frame) = frame::encode_entry(&state.view, entry, &change, false) {
                state.push(frame);
            }
        }
        drop(state);
        if new_count > 0 {
            self.notify();
        }
    }

    /// Frames of entries from before the ring. They say what the entries say, and nothing of the job's present.
    pub(super) fn encode_history(&self, entries: &[StreamEntry]) -> Vec<Frame> {
        let (mut view, head) = {
            let state = self.lock();
            (state.view.clone(), state.head)
        };
        let terminal_id = view.terminal_id;
        view.progress = 0;
        let mut frames = Vec::with_capacity(entries.len());
        for entry in entries.iter().take_while(|it| it.id <= head) {
            let change = view.apply(entry);
            if let Some(frame) = frame::encode_entry(&view, entry, &change, true) {
                // An end after which the job was tried again is none.
                if !frame.is_last || Some(frame.id) == terminal_id {
                    frames.push(frame);
                }
            }
        }
        frames
    }

    /// What `past` has of what came after `after`, as far as it is still true.
    pub(super) fn cached_history(
        &self,
        past: Option<&ReplayCache>,
        after: StreamId,
    ) -> Option<Vec<Frame>> {
        let state = self.lock();
        let past = past.filter(|it| it.after == after && it.epoch == state.epoch)?;
        Some(past.frames.iter().filter(|it| state.is_delivered(it)).cloned().collect())
    }

    /// Nobody is likely to come back to it.
    pub(super) fn clear_replay_cache(&self) {
        if let Ok(mut past) = self.replay_cache.try_lock() {
            *past = None;
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// A cursor for a new watcher.
    pub(super) fn start(&self) -> Cursor {
        let state = self.lock();
        Cursor { seen: state.head, epoch: state.epoch, snapshot_sent: false }
    }

    /// Whether everything after `id` is in memory.
    pub(super) fn contains(&self, id: StreamId) -> bool {
        id >= self.lock().floor
    }

    /// A cursor for a watcher that has seen everything up to `id`.
    pub(super) fn resume_at(&self, id: StreamId) -> Cursor {
        let state = self.lock();
        let knows_the_end = state.view.terminal_id.is_some_and(|it| id >= it);
        Cursor { seen: id, epoch: state.epoch, snapshot_sent: knows_the_end }
    }

    /// The entry that said the end, if the job is over.
    pub(crate) fn terminal_id(&self) -> Option<StreamId> {
        let state = self.lock();
        state.view.terminal_id.filter(|_| state.view.status.is_terminal())
    }

    /// What there is for `cursor`, which moves on by it. `may_join`: several frames may be given as one.
    pub(crate) fn deliver(&self, cursor: &mut Cursor, may_join: bool) -> Delivery {
        let mut state = self.lock();
        if cursor.epoch != state.epoch {
            *cursor = Cursor { seen: state.head, epoch: state.epoch, snapshot_sent: true };
            return Delivery::Frames(state.resync());
        }
        if let Some(gone) = &state.gone {
            return Delivery::Frames(vec![gone.clone()]);
        }
        if cursor.seen < state.floor {
            return Delivery::Replay(cursor.seen);
        }
        let mut frames = state.frames_after(cursor.seen, may_join);
        // Who has seen more than was read here so far is told nothing older.
        let is_ahead = cursor.seen > state.head;
        cursor.seen = cursor.seen.max(state.head);
        let told_the_end = frames.iter().any(|it| it.is_last);
        if !std::mem::replace(&mut cursor.snapshot_sent, true) && !told_the_end && !is_ahead {
            frames.push(frame::snapshot(&state.view, state.head));
        }
        if frames.is_empty() && state.view.status.is_terminal() && state.view.terminal_id.is_some()
        {
            return Delivery::End;
        }
        Delivery::Frames(frames)
    }

    /// The state of the job for a watcher whose events are no longer kept.
    pub(crate) fn resync(&self, cursor: &mut Cursor) -> Vec<Frame> {
        let state = self.lock();
        *cursor = Cursor { seen: state.head, epoch: state.epoch, snapshot_sent: true };
        state.resync()
    }
}

impl State {
    /// An end after which the job was tried again is none.
    fn is_delivered(&self, frame: &Frame) -> bool {
        !frame.is_last || Some(frame.id) == self.view.terminal_id
    }

    /// The frames after `seen`. Watchers that fell behind together are given the same bytes: they are joined once,
    /// and written at once.
    fn frames_after(&mut self, seen: StreamId, may_join: bool) -> Vec<Frame> {
        if may_join
            && let Some((from, frame)) = &self.joined
            && *from == seen
            && frame.id == self.head
        {
            return vec![frame.clone()];
        }
        // Frames stand in the order of their ids.
        let first = self.ring.partition_point(|it| it.id <= seen);
        let frames = self.ring.range(first..).filter(|it| self.is_delivered(it)).cloned();
        let frames: Vec<Frame> = frames.collect();
        if !may_join || frames.len() < 2 {
            return frames;
        }
        let joined = frame::concat(&frames, self.head);
        self.joined = Some((seen, joined.clone()));
        vec![joined]
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
        let mut frames = vec![frame::resync(&self.view, self.head)];
        let present = frame::snapshot(&self.view, self.head);
        if present.is_last {
            frames.push(present);
        }
        frames
    }
}
