//! Writers: threads that write events to sockets, each to thousands of them.
//!
//! A task for each browser would be woken, scheduled and polled for each event. A writer is woken once, goes over
//! the connections that have something to be told, and writes to each what it lacks, however many events that are.
//! See docs/adr/0011.

mod connection;
mod event_loop;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mio::{Poll, Waker};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::event_loop::EventLoop;
use super::{
    SseConfig,
    frame::Frame,
    session::{ReplayRequest, SseSession},
};
use crate::{error::Result, http::RawConnection, ids::JobId, tasks::TaskSupervisor};

/// One bit each in [`WriterSet`].
const MAX_WRITERS: usize = 64;

/// All writers of the process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WriterPool(Arc<[Arc<Mailbox>]>);

/// The writers that have connections of a channel, one bit each.
#[derive(Default)]
pub(crate) struct WriterSet(AtomicU64);

impl WriterSet {
    /// Before the first look at the channel, so that no change falls between.
    fn add(&self, writer: usize) {
        self.0.fetch_or(1 << writer, Ordering::SeqCst);
    }

    fn remove(&self, writer: usize) {
        self.0.fetch_and(!(1 << writer), Ordering::SeqCst);
    }
}

/// What a writer is told.
enum Message {
    AddConnection(Box<(SseSession, RawConnection)>),
    /// There may be something new of this job since then.
    Changed(JobId, Instant),
    /// What a connection was missing.
    CaughtUp(Box<CaughtUp>),
    Drain,
}

struct CaughtUp {
    key: usize,
    /// Keys are used again.
    serial: u64,
    missing: ReplayRequest,
    read: Result<Option<Vec<Frame>>>,
}

/// Where messages for a writer are put.
struct Mailbox {
    messages: Mutex<Vec<Message>>,
    waker: Waker,
}

impl Mailbox {
    fn put(&self, message: Message) {
        let was_empty = {
            let mut messages = self.messages.lock();
            messages.push(message);
            messages.len() == 1
        };
        if was_empty {
            // Fails only on a closed poll, when there is nobody left to tell.
            _ = self.waker.wake();
        }
    }

    fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.messages.lock())
    }
}

impl WriterPool {
    /// Starts one a core, or as many as configured.
    ///
    /// # Errors
    ///
    /// If the system has no more threads or file descriptors.
    pub(super) fn start(config: &SseConfig, tasks: &TaskSupervisor) -> io::Result<Self> {
        let core_count = std::thread::available_parallelism().map_or(1, usize::from);
        let writer_count = if config.writers == 0 { core_count } else { config.writers };
        let writer_count = writer_count.min(MAX_WRITERS);
        let start = |index| {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), event_loop::WAKER)?;
            let inbox = Arc::new(Mailbox { messages: Mutex::default(), waker });
            let event_loop = EventLoop::new(index, poll, inbox.clone(), config.heartbeat);
            let tasks_of_loop = tasks.clone();
            tasks.spawn_thread("stream writer", move || event_loop.run(&tasks_of_loop))?;
            Ok(inbox)
        };
        Ok(Self((0..writer_count).map(start).collect::<io::Result<_>>()?))
    }

    /// Gives a connection to one of the writers.
    pub(crate) fn add_connection(&self, follower: SseSession, taken: RawConnection) {
        let writer = &self.0[fastrand::usize(..self.0.len())];
        writer.put(Message::AddConnection(Box::new((follower, taken))));
    }

    /// Tells those who have connections of `job`.
    pub(super) fn notify(&self, job: JobId, interest: &WriterSet) {
        let interested = interest.0.load(Ordering::SeqCst);
        let now = Instant::now();
        for (index, writer) in self.0.iter().enumerate() {
            if interested & (1 << index) != 0 {
                writer.put(Message::Changed(job, now));
            }
        }
    }

    /// Closes every connection, and then ends the writers.
    pub(super) fn drain(&self) {
        for writer in self.0.iter() {
            writer.put(Message::Drain);
        }
    }
}
