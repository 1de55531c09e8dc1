//! A browser's socket, and how far it has been written to.

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

/// What the kernel may hold of what a browser has not taken; more is kept in the stream and not here.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// A peer that acknowledges nothing for this long is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// A peer that is there and takes nothing for this long is cut; it can resume.
const STALLED: Duration = Duration::from_mins(1);
/// How long a peer may take to close after the end.
const LINGER: Duration = Duration::from_secs(1);
/// Slices in one write.
const MAX_SLICES: usize = 64;

/// A connection of a writer.
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) follower: SseSession,
    _permit: ConnectionPermit,
    /// Of the jobs that it followed when it came.
    pub(super) channels: Box<[Arc<Channel>]>,
    pub(super) serial: u64,
    /// Whether it stands in line to be served.
    pub(super) is_queued: bool,
    /// When the change was heard of that it was put there for.
    pub(super) woken_at: Option<Instant>,
    /// Whether something is being read that comes before anything else.
    is_catching_up: bool,
    /// Since when the socket takes nothing, or the peer was told the end.
    waits_since: Option<Instant>,
    is_closed: bool,
    last_write: Instant,
}

/// What serving a connection came to.
pub(super) enum FlushResult {
    /// It is told everything, or its socket is full.
    Idle,
    /// This has to be read first.
    NeedsReplay(ReplayRequest),
    /// There is nothing more to do for it.
    Closed,
}

/// What the clock asks for.
pub(super) enum TimerAction {
    Flush,
    Close,
}

impl Connection {
    pub(super) fn new(mut follower: SseSession, taken: RawConnection, serial: u64) -> Self {
        let options = SockRef::from(&taken.socket);
        // Without them everything still works, with more memory and later.
        _ = options.set_send_buffer_size(SEND_BUFFER_BYTES);
        #[cfg(target_os = "linux")]
        {
            _ = options.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        }
        let channels = follower.channels().cloned().collect();
        follower.pending.push_front(taken.head);
        Self {
            socket: TcpStream::from_std(taken.socket),
            follower,
            _permit: taken.permit,
            channels,
            serial,
            is_queued: false,
            woken_at: None,
            is_catching_up: false,
            waits_since: None,
            is_closed: false,
            last_write: Instant::now(),
        }
    }

    /// Writes what there is to be told, as far as the socket takes it.
    pub(super) fn serve(&mut self, now: Instant) -> FlushResult {
        loop {
            match self.flush(now) {
                Ok(true) => (),
                Ok(false) => return FlushResult::Idle,
                Err(_) => return FlushResult::Closed,
            }
            if self.follower.is_over() {
                return self.close(now);
            }
            if self.is_catching_up {
                return FlushResult::Idle;
            }
            if let Some(missing) = self.follower.poll_events() {
                self.is_catching_up = true;
                return FlushResult::NeedsReplay(missing);
            }
            if self.follower.pending.is_empty() && !self.follower.is_over() {
                return FlushResult::Idle;
            }
        }
    }

    pub(super) fn catch_up(&mut self, missing: &ReplayRequest, read: Result<Option<Vec<Frame>>>) {
        self.is_catching_up = false;
        self.follower.catch_up(missing, read);
    }

    /// Says the end of the response; the peer closes then.
    fn close(&mut self, now: Instant) -> FlushResult {
        if !self.is_closed {
            self.is_closed = true;
            self.waits_since = Some(now);
            if self.socket.shutdown(Shutdown::Write).is_err() {
                return FlushResult::Closed;
            }
        }
        FlushResult::Idle
    }

    /// Writes what is pending; false if the socket takes no more.
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        while !self.follower.pending.is_empty() {
            match self.write_some() {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.advance(n, now),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.waits_since.get_or_insert(now);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn write_some(&mut self) -> io::Result<usize> {
        let pending = &self.follower.pending;
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
        self.waits_since = None;
        let pending = &mut self.follower.pending;
        while let Some(first) = pending.front_mut() {
            if written_len < first.len() {
                first.advance(written_len);
                return;
            }
            written_len -= first.len();
            pending.pop_front();
        }
        // An idle connection keeps no buffer.
        pending.shrink_to_fit();
    }

    /// Reads what the peer says, which matters to nobody; false once it has closed.
    pub(super) fn is_open(&mut self) -> bool {
        const MAX_READS: usize = 16;
        let mut ignored = [0; 1024];
        for _ in 0..MAX_READS {
            match self.socket.read(&mut ignored) {
                Ok(0) => return false,
                Ok(_) => (),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        // Whoever talks that much to a stream is no browser.
        false
    }

    /// What is due by the clock.
    pub(super) fn tick(&mut self, now: Instant, heartbeat: Duration) -> Option<TimerAction> {
        if let Some(since) = self.waits_since {
            let patience =
                if self.is_closed || self.follower.is_draining() { LINGER } else { STALLED };
            return (now - since >= patience).then_some(TimerAction::Close);
        }
        if self.follower.due_at() <= now {
            self.follower.close_if_due(now);
            return Some(TimerAction::Flush);
        }
        if now - self.last_write >= heartbeat {
            self.follower.heartbeat();
            return Some(TimerAction::Flush);
        }
        None
    }
}
