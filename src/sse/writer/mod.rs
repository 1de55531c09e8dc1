//! Writer threads, each of which writes events to thousands of sockets.
//!
//! One task per browser would be woken, scheduled and polled for each event. A writer wakes once, goes through the
//! connections that have new events, and writes all of them to each. See docs/adr/0011-sse-writer-threads.md.

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

/// The number of bits in [`WriterSet`].
const MAX_WRITERS: usize = 64;

/// All writer threads of the process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WriterPool(Arc<[Arc<Mailbox>]>);

/// The writers that have connections to a channel, one bit each.
#[derive(Default)]
pub(crate) struct WriterSet(AtomicU64);

impl WriterSet {
    /// Called before the channel is first polled, so that no change in between is missed.
    fn add(&self, writer: usize) {
        self.0.fetch_or(1 << writer, Ordering::SeqCst);
    }

    fn remove(&self, writer: usize) {
        self.0.fetch_and(!(1 << writer), Ordering::SeqCst);
    }
}

/// A message to a writer.
enum Message {
    AddConnection(Box<(SseSession, RawConnection)>),
    /// The job may have new events since this time.
    JobChanged(JobId, Instant),
    /// The answer to a request for events that were no longer in memory.
    Replayed(Box<ReplayReply>),
    Drain,
}

/// The history that a connection needs.
struct ReplayReply {
    key: usize,
    /// Tells the connection apart from later ones with the same key.
    serial: u64,
    request: ReplayRequest,
    history: Result<Option<Vec<Frame>>>,
}

/// The messages to a writer.
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
            // Fails only if the writer has ended.
            _ = self.waker.wake();
        }
    }

    fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.messages.lock())
    }
}

impl WriterPool {
    /// Starts the configured number of threads, or one per core.
    ///
    /// # Errors
    ///
    /// If the system is out of threads or file descriptors.
    pub(super) fn start(config: &SseConfig, tasks: &TaskSupervisor) -> io::Result<Self> {
        let core_count = std::thread::available_parallelism().map_or(1, usize::from);
        let writer_count = if config.writers == 0 { core_count } else { config.writers };
        let writer_count = writer_count.min(MAX_WRITERS);
        let start = |index| {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), event_loop::WAKER)?;
            let mailbox = Arc::new(Mailbox { messages: Mutex::default(), waker });
            let event_loop = EventLoop::new(index, poll, mailbox.clone(), config.heartbeat);
            let loop_tasks = tasks.clone();
            tasks.spawn_thread("stream writer", move || event_loop.run(&loop_tasks))?;
            Ok(mailbox)
        };
        Ok(Self((0..writer_count).map(start).collect::<io::Result<_>>()?))
    }

    /// Hands a connection to a random writer.
    pub(crate) fn add_connection(&self, session: SseSession, connection: RawConnection) {
        let writer = &self.0[fastrand::usize(..self.0.len())];
        writer.put(Message::AddConnection(Box::new((session, connection))));
    }

    /// Notifies the writers in `interested` that `job` may have new events.
    pub(super) fn notify(&self, job: JobId, interested: &WriterSet) {
        let interested = interested.0.load(Ordering::SeqCst);
        let now = Instant::now();
        for (index, writer) in self.0.iter().enumerate() {
            if interested & (1 << index) != 0 {
                writer.put(Message::JobChanged(job, now));
            }
        }
    }

    /// Closes all connections gradually and then ends the writers.
    pub(super) fn drain(&self) {
        for writer in self.0.iter() {
            writer.put(Message::Drain);
        }
    }
}
