//! SSE connections as streams of byte chunks, for responses whose socket is not handed to a writer thread.

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

/// The chunks of the session. The stream is empty if a writer thread has already taken the session.
pub(crate) fn session_stream(slot: SessionSlot) -> impl Stream<Item = Bytes> + Send {
    stream::unfold((slot, None), |(slot, body)| async move {
        let mut body = match body {
            Some(body) => body,
            None => SseBody::new(slot.take()?),
        };
        let bytes = body.next().await?;
        Some((bytes, (slot, Some(body))))
    })
}

/// A job's published events as they arrive, until the job ends.
pub(crate) fn live_stream(
    hub: Hub,
    permit: StreamSlot,
    subscription: Subscription,
) -> impl Stream<Item = Bytes> + Send {
    let events = subscription.channel.events();
    let changes = subscription.channel.changes();
    let retry = frame::retry(hub.config().jittered_retry());
    let live = LiveStream { hub, _permit: permit, subscription, events, changes };
    stream::unfold((live, Some(retry)), async |(mut live, retry)| {
        let bytes = match retry {
            Some(retry) => retry,
            None => live.next().await?,
        };
        Some((bytes, (live, None)))
    })
}

/// A session that is taken once: by a writer thread, or by the response body when it is first polled.
#[derive(Clone)]
pub(crate) struct SessionSlot(Arc<Mutex<Option<SseSession>>>);

impl SessionSlot {
    pub(crate) fn new(session: SseSession) -> Self {
        Self(Arc::new(Mutex::new(Some(session))))
    }

    pub(crate) fn take(&self) -> Option<SseSession> {
        self.0.lock().take()
    }
}

/// A connection that receives a job's published events.
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
            // The last events are published before the channel learns that the job has ended.
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

/// A session as a response body.
struct SseBody {
    session: SseSession,
    /// One per job.
    changes: Vec<watch::Receiver<()>>,
}

impl SseBody {
    fn new(session: SseSession) -> Self {
        let changes = session.channels().map(|channel| channel.changes()).collect();
        Self { session, changes }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.session.pending.pop_front() {
                return Some(bytes);
            }
            if self.session.is_over() {
                return None;
            }
            self.changes.iter_mut().for_each(watch::Receiver::mark_unchanged);
            if let Some(request) = self.session.poll_events() {
                let history = request.read(self.session.hub()).await;
                self.session.catch_up(&request, history);
            } else if self.session.pending.is_empty() && !self.session.is_over() {
                self.wait().await;
            }
        }
    }

    /// Waits for a change. Sends a heartbeat or closes the session when one of them is due first.
    async fn wait(&mut self) {
        let heartbeat = self.session.hub().config().heartbeat;
        let draining = self.session.hub().draining().clone();
        let (due_at, is_draining) = (self.session.due_at(), self.session.is_draining());
        tokio::select! {
            () = self.changed() => (),
            () = sleep(heartbeat) => self.session.heartbeat(),
            () = sleep_until(due_at) => self.session.close_if_due(Instant::now()),
            () = draining.cancelled(), if !is_draining => self.session.begin_drain(Instant::now()),
        }
    }

    /// Waits until any of the jobs may have new events.
    async fn changed(&mut self) {
        // The session holds the channels and with them the senders, so `changed` cannot fail.
        let changes = self.changes.iter_mut().map(|receiver| receiver.changed().boxed());
        drop(select_all(changes).await);
    }
}
