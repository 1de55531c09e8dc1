//! Per-request instrumentation: request id, timeout, access log entry, and the body of a problem.

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

/// The request id in the log and the response: the client's own if it is valid, otherwise a new UUID.
#[derive(Clone, Debug)]
struct RequestId(HeaderValue);

impl RequestId {
    fn from_request(request: &Request) -> Self {
        const MAX_LEN: usize = 128;
        let is_valid = |id: &&HeaderValue| {
            let mut bytes = id.as_bytes().iter();
            (1..=MAX_LEN).contains(&id.len())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
        };
        let from_client = request.headers().get(X_REQUEST_ID).filter(is_valid).cloned();
        Self(from_client.unwrap_or_else(|| {
            let generated = Uuid::new_v4().to_string();
            HeaderValue::try_from(generated).unwrap_or_else(|_| HeaderValue::from_static("none"))
        }))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// The client's IP address according to the trusted proxies, or the network that is counted as one client.
#[derive(Clone, Debug)]
pub(crate) struct ClientIp(pub(crate) Arc<str>);

/// The name of the authenticated caller for the access log, set during authentication.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrincipalName(Arc<OnceLock<Arc<str>>>);

impl PrincipalName {
    pub(crate) fn set(&self, name: Arc<str>) {
        _ = self.0.set(name);
    }
}

/// The access log entry of a request, and its `X-Request-Id`.
///
/// The entry has the path, which contains only ids, and the route. It omits the query string, which may contain a
/// ticket.
pub(crate) struct AccessLogEntry {
    started: Instant,
    id: RequestId,
    principal: PrincipalName,
    method: Method,
    uri: Uri,
    route: Option<MatchedPath>,
}

impl AccessLogEntry {
    pub(crate) fn begin(request: &mut Request) -> Self {
        let principal = PrincipalName::default();
        request.extensions_mut().insert(principal.clone());
        Self {
            started: Instant::now(),
            id: RequestId::from_request(request),
            principal,
            method: request.method().clone(),
            uri: request.uri().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
        }
    }

    /// Writes the body of a problem, which contains the request id.
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
        let principal = self.principal.0.get().map_or("-", |name| &**name);
        let problem = Problem::from_response(response);
        let code = problem.map_or("-", |problem| problem.code);
        match problem.and_then(|problem| problem.cause.as_deref()) {
            Some(cause) => {
                error!(
                    request_id = %id, %method, path, route, status, latency_ms, principal, code, %cause,
                    "request failed"
                );
            }
            None => {
                info!(request_id = %id, %method, path, route, status, latency_ms, principal, code, "request");
            }
        }
        response.headers_mut().insert(X_REQUEST_ID, self.id.0);
    }
}

/// The maximum time until a response starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestTimeout(pub(crate) Duration);

impl RequestTimeout {
    /// Responds with 504 to a request that takes longer. Redis may still run the commands already sent.
    pub(crate) async fn enforce(
        State(timeout): State<Self>,
        request: Request,
        next: Next,
    ) -> Response {
        match tokio::time::timeout(timeout.0, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::from(Error::Timeout(timeout.0)).into_response(),
        }
    }
}
