//! Rate limiting and brute-force protection of the routes that take a key.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts as _, MatchedPath, Request, State},
    http::{HeaderValue, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    api::{
        extract::read_body,
        middleware::request::ClientIp,
        problem::{LoggedProblem, Problem},
        sse_response::retry_response_after,
        state::AppState,
    },
    auth::Caller,
    error::{Error, Result},
    http::PeerAddress,
    rate_limit::{
        Charge, RateLimitStatus, RateLimiter, Requester, RouteGroup, Verdict,
        brute_force::Credential, ceil_secs, headers, heavy_hitters::RequestContext,
    },
};

/// Authenticates the caller and determines the client address for all later layers, and blocks clients that guess keys.
/// Applies to every route that takes a key, even if rate limits are disabled.
pub(crate) async fn identify_caller(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let limiter = &state.limiter;
    let (mut parts, body) = request.into_parts();
    let group = route_group(&parts);
    let requester = requester_of(limiter, &parts);
    // The handler rejects an unknown key. For a known key it finds the caller in the extensions.
    let caller = Caller::from_request_parts(&mut parts, &state).await;
    let credential = match &caller {
        Ok(caller) => Some(Credential::Valid(&caller.hash)),
        Err(problem) if problem.is_auth_failure => Some(Credential::Invalid),
        Err(_) => has_ticket(&parts).then_some(Credential::Invalid),
    };
    let retry = limiter.stream_retry();
    let failure = limiter.failure_charge(&requester.counted_as);
    let deny_guess = |limit_status: &RateLimitStatus| {
        let problem = Problem::from(rate_limit_error(limit_status));
        let response = deny(group, problem, retry);
        add_rate_limit_headers(response, std::slice::from_ref(&failure), limit_status)
    };
    let blocked =
        credential.and_then(|credential| limiter.blocked(&requester.counted_as, credential));
    if let Some(limit_status) = blocked {
        return deny_guess(&limit_status);
    }
    parts.extensions.insert(ClientIp(requester.counted_as.clone()));
    parts.extensions.insert(requester);
    if let Ok(caller) = caller {
        parts.extensions.insert(caller);
    }
    let response = next.run(Request::from_parts(parts, body)).await;
    if response.extensions().get::<Problem>().is_some_and(|problem| problem.is_auth_failure)
        && let Some(limit_status) = limiter.record_failure(&failure).await
    {
        return deny_guess(&limit_status);
    }
    response
}

/// Charges a request before its handler runs, in one round trip to Redis of at most `rate_limit.deadline`. Without
/// Redis, each policy applies its `on_redis_failure`. Runs after [`identify_caller`].
pub(crate) async fn enforce(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let limiter = &state.limiter;
    let (parts, body) = request.into_parts();
    let group = route_group(&parts);
    let caller = parts.extensions.get::<Caller>();
    let requester = requester_of(limiter, &parts);
    let mut charges = limiter.charges_for(caller, &requester, group);
    if charges.is_empty() {
        limiter.count_unlimited();
        return next.run(Request::from_parts(parts, body)).await;
    }
    let is_authenticated = caller.is_some();
    let body = match apply_file_cost(limiter, &mut charges, &parts, body, is_authenticated).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let retry = limiter.stream_retry();
    let context = RequestContext { caller, origin: &requester, group };
    match limiter.charge(&charges, context).await {
        Verdict::Unlimited => next.run(Request::from_parts(parts, body)).await,
        Verdict::Admitted(limit_status) => {
            let response = next.run(Request::from_parts(parts, body)).await;
            add_rate_limit_headers(response, &charges, &limit_status)
        }
        Verdict::Refused(limit_status) => {
            let problem = Problem::from(rate_limit_error(&limit_status));
            add_rate_limit_headers(deny(group, problem, retry), &charges, &limit_status)
        }
        Verdict::Unavailable(error) => {
            let limit_status = RateLimitStatus { is_degraded: true, ..RateLimitStatus::default() };
            let response = deny(group, Problem::from(error), retry);
            add_rate_limit_headers(response, &charges, &limit_status)
        }
    }
}

fn route_group(parts: &Parts) -> RouteGroup {
    let route = parts.extensions.get::<MatchedPath>().map_or("", |path| path.as_str());
    RouteGroup::from_route(parts.method.as_str(), route)
}

fn has_ticket(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    query.split('&').any(|parameter| parameter.starts_with("ticket="))
}

/// The client address of a request, from its peer address and the headers of trusted proxies.
pub(crate) fn requester_of(limiter: &RateLimiter, parts: &Parts) -> Requester {
    if let Some(requester) = parts.extensions.get::<Requester>() {
        return requester.clone();
    }
    let peer = parts.extensions.get::<PeerAddress>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    // A header line that is not text becomes an invalid address, which ends the list of proxies.
    let lines = parts.headers.get_all(limiter.proxy_header()).iter();
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or("?")).collect();
    limiter.address(peer, lines.iter().copied())
}

/// Sets the cost of the charges that count files, and returns the body.
///
/// Only these charges need the body. It is read before the charge, so that all policies are charged in one step, and
/// only for authenticated callers. A body that is not a job costs 1, and its handler rejects it.
async fn apply_file_cost(
    limiter: &RateLimiter,
    charges: &mut [Charge<'_>],
    parts: &Parts,
    body: Body,
    is_authenticated: bool,
) -> Result<Body, Problem> {
    #[derive(Deserialize)]
    struct FilesOnly {
        files: Vec<IgnoredAny>,
    }
    if !is_authenticated || !RateLimiter::needs_file_count(charges) {
        return Ok(body);
    }
    let bytes: Bytes = read_body(Request::from_parts(parts.clone(), body)).await?;
    let file_count = serde_json::from_slice::<FilesOnly>(&bytes).map_or(1, |job| job.files.len());
    limiter.apply_file_count(charges, file_count);
    Ok(Body::from(bytes))
}

fn rate_limit_error(limit_status: &RateLimitStatus) -> Error {
    let tightest = limit_status.most_restrictive();
    let wait = tightest.map_or(Duration::ZERO, |policy| policy.wait);
    Error::RateLimited {
        policy: tightest.map(|policy| policy.policy.clone()).unwrap_or_default(),
        retry_after: Duration::from_secs(ceil_secs(wait).max(1)),
    }
}

/// A problem or, for an event stream, a response that makes `EventSource` reconnect, because a problem would end it for
/// good.
fn deny(group: RouteGroup, problem: Problem, retry: Duration) -> Response {
    if group != RouteGroup::Stream {
        return problem.into_response();
    }
    let wait = problem.retry_after.unwrap_or_default().max(retry);
    let mut response = retry_response_after(wait, retry);
    response.extensions_mut().insert(LoggedProblem(problem));
    response
}

fn add_rate_limit_headers(
    mut response: Response,
    charges: &[Charge<'_>],
    limit_status: &RateLimitStatus,
) -> Response {
    for (name, value) in headers::rate_limit_headers(charges, limit_status) {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
