//! A writer's loop: who is ready is served, each once a turn, and then messages and sockets are looked at again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::ErrorKind,
    sync::Arc,
    time::Duration,
};

use mio::{Events, Interest as Readiness, Poll, Token};
use slab::Slab;
use tokio::time::Instant;
use tracing::error;

use super::{
    CaughtUp, Mailbox, Message, RawConnection, SseSession,
    connection::{Connection, FlushResult, TimerAction},
};
use crate::{ids::JobId, sse::session::ReplayRequest, tasks::TaskSupervisor};

pub(super) const WAKER: Token = Token(usize::MAX);

/// Connections that are served before messages are looked at again, so that a popular job holds nobody else up.
const MAX_FLUSHES_PER_TURN: usize = 256;

/// One writer.
pub(super) struct EventLoop {
    index: usize,
    poll: Poll,
    inbox: Arc<Mailbox>,
    heartbeat: Duration,
    connections: Slab<Connection>,
    /// Of each job, those who follow it.
    watching: HashMap<JobId, HashSet<usize>>,
    /// Those who may have something to be told.
    ready: VecDeque<usize>,
    next_serial: u64,
    next_tick: Instant,
    is_draining: bool,
}

impl EventLoop {
    pub(super) fn new(index: usize, poll: Poll, inbox: Arc<Mailbox>, heartbeat: Duration) -> Self {
        Self {
            index,
            poll,
            inbox,
            heartbeat,
            connections: Slab::new(),
            watching: HashMap::new(),
            ready: VecDeque::new(),
            next_serial: 0,
            next_tick: Instant::now(),
            is_draining: false,
        }
    }

    /// Runs until it is told to drain and every connection is closed.
    pub(super) fn run(mut self, tasks: &TaskSupervisor) {
        let mut events = Events::with_capacity(1024);
        while !self.is_draining || !self.connections.is_empty() {
            if let Err(error) = self.poll.poll(&mut events, self.poll_timeout())
                && error.kind() != ErrorKind::Interrupted
            {
                error!(%error, "a stream writer cannot wait for its sockets");
                return;
            }
            for message in self.inbox.take() {
                self.receive(message);
            }
            for event in &events {
                if event.token() != WAKER {
                    self.on_socket_event(event.token().0, event.is_readable() || event.is_error());
                }
            }
            self.flush_ready(tasks);
            self.tick();
        }
    }

    /// How long there is nothing to do.
    fn poll_timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let is_idle = self.connections.is_empty();
        (!is_idle).then(|| self.next_tick.saturating_duration_since(Instant::now()))
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::AddConnection(it) => self.add_connection(it.0, it.1),
            Message::Changed(job, at) => self.enqueue_watchers(job, at),
            Message::CaughtUp(it) => self.catch_up(*it),
            Message::Drain => {
                self.is_draining = true;
                let now = Instant::now();
                self.next_tick = now;
                self.connections.iter_mut().for_each(|(_, it)| it.follower.begin_drain(now));
            }
        }
    }

    fn add_connection(&mut self, follower: SseSession, taken: RawConnection) {
        self.next_serial += 1;
        let mut connection = Connection::new(follower, taken, self.next_serial);
        if self.is_draining {
            connection.follower.begin_drain(Instant::now());
        }
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let readiness = Readiness::READABLE | Readiness::WRITABLE;
        if self.poll.registry().register(&mut connection.socket, Token(key), readiness).is_err() {
            // Out of memory for it, so the browser comes back to somebody else.
            return;
        }
        for channel in &connection.channels {
            channel.writer_interest.add(self.index);
            self.watching.entry(channel.job).or_default().insert(key);
        }
        entry.insert(connection);
        self.enqueue(key);
    }

    fn enqueue(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.is_queued, true)
        {
            self.ready.push_back(key);
        }
    }

    fn enqueue_watchers(&mut self, job: JobId, changed_at: Instant) {
        let Some(keys) = self.watching.get(&job) else { return };
        for key in keys {
            if let Some(connection) = self.connections.get_mut(*key) {
                connection.woken_at.get_or_insert(changed_at);
                if !std::mem::replace(&mut connection.is_queued, true) {
                    self.ready.push_back(*key);
                }
            }
        }
    }

    /// A socket has something to say, or takes more.
    fn on_socket_event(&mut self, key: usize, says_something: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if says_something && !connection.is_open() {
            return self.remove(key);
        }
        self.enqueue(key);
    }

    fn flush_ready(&mut self, tasks: &TaskSupervisor) {
        let now = Instant::now();
        for _ in 0..MAX_FLUSHES_PER_TURN {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.is_queued = false;
            let woken_at = connection.woken_at.take();
            let served = connection.serve(now);
            if let Some(woken_at) = woken_at {
                let metrics = connection.follower.hub().metrics();
                metrics.wake_to_write.observe(woken_at.elapsed().as_secs_f64());
            }
            match served {
                FlushResult::Idle => (),
                FlushResult::Closed => self.remove(key),
                FlushResult::NeedsReplay(missing) => {
                    let serial = connection.serial;
                    self.read_missing(key, serial, missing, tasks);
                }
            }
        }
    }

    /// Reads from Redis what a connection is missing; the answer comes as a message.
    fn read_missing(
        &self,
        key: usize,
        serial: u64,
        missing: ReplayRequest,
        tasks: &TaskSupervisor,
    ) {
        let hub = self.connections[key].follower.hub().clone();
        let inbox = self.inbox.clone();
        tasks.spawn("catch up", async move {
            let read = missing.read(&hub).await;
            let answer = CaughtUp { key, serial, missing, read };
            inbox.put(Message::CaughtUp(Box::new(answer)));
        });
    }

    fn catch_up(&mut self, answer: CaughtUp) {
        let CaughtUp { key, serial, missing, read } = answer;
        // It may have left meanwhile.
        if let Some(connection) = self.connections.get_mut(key).filter(|it| it.serial == serial) {
            connection.catch_up(&missing, read);
            self.enqueue(key);
        }
    }

    fn remove(&mut self, key: usize) {
        let Some(mut connection) = self.connections.try_remove(key) else { return };
        // Closing it would do as well, if nothing else held the socket.
        _ = self.poll.registry().deregister(&mut connection.socket);
        for channel in &connection.channels {
            let Some(keys) = self.watching.get_mut(&channel.job) else { continue };
            keys.remove(&key);
            if keys.is_empty() {
                self.watching.remove(&channel.job);
                channel.writer_interest.remove(self.index);
            }
        }
    }

    /// Heartbeats, and what else the clock says: one look over all, not a timer each.
    fn tick(&mut self) {
        const MAX_INTERVAL: Duration = Duration::from_millis(250);
        const DRAINING_INTERVAL: Duration = Duration::from_millis(20);
        let now = Instant::now();
        if now < self.next_tick {
            return;
        }
        self.next_tick = now
            + if self.is_draining {
                DRAINING_INTERVAL
            } else {
                MAX_INTERVAL.min(self.heartbeat / 4)
            };
        let heartbeat = self.heartbeat;
        let due = self.connections.iter_mut();
        let due = due.filter_map(|(key, it)| it.tick(now, heartbeat).map(|due| (key, due)));
        for (key, due) in due.collect::<Vec<_>>() {
            match due {
                TimerAction::Flush => self.enqueue(key),
                TimerAction::Close => self.remove(key),
            }
        }
    }
}
