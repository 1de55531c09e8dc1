//! Stands before every limited route.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts as _, MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    api::{
        extract::read_body,
        middleware::request::ClientAddress,
        problem::{Problem, Unsaid},
        sse_response::come_back_after,
        state::AppState,
    },
    auth::Caller,
    error::{Error, Result},
    http::PeerAddress,
    rate_limit::{
        Charge, Origin, RateLimiter, RouteGroup, Standings, Verdict, brute_force::Shown, ceil_secs,
        headers, heavy_hitters::Who,
    },
};

/// Finds out who calls and from where, for all that follow, and stops who tries keys. Stands before every route that
/// takes a key; whether limits are enabled makes no difference.
pub(crate) async fn know_caller(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let limiter = &state.limiter;
    let (mut parts, body) = request.into_parts();
    let group = group_of(&parts);
    let origin = origin_of(limiter, &parts);
    // The handler refuses a key that is not known, and finds the caller of one that is.
    let caller = Caller::from_request_parts(&mut parts, &state).await;
    let shown = match &caller {
        Ok(caller) => Some(Shown::Good(&caller.hash)),
        Err(problem) if problem.is_guess => Some(Shown::Unknown),
        Err(_) => shows_ticket(&parts).then_some(Shown::Unknown),
    };
    let retry = limiter.stream_retry();
    let failure = limiter.failure(&origin.counted_as);
    let refuse_guesser = |standings: &Standings| {
        let problem = Problem::from(refusal(standings));
        with_headers(refuse(group, problem, retry), std::slice::from_ref(&failure), standings)
    };
    if let Some(standings) = shown.and_then(|it| limiter.known_guesser(&origin.counted_as, it)) {
        return refuse_guesser(&standings);
    }
    parts.extensions.insert(ClientAddress(origin.counted_as.clone()));
    parts.extensions.insert(origin);
    if let Ok(caller) = caller {
        parts.extensions.insert(caller);
    }
    let response = next.run(Request::from_parts(parts, body)).await;
    if response.extensions().get::<Problem>().is_some_and(|it| it.is_guess)
        && let Some(standings) = limiter.note_failure(&failure).await
    {
        return refuse_guesser(&standings);
    }
    response
}

/// Charges a request before it reaches its handler, in one round trip to Redis. While Redis is away each policy has
/// its own rule; the request waits for `rate_limit.deadline` at the most. Stands behind [`know_caller`].
pub(crate) async fn enforce(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let limiter = &state.limiter;
    let (parts, body) = request.into_parts();
    let group = group_of(&parts);
    let caller = parts.extensions.get::<Caller>();
    let origin = origin_of(limiter, &parts);
    let mut charges = limiter.charges(caller, &origin, group);
    if charges.is_empty() {
        limiter.count_unlimited();
        return next.run(Request::from_parts(parts, body)).await;
    }
    let body = match count_files(limiter, &mut charges, &parts, body, caller.is_some()).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let retry = limiter.stream_retry();
    let who = Who { caller, origin: &origin, group };
    let verdict = limiter.charge(&charges, who).await;
    match verdict {
        Verdict::Unlimited => next.run(Request::from_parts(parts, body)).await,
        Verdict::Admitted(standings) => {
            let response = next.run(Request::from_parts(parts, body)).await;
            with_headers(response, &charges, &standings)
        }
        Verdict::Refused(standings) => {
            let problem = Problem::from(refusal(&standings));
            with_headers(refuse(group, problem, retry), &charges, &standings)
        }
        Verdict::Undecided(error) => {
            let standings = Standings { is_degraded: true, ..Standings::default() };
            let response = refuse(group, Problem::from(error), retry);
            with_headers(response, &charges, &standings)
        }
    }
}

fn group_of(parts: &Parts) -> RouteGroup {
    let route = parts.extensions.get::<MatchedPath>().map_or("", |it| it.as_str());
    RouteGroup::of(parts.method.as_str(), route)
}

fn shows_ticket(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    query.split('&').any(|it| it.starts_with("ticket="))
}

/// Where a request comes from, as far as it is to be believed.
pub(crate) fn origin_of(limiter: &RateLimiter, parts: &Parts) -> Origin {
    if let Some(origin) = parts.extensions.get::<Origin>() {
        return origin.clone();
    }
    let peer = parts.extensions.get::<PeerAddress>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |it| it.0.ip());
    let said = |headers: &'_ HeaderMap, name| -> Vec<String> {
        // A line that is no text ends the list as any other nonsense does.
        let lines = headers.get_all(name).iter().map(|it| it.to_str().unwrap_or("?").to_owned());
        lines.collect()
    };
    let lines = said(&parts.headers, limiter.proxy_header());
    limiter.address(peer, lines.iter().map(String::as_str))
}

/// Gives what is charged by the file its cost: this alone needs the body, which is read for callers with a key only,
/// so that all policies are still charged in one step. What is no job costs one, and is refused by its handler.
async fn count_files(
    limiter: &RateLimiter,
    charges: &mut [Charge<'_>],
    parts: &Parts,
    body: Body,
    is_known: bool,
) -> Result<Body, Problem> {
    #[derive(Deserialize)]
    struct Job {
        files: Vec<IgnoredAny>,
    }
    if !is_known || !RateLimiter::needs_file_count(charges) {
        return Ok(body);
    }
    let bytes: Bytes = read_body(Request::from_parts(parts.clone(), body)).await?;
    let file_count = serde_json::from_slice::<Job>(&bytes).map_or(1, |job| job.files.len());
    limiter.apply_file_count(charges, file_count);
    Ok(Body::from(bytes))
}

fn refusal(standings: &Standings) -> Error {
    let tightest = standings.tightest();
    let wait = tightest.map_or(Duration::ZERO, |it| it.wait);
    Error::RateLimited {
        policy: tightest.map(|it| it.policy.clone()).unwrap_or_default(),
        retry_after: Duration::from_secs(ceil_secs(wait).max(1)),
    }
}

/// A problem; to a browser's stream, which would take it for final, the advice to come again.
fn refuse(group: RouteGroup, problem: Problem, retry: Duration) -> Response {
    if group != RouteGroup::Stream {
        return problem.into_response();
    }
    let wait = problem.retry_after.unwrap_or_default().max(retry);
    let mut response = come_back_after(wait, retry);
    response.extensions_mut().insert(Unsaid(problem));
    response
}

fn with_headers(mut response: Response, charges: &[Charge<'_>], standings: &Standings) -> Response {
    for (name, value) in headers::of(charges, standings) {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
