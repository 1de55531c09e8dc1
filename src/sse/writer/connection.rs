//! The socket of an SSE connection and its write state.

use std::{
    io::{self, ErrorKind, IoSlice, Read as _, Write as _},
    net::Shutdown,
    sync::Arc,
    time::Duration,
};

use bytes::Buf as _;
use mio::net::TcpStream;
use socket2::SockRef;
use tokio::time::Instant;

use super::Frame;
use crate::{
    error::Result,
    http::{ConnectionPermit, RawConnection},
    sse::{
        hub::Channel,
        session::{ReplayRequest, SseSession},
    },
};

/// Size of the kernel send buffer. Events beyond it stay in Redis until the browser reads.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// How long sent data may stay unacknowledged before the kernel closes the connection.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the socket may accept no data before the connection is closed. The browser can resume.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the peer may take to close the connection after the end, and to read while the service shuts down.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Slices per vectored write.
const MAX_SLICES: usize = 64;

/// A connection of a writer.
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) session: SseSession,
    _permit: ConnectionPermit,
    /// The channels of the jobs that had not ended when the connection was added.
    pub(super) channels: Box<[Arc<Channel>]>,
    /// Unique per writer, unlike the slab key, which is reused.
    pub(super) serial: u64,
    /// Whether the connection is in the ready queue.
    pub(super) is_queued: bool,
    /// When the first change since the last flush was reported.
    pub(super) woken_at: Option<Instant>,
    /// Whether missed events are being read. Later events wait for them.
    is_catching_up: bool,
    /// Since when the socket accepts no data, or the peer has not closed after the end.
    waiting_since: Option<Instant>,
    /// Whether the sending side was shut down.
    is_shut_down: bool,
    last_write: Instant,
}

/// The result of flushing a connection.
pub(super) enum FlushResult {
    /// Everything was written, or the socket is full.
    Idle,
    /// Events must be read from Redis first.
    NeedsReplay(ReplayRequest),
    /// The socket failed and the connection can be removed.
    Closed,
}

/// The action that a timer requires.
pub(super) enum TimerAction {
    Flush,
    Close,
}

impl Connection {
    pub(super) fn new(mut session: SseSession, raw: RawConnection, serial: u64) -> Self {
        let options = SockRef::from(&raw.socket);
        // Best effort: without these options, memory use and the detection of dead peers get worse.
        _ = options.set_send_buffer_size(SEND_BUFFER_BYTES);
        #[cfg(target_os = "linux")]
        {
            _ = options.set_tcp_user_timeout(Some(ACK_TIMEOUT));
        }
        let channels = session.channels().cloned().collect();
        session.pending.push_front(raw.head);
        Self {
            socket: TcpStream::from_std(raw.socket),
            session,
            _permit: raw.permit,
            channels,
            serial,
            is_queued: false,
            woken_at: None,
            is_catching_up: false,
            waiting_since: None,
            is_shut_down: false,
            last_write: Instant::now(),
        }
    }

    /// Polls for events and writes them until none are left or the socket is full.
    pub(super) fn flush(&mut self, now: Instant) -> FlushResult {
        loop {
            match self.write_pending(now) {
                Ok(true) => (),
                Ok(false) => return FlushResult::Idle,
                Err(_) => return FlushResult::Closed,
            }
            if self.session.is_over() {
                return self.shut_down(now);
            }
            if self.is_catching_up {
                return FlushResult::Idle;
            }
            if let Some(request) = self.session.poll_events() {
                self.is_catching_up = true;
                return FlushResult::NeedsReplay(request);
            }
            if self.session.pending.is_empty() && !self.session.is_over() {
                return FlushResult::Idle;
            }
        }
    }

    pub(super) fn catch_up(
        &mut self,
        request: &ReplayRequest,
        history: Result<Option<Vec<Frame>>>,
    ) {
        self.is_catching_up = false;
        self.session.catch_up(request, history);
    }

    /// Ends the response by shutting down the sending side. The peer then closes the connection.
    fn shut_down(&mut self, now: Instant) -> FlushResult {
        if !self.is_shut_down {
            self.is_shut_down = true;
            self.waiting_since = Some(now);
            if self.socket.shutdown(Shutdown::Write).is_err() {
                return FlushResult::Closed;
            }
        }
        FlushResult::Idle
    }

    /// Writes the pending chunks; false if the socket is full.
    fn write_pending(&mut self, now: Instant) -> io::Result<bool> {
        while !self.session.pending.is_empty() {
            match self.write_once() {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written_len) => self.advance(written_len, now),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.waiting_since.get_or_insert(now);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn write_once(&mut self) -> io::Result<usize> {
        let pending = &self.session.pending;
        if let [only] = pending.as_slices().0
            && pending.len() == 1
        {
            return self.socket.write(only);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let slice_count = pending.len().min(MAX_SLICES);
        for (slice, bytes) in slices.iter_mut().zip(pending) {
            *slice = IoSlice::new(bytes);
        }
        self.socket.write_vectored(&slices[..slice_count])
    }

    fn advance(&mut self, mut written_len: usize, now: Instant) {
        self.last_write = now;
        self.waiting_since = None;
        let pending = &mut self.session.pending;
        while let Some(first) = pending.front_mut() {
            if written_len < first.len() {
                first.advance(written_len);
                return;
            }
            written_len -= first.len();
            pending.pop_front();
        }
        // Idle connections keep no queue memory.
        pending.shrink_to_fit();
    }

    /// Reads and discards input, which SSE clients do not send; false if the connection should be closed.
    pub(super) fn discard_input(&mut self) -> bool {
        const MAX_READS: usize = 16;
        let mut discarded = [0; 1024];
        for _ in 0..MAX_READS {
            match self.socket.read(&mut discarded) {
                Ok(0) => return false,
                Ok(_) => (),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        // A peer that sends this much is not a browser.
        false
    }

    /// Applies the timers: the write time-out, the end of the session and the heartbeat.
    pub(super) fn tick(&mut self, now: Instant, heartbeat: Duration) -> Option<TimerAction> {
        if let Some(since) = self.waiting_since {
            let timeout = if self.is_shut_down || self.session.is_draining() {
                CLOSE_TIMEOUT
            } else {
                WRITE_TIMEOUT
            };
            return (now - since >= timeout).then_some(TimerAction::Close);
        }
        if self.session.due_at() <= now {
            self.session.close_if_due(now);
            return Some(TimerAction::Flush);
        }
        if now - self.last_write >= heartbeat {
            self.session.heartbeat();
            return Some(TimerAction::Flush);
        }
        None
    }
}
