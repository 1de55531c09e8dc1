//! Event streams: authorization, connection limits, and the position from which a stream resumes.

use std::time::Duration;

use axum::{
    extract::{FromRequestParts as _, State},
    http::{HeaderMap, request::Parts},
    response::Response,
};
use futures_util::future::try_join_all;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::sse_response;
use crate::{
    api::{
        extract::{Path, Query, auth::RequireReader},
        legacy_paths::alias_at,
        middleware::request::ClientIp,
        problem::{LoggedProblem, Problem},
        state::AppState,
    },
    error::{Error, Result},
    ids::{InvalidId, JobId, StreamId},
    sse::{
        Access, Hub, frame::StreamEvent, hub::StreamSlot, last_event_id, session::SessionTarget,
        stream_limit::Requester,
    },
};

/// Maximum number of jobs on one connection.
const MAX_JOBS: usize = 100;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(follow_job))
        .routes(alias_at("/api/v1/status/tasks/{job_id}/stream", routes!(follow_job)))
        .routes(routes!(follow_jobs))
        .routes(routes!(follow_events))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FollowQuery {
    /// A stream ticket; for several jobs one ticket each, separated by commas.
    ticket: Option<String>,
    /// Id of the last received event, for clients that cannot send `Last-Event-ID`.
    last_event_id: Option<String>,
    /// Seconds after which the stream closes.
    #[param(minimum = 1, maximum = 86_400)]
    timeout: Option<u64>,
    /// Job ids of a stream of several jobs, separated by commas.
    #[param(ignore)]
    jobs: Option<String>,
}

impl FollowQuery {
    fn timeout(&self, default: Duration) -> Result<Duration> {
        match self.timeout {
            None => Ok(default),
            Some(secs @ 1..=86_400) => Ok(Duration::from_secs(secs)),
            Some(secs) => Err(Error::Validation(format!(
                "timeout: {secs} is not between 1 and 86400 seconds"
            ))),
        }
    }

    /// The id of the last event that the client received. With an id of another origin, the stream starts with the
    /// current state, as without an id.
    fn last_event_id<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a str> {
        let header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        header.or(self.last_event_id.as_deref())
    }

    fn jobs(&self) -> Result<Vec<JobId>> {
        let text = self.jobs.as_deref().unwrap_or_default();
        let jobs: Vec<JobId> =
            text.split(',').map(|id| id.trim().parse()).collect::<Result<_, InvalidId>>()?;
        if jobs.len() > MAX_JOBS {
            return Err(Error::Validation(format!(
                "jobs: {} are more than {MAX_JOBS}",
                jobs.len()
            )));
        }
        Ok(jobs)
    }
}

/// Follow a job
///
/// The stream starts with the current state of the job and ends when the job ends.
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/progress/stream", tag = "progress",
    security(("key" = ["client", "worker"]), ("ticket" = [])),
    params(FollowQuery, ("Last-Event-ID" = Option<String>, Header, description = "Id of the last received event.")),
    responses((status = 200, content_type = "text/event-stream", body = StreamEvent), (status = 204)))]
async fn follow_job(
    State(state): State<AppState>,
    Path(job): Path<JobId>,
    Query(query): Query<FollowQuery>,
    mut parts: Parts,
) -> Result<Response, Problem> {
    let hub = &state.hub;
    let timeout = query.timeout(hub.config().default_timeout)?;
    let after: Option<StreamId> =
        query.last_event_id(&parts.headers).and_then(|id| id.parse().ok());
    let response = async {
        let permit = authorize(&state, &[job], &query, &mut parts).await?;
        let subscription = hub.subscribe(job, after).await?;
        Ok(match (after, subscription.channel.terminal_id()) {
            (Some(after), Some(terminal)) if after >= terminal => sse_response::no_content(),
            _ => sse_response::stream_response(
                hub.clone(),
                permit,
                SessionTarget::OneJob(subscription),
                timeout,
            ),
        })
    };
    retry_on_unavailable(response.await, hub)
}

/// Follow up to 100 jobs on one connection
///
/// Browsers open at most six connections to a host over HTTP/1.1. Every event has a `job_id`.
#[utoipa::path(get, path = "/api/v1/progress/stream", tag = "progress",
    security(("key" = ["client", "worker"]), ("ticket" = [])),
    params(
        ("jobs" = String, Query, description = "Job ids, separated by commas.",
            example = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed,7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        FollowQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Id of the last received event."),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = StreamEvent),
        (status = 204),
        (status = 400, description = "INVALID_JOB_ID"),
        (status = 404, description = "JOB_NOT_FOUND"),
    ))]
