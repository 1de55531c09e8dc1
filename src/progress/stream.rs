//! One browser's connection: what its subscription delivers, with heartbeat, timeout and a kind goodbye.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::{
    frame,
    hub::{Delivery, Hub, Subscription},
};

/// A connection being served.
struct EventStream {
    hub: Hub,
    subscription: Subscription,
    pending: VecDeque<Bytes>,
    deadline: Instant,
    is_over: bool,
}

/// The answer that streams `subscription` until the job ends, `timeout` runs out or the service stops.
pub(super) fn respond(hub: Hub, subscription: Subscription, timeout: Duration) -> Response {
    let retry = frame::retry(with_jitter(hub.config().retry));
    let connection = EventStream {
        hub,
        subscription,
        pending: VecDeque::from([retry]),
        deadline: Instant::now() + timeout,
        is_over: false,
    };
    let frames = stream::unfold(connection, |mut it| async move {
        let bytes = it.next().await?;
        Some((Ok::<_, Infallible>(bytes), it))
    });
    event_stream(Body::from_stream(frames))
}

/// A refusal that passes. To `EventSource` any status but 200 is final, so this is 200, `retry:` and the end.
pub(super) fn come_back_later(retry: Duration) -> Response {
    come_back_after(retry, retry)
}

/// The same, after `wait` and up to `jitter` more, so that not all come back at once.
pub(crate) fn come_back_after(wait: Duration, jitter: Duration) -> Response {
    event_stream(Body::from(frame::retry(wait + jitter.mul_f64(fastrand::f64()))))
}

/// The job ended with the event that the browser saw last; 204 stops it from coming back.
pub(super) fn nothing_more() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Between `base` and twice that, so that not all come back at once.
fn with_jitter(base: Duration) -> Duration {
    base + base.mul_f64(fastrand::f64())
}

impl EventStream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Some(bytes);
            }
            if self.is_over {
                return None;
            }
            match self.subscription.deliver() {
                Delivery::Frames(frames) if frames.is_empty() => self.wait().await,
                Delivery::Frames(frames) => self.queue(frames),
                Delivery::Replay(after) => self.replay(after).await,
                Delivery::End => self.is_over = true,
            }
        }
    }

    fn queue(&mut self, frames: Vec<frame::Frame>) {
        for frame in frames {
            self.pending.push_back(frame.bytes);
            if frame.is_last {
                self.is_over = true;
                return;
            }
        }
    }

    async fn replay(&mut self, after: crate::ids::StreamId) {
        match self.hub.replay(&self.subscription.channel, after).await {
            Ok(Some(frames)) if frames.is_empty() => {
                // Entries that mean nothing to watchers, or none: the present is all there is to tell.
                let frames = self.subscription.resync();
                self.queue(frames);
            }
            Ok(Some(frames)) => {
                if let Some(last) = frames.last() {
                    self.subscription.seen(last.id);
                }
                self.queue(frames);
            }
            Ok(None) => {
                let frames = self.subscription.resync();
                self.queue(frames);
            }
            Err(error) => {
                debug!(%error, "could not catch up a watcher; it comes back");
                self.is_over = true;
            }
        }
    }

    /// Waits for news, and says something meanwhile.
    async fn wait(&mut self) {
        let draining = self.hub.draining().clone();
        tokio::select! {
            () = self.subscription.changed() => (),
            () = sleep(self.hub.config().heartbeat) => self.pending.push_back(frame::HEARTBEAT),
            () = sleep_until(self.deadline) => {
                self.pending.push_back(frame::connection_timeout(self.subscription.channel.job));
                self.is_over = true;
            }
            () = draining.cancelled() => self.say_goodbye().await,
        }
    }

    /// Closes at a time of its own within the spread, so that browsers do not all come back at once.
    async fn say_goodbye(&mut self) {
        let spread = self.hub.drain_spread();
        let leave = Instant::now() + spread.mul_f64(fastrand::f64());
        tokio::select! {
            // News still goes out; the browser then resumes after it elsewhere.
            () = self.subscription.changed() => {
                if let Delivery::Frames(frames) = self.subscription.deliver() {
                    self.queue(frames);
                }
            }
            () = sleep_until(leave) => (),
        }
        if !self.is_over {
            self.pending.push_back(frame::retry(with_jitter(self.hub.config().retry)));
            self.is_over = true;
        }
    }
}
