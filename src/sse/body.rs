//! An SSE connection as a stream of byte chunks, for responses whose socket is not handed to a writer thread.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, future::select_all, stream};
use parking_lot::Mutex;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        watch,
    },
    time::{Instant, sleep, sleep_until},
};

use super::{
    frame,
    hub::{Hub, StreamSlot, Subscription},
    session::SseSession,
};

/// The chunks of `follower`, unless a writer thread has taken it first.
pub(crate) fn session_stream(follower: SessionSlot) -> impl Stream<Item = Bytes> + Send {
    stream::unfold((follower, None), |(follower, stream)| async move {
        let mut stream = match stream {
            Some(stream) => stream,
            None => SseBody::new(follower.take()?),
        };
        let bytes = stream.next().await?;
        Some((bytes, (follower, Some(stream))))
    })
}

/// A job's published events as they come, until the job is over.
pub(crate) fn live_stream(
    hub: Hub,
    permit: StreamSlot,
    subscription: Subscription,
) -> impl Stream<Item = Bytes> + Send {
    let events = subscription.channel.events();
    let changes = subscription.channel.changes();
    let begin = frame::retry(hub.config().jittered_retry());
    let live = LiveStream { hub, _permit: permit, subscription, events, changes };
    stream::unfold((live, Some(begin)), async |(mut live, begin)| {
        let bytes = match begin {
            Some(begin) => begin,
            None => live.next().await?,
        };
        Some((bytes, (live, None)))
    })
}

/// A follower that whoever is first takes: a writer, or the body when it is asked for its first bytes.
#[derive(Clone)]
pub(crate) struct SessionSlot(Arc<Mutex<Option<SseSession>>>);

impl SessionSlot {
    pub(crate) fn new(follower: SseSession) -> Self {
        Self(Arc::new(Mutex::new(Some(follower))))
    }

    pub(crate) fn take(&self) -> Option<SseSession> {
        self.0.lock().take()
    }
}

/// A connection that is passed what is published.
struct LiveStream {
    hub: Hub,
    _permit: StreamSlot,
    subscription: Subscription,
    events: Receiver<Bytes>,
    changes: watch::Receiver<()>,
}

impl LiveStream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // What was published with the end is there before the end is known.
            if self.events.is_empty() && self.subscription.channel.is_over() {
                return None;
            }
            tokio::select! {
                event = self.events.recv() => return match event {
                    Ok(frame) => Some(frame),
                    Err(RecvError::Lagged(_)) => Some(frame::HEARTBEAT),
                    Err(RecvError::Closed) => None,
                },
                _ = self.changes.changed() => (),
                () = sleep(self.hub.config().heartbeat) => return Some(frame::HEARTBEAT),
                () = self.hub.draining().cancelled() => return None,
            }
        }
    }
}

/// A follower as a body's frames.
struct SseBody {
    follower: SseSession,
    /// One a job.
    changes: Vec<watch::Receiver<()>>,
}

impl SseBody {
    fn new(follower: SseSession) -> Self {
        let changes = follower.channels().map(|it| it.changes()).collect();
        Self { follower, changes }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.follower.pending.pop_front() {
                return Some(bytes);
            }
            if self.follower.is_over() {
                return None;
            }
            self.changes.iter_mut().for_each(watch::Receiver::mark_unchanged);
            if let Some(missing) = self.follower.poll_events() {
                let read = missing.read(self.follower.hub()).await;
                self.follower.catch_up(&missing, read);
            } else if self.follower.pending.is_empty() && !self.follower.is_over() {
                self.wait().await;
            }
        }
    }

    /// Waits for news, and says something meanwhile.
    async fn wait(&mut self) {
        let heartbeat = self.follower.hub().config().heartbeat;
        let draining = self.follower.hub().draining().clone();
        let (due_at, is_leaving) = (self.follower.due_at(), self.follower.is_draining());
        tokio::select! {
            () = self.changed() => (),
            () = sleep(heartbeat) => self.follower.heartbeat(),
            () = sleep_until(due_at) => self.follower.close_if_due(Instant::now()),
            () = draining.cancelled(), if !is_leaving => self.follower.begin_drain(Instant::now()),
        }
    }

    /// Waits until there may be something new for any of the jobs.
    async fn changed(&mut self) {
        // Channels, and with them the senders, are held by the follower.
        let changes = self.changes.iter_mut().map(|it| it.changed().boxed());
        drop(select_all(changes).await);
    }
}
