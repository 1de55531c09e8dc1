//! Event stream responses. Over plain HTTP/1.1, a writer thread takes over the socket; over HTTP/2 or TLS, the response
//! has an ordinary streaming body.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;

use crate::{
    http::SocketHandoff,
    sse::{
        body::{SessionSlot, live_stream, session_stream},
        frame,
        hub::{Hub, StreamSlot, Subscription},
        session::{SessionTarget, SseSession},
    },
};

/// Streams events until the jobs end, `timeout` passes or the service stops.
pub(super) fn stream_response(
    hub: Hub,
    permit: StreamSlot,
    target: SessionTarget,
    timeout: Duration,
) -> Response {
    let writers = hub.writers().clone();
    let session = SessionSlot::new(SseSession::new(hub, permit, target, timeout));
    let frames = session_stream(session.clone()).map(Ok::<_, Infallible>);
    let mut response = event_stream(Body::from_stream(frames));
    SocketHandoff::request(&mut response, move |connection| {
        if let Some(session) = session.take() {
            writers.add_connection(session, connection);
        }
    });
    response
}

/// Makes `EventSource` reconnect later: 200, a `retry:` field and the end of the stream. Any other status would end it
/// for good.
pub(super) fn retry_response(retry: Duration) -> Response {
    retry_response_after(retry, retry)
}

/// [`retry_response`] after `wait` plus a random time of up to `jitter`, so that clients do not reconnect all at once.
pub(crate) fn retry_response_after(wait: Duration, jitter: Duration) -> Response {
    event_stream(Body::from(frame::retry(wait + jitter.mul_f64(fastrand::f64()))))
}

/// The client has received the last event of the job. 204 makes `EventSource` stop reconnecting.
pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Streams the published events of a job as they arrive, until the job ends.
pub(super) fn live_events_response(
    hub: Hub,
    permit: StreamSlot,
    subscription: Subscription,
) -> Response {
    let events = live_stream(hub, permit, subscription).map(Ok::<_, Infallible>);
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
