//! Streams as responses. Over plain HTTP/1 a [writer](super::writer) takes the socket; elsewhere, over HTTP/2 or
//! TLS, the response has a body like any other.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, future::select_all, stream};
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        watch,
    },
    time::{Instant, sleep, sleep_until},
};

use super::{
    follower::{Follower, Following},
    frame,
    hub::{Hub, Place, Subscription},
};
use crate::http::Takeover;

/// The answer that streams until the jobs end, `timeout` runs out or the service stops.
pub(super) fn respond(hub: Hub, place: Place, following: Following, timeout: Duration) -> Response {
    let writers = hub.writers().clone();
    let follower = Handle::new(Follower::new(hub, place, following, timeout));
    let for_writer = follower.clone();
    let frames = stream::unfold((follower, None), |(follower, stream)| async move {
        let mut stream = match stream {
            Some(stream) => stream,
            None => EventStream::new(follower.take()?),
        };
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), (follower, Some(stream))))
    });
    let mut response = event_stream(Body::from_stream(frames));
    Takeover::ask(&mut response, move |taken| {
        if let Some(follower) = for_writer.take() {
            writers.adopt(follower, taken);
        }
    });
    response
}

/// A follower that whoever is first takes: a writer, or the body when it is asked for its first bytes.
#[derive(Clone)]
struct Handle(Arc<Mutex<Option<Follower>>>);

impl Handle {
    fn new(follower: Follower) -> Self {
        Self(Arc::new(Mutex::new(Some(follower))))
    }

    fn take(&self) -> Option<Follower> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
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

/// The answer that streams a job's published events as they come, until the job is over.
pub(super) fn respond_live(hub: Hub, place: Place, subscription: Subscription) -> Response {
    let events = subscription.channel.events();
    let changes = subscription.channel.changes();
    let begin = frame::retry(hub.config().jittered_retry());
    let live = Live { hub, _place: place, subscription, events, changes };
    let live = stream::unfold((live, Some(begin)), async |(mut live, begin)| {
        let bytes = match begin {
            Some(begin) => begin,
            None => live.next().await?,
        };
        Some((Ok::<_, Infallible>(bytes), (live, None)))
    });
    event_stream(Body::from_stream(live))
}

/// A connection that is passed what is published.
struct Live {
    hub: Hub,
    _place: Place,
    subscription: Subscription,
    events: Receiver<Bytes>,
    changes: watch::Receiver<()>,
}

impl Live {
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

fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A follower as a body's frames.
struct EventStream {
    follower: Follower,
    /// One a job.
    changes: Vec<watch::Receiver<()>>,
}

impl EventStream {
    fn new(follower: Follower) -> Self {
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
            if let Some(missing) = self.follower.gather() {
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
        let (due_at, is_leaving) = (self.follower.due_at(), self.follower.is_leaving());
        tokio::select! {
            () = self.changed() => (),
            () = sleep(heartbeat) => self.follower.beat(),
            () = sleep_until(due_at) => self.follower.close_if_due(Instant::now()),
            () = draining.cancelled(), if !is_leaving => self.follower.prepare_to_leave(Instant::now()),
        }
    }

    /// Waits until there may be something new for any of the jobs.
    async fn changed(&mut self) {
        // Channels, and with them the senders, are held by the follower.
        let changes = self.changes.iter_mut().map(|it| it.changed().boxed());
        drop(select_all(changes).await);
    }
}
