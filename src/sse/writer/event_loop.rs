//! The event loop of a writer thread: takes messages and socket events, flushes ready connections, and runs timers.

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
    Mailbox, Message, RawConnection, ReplayReply, SseSession,
    connection::{Connection, FlushResult, TimerAction},
};
use crate::{ids::JobId, sse::session::ReplayRequest, tasks::TaskSupervisor};

pub(super) const WAKER: Token = Token(usize::MAX);

/// Connections that are flushed per turn. More wait for the next turn, so that a job with many watchers does not delay
/// the others.
const MAX_FLUSHES_PER_TURN: usize = 256;

/// The state of one writer thread.
pub(super) struct EventLoop {
    index: usize,
    poll: Poll,
    mailbox: Arc<Mailbox>,
    heartbeat: Duration,
    connections: Slab<Connection>,
    /// The connections of each job.
    watching: HashMap<JobId, HashSet<usize>>,
    /// Connections to flush.
    ready: VecDeque<usize>,
    next_serial: u64,
    next_tick: Instant,
    is_draining: bool,
}

impl EventLoop {
    pub(super) fn new(
        index: usize,
        poll: Poll,
        mailbox: Arc<Mailbox>,
        heartbeat: Duration,
    ) -> Self {
        Self {
            index,
            poll,
            mailbox,
            heartbeat,
            connections: Slab::new(),
            watching: HashMap::new(),
            ready: VecDeque::new(),
            next_serial: 0,
            next_tick: Instant::now(),
            is_draining: false,
        }
    }

    /// Runs until it is draining and all connections are closed.
    pub(super) fn run(mut self, tasks: &TaskSupervisor) {
        let mut events = Events::with_capacity(1024);
        while !self.is_draining || !self.connections.is_empty() {
            if let Err(error) = self.poll.poll(&mut events, self.poll_timeout())
                && error.kind() != ErrorKind::Interrupted
            {
                error!(%error, "stream writer failed to poll its sockets; its streams stop");
                return;
            }
            for message in self.mailbox.take() {
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

    /// The time until the next tick; zero if connections are ready, `None` if there are no connections.
    fn poll_timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let is_idle = self.connections.is_empty();
        (!is_idle).then(|| self.next_tick.saturating_duration_since(Instant::now()))
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::AddConnection(added) => self.add_connection(added.0, added.1),
            Message::JobChanged(job, changed_at) => self.enqueue_watchers(job, changed_at),
            Message::Replayed(reply) => self.catch_up(*reply),
            Message::Drain => {
                self.is_draining = true;
                let now = Instant::now();
                self.next_tick = now;
                for (_, connection) in &mut self.connections {
                    connection.session.begin_drain(now);
                }
            }
        }
    }

    fn add_connection(&mut self, session: SseSession, raw: RawConnection) {
        self.next_serial += 1;
        let mut connection = Connection::new(session, raw, self.next_serial);
        if self.is_draining {
            connection.session.begin_drain(Instant::now());
        }
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let readiness = Readiness::READABLE | Readiness::WRITABLE;
        if self.poll.registry().register(&mut connection.socket, Token(key), readiness).is_err() {
            // The system is out of memory. Dropping the connection makes the browser reconnect.
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

    /// A socket has input, failed, or accepts more data.
    fn on_socket_event(&mut self, key: usize, has_input: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if has_input && !connection.discard_input() {
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
            let result = connection.flush(now);
            if let Some(woken_at) = woken_at {
                let metrics = connection.session.hub().metrics();
                metrics.wake_to_write.observe(woken_at.elapsed().as_secs_f64());
            }
            match result {
                FlushResult::Idle => (),
                FlushResult::Closed => self.remove(key),
                FlushResult::NeedsReplay(request) => {
                    let serial = connection.serial;
                    self.read_history(key, serial, request, tasks);
                }
            }
        }
    }

    /// Reads the requested history in a task, which sends it back as a message.
    fn read_history(
        &self,
        key: usize,
        serial: u64,
        request: ReplayRequest,
        tasks: &TaskSupervisor,
    ) {
        let hub = self.connections[key].session.hub().clone();
        let mailbox = self.mailbox.clone();
        tasks.spawn("stream replay", async move {
            let history = request.read(&hub).await;
            let reply = ReplayReply { key, serial, request, history };
            mailbox.put(Message::Replayed(Box::new(reply)));
        });
    }

    fn catch_up(&mut self, reply: ReplayReply) {
        let ReplayReply { key, serial, request, history } = reply;
        // The connection may have closed meanwhile, and its key may be in use again.
        if let Some(connection) = self.connections.get_mut(key)
            && connection.serial == serial
        {
            connection.catch_up(&request, history);
            self.enqueue(key);
        }
    }

    fn remove(&mut self, key: usize) {
        let Some(mut connection) = self.connections.try_remove(key) else { return };
        // Dropping the socket would deregister it too, but only if it is the last handle to the socket.
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

    /// Runs the timers of all connections in one pass, which is cheaper than one timer per connection.
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
        let connections = self.connections.iter_mut();
        let actions = connections.filter_map(|(key, connection)| {
            connection.tick(now, heartbeat).map(|action| (key, action))
        });
        for (key, action) in actions.collect::<Vec<_>>() {
            match action {
                TimerAction::Flush => self.enqueue(key),
                TimerAction::Close => self.remove(key),
            }
        }
    }
}