async fn follow_jobs(
    State(state): State<AppState>,
    Query(query): Query<FollowQuery>,
    mut parts: Parts,
) -> Result<Response, Problem> {
    let hub = &state.hub;
    let timeout = query.timeout(hub.config().default_timeout)?;
    let jobs = query.jobs()?;
    let resume_after = query
        .last_event_id(&parts.headers)
        .and_then(|id| last_event_id::decode(id, jobs.len()))
        .unwrap_or_else(|| vec![None; jobs.len()]);
    let response = async {
        let permit = authorize(&state, &jobs, &query, &mut parts).await?;
        let subscribing =
            jobs.iter().zip(&resume_after).map(|(job, after)| hub.subscribe(*job, *after));
        let subscriptions: Vec<_> =
            try_join_all(subscribing).await?.into_iter().zip(resume_after.clone()).collect();
        let all_received = subscriptions.iter().all(|(subscription, after)| {
            let terminal = subscription.channel.terminal_id();
            terminal.is_some_and(|terminal| after.is_some_and(|after| after >= terminal))
        });
        if all_received {
            return Ok(sse_response::no_content());
        }
        Ok(sse_response::stream_response(
            hub.clone(),
            permit,
            SessionTarget::Jobs(subscriptions),
            timeout,
        ))
    };
    retry_on_unavailable(response.await, hub)
}

/// Follow the events that Python programs publish about a job
///
/// Forwards the messages of the channel `job:{job_id}:events` as they arrive, without earlier ones.
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/events", tag = "progress",
    security(("key" = ["client", "worker"]), ("ticket" = [])), params(FollowQuery),
    responses((status = 200, content_type = "text/event-stream", body = Object), (status = 204)))]
async fn follow_events(
    State(state): State<AppState>,
    Path(job): Path<JobId>,
    Query(query): Query<FollowQuery>,
    mut parts: Parts,
) -> Result<Response, Problem> {
    let hub = &state.hub;
    let response = async {
        let permit = authorize(&state, &[job], &query, &mut parts).await?;
        let subscription = hub.subscribe(job, None).await?;
        if subscription.channel.is_over() {
            return Ok(sse_response::no_content());
        }
        Ok(sse_response::live_events_response(hub.clone(), permit, subscription))
    };
    retry_on_unavailable(response.await, hub)
}

/// Turns a temporary error into a response that makes `EventSource` reconnect, because an error status would end it for
/// good.
fn retry_on_unavailable(
    response: Result<Response, Problem>,
    hub: &Hub,
) -> Result<Response, Problem> {
    match response {
        Err(problem) if problem.status.is_server_error() => {
            hub.metrics().refused.inc();
            let mut response = sse_response::retry_response(hub.config().retry);
            response.extensions_mut().insert(LoggedProblem(problem));
            Ok(response)
        }
        other => other,
    }
}

/// Checks that the client may follow `jobs`, then acquires a stream permit.
///
/// The client needs a ticket for each job or a key that may view the jobs; with `sse.access = "job_id"` it needs
/// neither.
async fn authorize(
    state: &AppState,
    jobs: &[JobId],
    query: &FollowQuery,
    parts: &mut Parts,
) -> Result<StreamSlot, Problem> {
    let owner = stream_owner(state, jobs, query, parts).await?;
    let address = parts.extensions.get::<ClientIp>().map_or("", |ip| &ip.0);
    Ok(state.hub.try_acquire(Requester { address, caller: owner.as_deref() })?)
}

/// The name under which `sse.max_streams_per_caller` counts a stream: the hash of the key or, without a key, the first
/// job.
async fn stream_owner(
    state: &AppState,
    jobs: &[JobId],
    query: &FollowQuery,
    parts: &mut Parts,
) -> Result<Option<String>, Problem> {
    if let Some(tickets) = &query.ticket {
        state.tickets.verify(jobs, tickets).await?;
        return Ok(jobs.first().map(JobId::to_string));
    }
    if state.hub.config().access == Access::JobId {
        return Ok(jobs.first().map(JobId::to_string));
    }
    let RequireReader(caller) = RequireReader::from_request_parts(parts, state).await?;
    let lookups = jobs.iter().map(|job| state.jobs.get_visible_to(&caller, *job));
    try_join_all(lookups).await?;
    Ok(Some(caller.hash.as_str().to_owned()))
}
