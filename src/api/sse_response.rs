//! Streams as responses. Over plain HTTP/1 a writer thread takes the socket; elsewhere, over HTTP/2 or TLS, the
//! response has a body like any other.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;

use crate::{
    http::Takeover,
    sse::{
        body::{Handle, live_stream, session_stream},
        frame,
        hub::{Hub, Place, Subscription},
        session::{Follower, Following},
    },
};

/// The answer that streams until the jobs end, `timeout` runs out or the service stops.
pub(super) fn respond(hub: Hub, place: Place, following: Following, timeout: Duration) -> Response {
    let writers = hub.writers().clone();
    let follower = Handle::new(Follower::new(hub, place, following, timeout));
    let frames = session_stream(follower.clone()).map(Ok::<_, Infallible>);
    let mut response = event_stream(Body::from_stream(frames));
    Takeover::ask(&mut response, move |taken| {
        if let Some(follower) = follower.take() {
            writers.adopt(follower, taken);
        }
    });
    response
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
    let events = live_stream(hub, place, subscription).map(Ok::<_, Infallible>);
    event_stream(Body::from_stream(events))
}

fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
