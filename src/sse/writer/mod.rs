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
    session::{Follower, Missing},
};
use crate::{error::Result, http::Taken, ids::JobId, tasks::Tasks};

/// One bit each in [`Interest`].
const MAX_WRITERS: usize = 64;

/// All writers of the process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writers(Arc<[Arc<Inbox>]>);

/// The writers that have connections of a channel, one bit each.
#[derive(Default)]
pub(crate) struct Interest(AtomicU64);

impl Interest {
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
    Adopt(Box<(Follower, Taken)>),
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
    missing: Missing,
    read: Result<Option<Vec<Frame>>>,
}

/// Where messages for a writer are put.
struct Inbox {
    messages: Mutex<Vec<Message>>,
    waker: Waker,
}

impl Inbox {
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

impl Writers {
    /// Starts one a core, or as many as configured.
    ///
    /// # Errors
    ///
    /// If the system has no more threads or file descriptors.
    pub(super) fn start(config: &SseConfig, tasks: &Tasks) -> io::Result<Self> {
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let n_writers = if config.writers == 0 { n_cores } else { config.writers };
        let n_writers = n_writers.min(MAX_WRITERS);
        let start = |index| {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), event_loop::WAKER)?;
            let inbox = Arc::new(Inbox { messages: Mutex::default(), waker });
            let event_loop = EventLoop::new(index, poll, inbox.clone(), config.heartbeat);
            let tasks_of_loop = tasks.clone();
            tasks.spawn_thread("stream writer", move || event_loop.run(&tasks_of_loop))?;
            Ok(inbox)
        };
        Ok(Self((0..n_writers).map(start).collect::<io::Result<_>>()?))
    }

    /// Gives a connection to one of the writers.
    pub(crate) fn adopt(&self, follower: Follower, taken: Taken) {
        let writer = &self.0[fastrand::usize(..self.0.len())];
        writer.put(Message::Adopt(Box::new((follower, taken))));
    }

    /// Tells those who have connections of `job`.
    pub(super) fn announce(&self, job: JobId, interest: &Interest) {
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
