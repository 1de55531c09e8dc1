//! What happens to every request: its id, its deadline, its line in the log, the body of its problem.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tracing::{error, info};
use uuid::Uuid;

use crate::{api::problem::Problem, error::Error};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request's name in the log: the caller's own if it is sane, else a fresh one.
#[derive(Clone, Debug)]
struct RequestId(HeaderValue);

impl RequestId {
    fn of(request: &Request) -> Self {
        const MAX_LEN: usize = 128;
        let sane = |it: &&HeaderValue| {
            (1..=MAX_LEN).contains(&it.len())
                && it.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b))
        };
        let given = request.headers().get(X_REQUEST_ID).filter(sane).cloned();
        Self(given.unwrap_or_else(|| {
            let fresh = Uuid::new_v4().to_string();
            HeaderValue::try_from(fresh).unwrap_or_else(|_| HeaderValue::from_static("none"))
        }))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// Where a request comes from, as far as it is to be believed: an address, or the network that is counted as one.
#[derive(Clone, Debug)]
pub(crate) struct ClientAddress(pub(crate) Arc<str>);

/// Who is calling, for the log; said by what authenticates.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallerLabel(Arc<OnceLock<Arc<str>>>);

impl CallerLabel {
    pub(crate) fn set(&self, name: Arc<str>) {
        _ = self.0.set(name);
    }
}

/// A request's line in the log, and its `X-Request-Id`.
///
/// The path is logged as its route too: ids are names, but a query string may hold a ticket, and is not logged.
pub(crate) struct LogLine {
    started: Instant,
    id: RequestId,
    caller: CallerLabel,
    method: Method,
    uri: Uri,
    route: Option<MatchedPath>,
}

impl LogLine {
    pub(crate) fn begin(request: &mut Request) -> Self {
        let caller = CallerLabel::default();
        request.extensions_mut().insert(caller.clone());
        Self {
            started: Instant::now(),
            id: RequestId::of(request),
            caller,
            method: request.method().clone(),
            uri: request.uri().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
        }
    }

    /// Writes the body of a problem, now that the request's id is at hand.
    pub(crate) fn render_problem(&self, response: &mut Response) {
        if let Some(problem) = response.extensions().get::<Problem>() {
            let body = problem.body(&self.id.to_string());
            response.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
            *response.body_mut() = Body::from(body);
        }
    }

    pub(crate) fn end(self, response: &mut Response) {
        let status = response.status().as_u16();
        let latency_ms = self.started.elapsed().as_secs_f64() * 1000.0;
        let (id, method, path) = (&self.id, &self.method, self.uri.path());
        let route = self.route.as_ref().map_or("-", MatchedPath::as_str);
        let caller = self.caller.0.get().map_or("-", |it| &**it);
        let problem = Problem::of(response);
        let code = problem.map_or("-", |it| it.code);
        match problem.and_then(|it| it.cause.as_deref()) {
            Some(cause) => {
                error!(request_id = %id, %method, path, route, status, latency_ms, caller, code, %cause, "request failed");
            }
            None => {
                info!(request_id = %id, %method, path, route, status, latency_ms, caller, code, "request");
            }
        }
        response.headers_mut().insert(X_REQUEST_ID, self.id.0);
    }
}

/// The longest that an answer may take to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub(crate) Duration);

impl Deadline {
    /// Gives up on a request that takes longer; what it has already sent to Redis still happens.
    pub(crate) async fn enforce(
        State(deadline): State<Self>,
        request: Request,
        next: Next,
    ) -> Response {
        match tokio::time::timeout(deadline.0, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::from(Error::TooSlow(deadline.0)).into_response(),
        }
    }
}
