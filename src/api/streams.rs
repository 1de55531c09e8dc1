//! Streams over HTTP: who may follow which jobs, and from where.

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
        extract::{Path, Query, auth::Reader},
        legacy_paths::also_at,
        middleware::request::ClientAddress,
        problem::{Problem, Unsaid},
        state::AppState,
    },
    error::{Error, Result},
    ids::{InvalidId, JobId, StreamId},
    sse::{
        Access, Hub, frame::StreamEvent, hub::Place, last_event_id, session::Following,
        stream_limit::Who,
    },
};

/// Jobs on one connection.
const MAX_JOBS: usize = 100;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(follow_job))
        .routes(also_at("/api/v1/status/tasks/{job_id}/stream", routes!(follow_job)))
        .routes(routes!(follow_jobs))
        .routes(routes!(follow_events))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FollowQuery {
    /// A stream ticket; for several jobs one each, separated by commas.
    ticket: Option<String>,
    /// Where to go on, for who cannot send `Last-Event-ID`.
    last_event_id: Option<String>,
    /// Seconds after which the stream closes.
    #[param(minimum = 1, maximum = 86_400)]
    timeout: Option<u64>,
    /// Of a stream of several jobs: their ids, separated by commas.
    #[param(ignore)]
    jobs: Option<String>,
}

impl FollowQuery {
    fn timeout(&self, default: Duration) -> Result<Duration> {
        match self.timeout {
            None => Ok(default),
            Some(secs @ 1..=86_400) => Ok(Duration::from_secs(secs)),
            Some(secs) => {
                Err(Error::Invalid(format!("timeout: {secs} is not between 1 and 86400 seconds")))
            }
        }
    }

    /// Where the browser has come to. What is no id of ours cannot be resumed from; the stream then begins
    /// with the present, as it does without one.
    fn last_event_id<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a str> {
        let header = headers.get("last-event-id").and_then(|it| it.to_str().ok());
        header.or(self.last_event_id.as_deref())
    }

    fn jobs(&self) -> Result<Vec<JobId>> {
        let text = self.jobs.as_deref().unwrap_or_default();
        let jobs: Vec<JobId> =
            text.split(',').map(|it| it.trim().parse()).collect::<Result<_, InvalidId>>()?;
        if jobs.len() > MAX_JOBS {
            return Err(Error::Invalid(format!("jobs: {} are more than {MAX_JOBS}", jobs.len())));
        }
        Ok(jobs)
    }
}

/// Follow a job
///
/// Begins with what is known of the job, and ends with it.
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/progress/stream", tag = "progress",
    security(("key" = ["client", "worker"]), ("ticket" = [])),
    params(FollowQuery, ("Last-Event-ID" = Option<String>, Header, description = "Where to go on.")),
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
        query.last_event_id(&parts.headers).and_then(|it| it.parse().ok());
    let answer = async {
        let place = admit(&state, &[job], &query, &mut parts).await?;
        let subscription = hub.subscribe(job, after).await?;
        Ok(match (after, subscription.channel.terminal_id()) {
            (Some(after), Some(terminal)) if after >= terminal => sse_response::nothing_more(),
            _ => {
                sse_response::respond(hub.clone(), place, Following::OneJob(subscription), timeout)
            }
        })
    };
    or_come_back(answer.await, hub)
}

/// Follow up to 100 jobs on one connection
///
/// Browsers allow six connections to a host. Every event carries its `job_id`.
#[utoipa::path(get, path = "/api/v1/progress/stream", tag = "progress",
    security(("key" = ["client", "worker"]), ("ticket" = [])),
    params(
        ("jobs" = String, Query, description = "The jobs' ids, separated by commas.",
            example = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed,7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        FollowQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Where to go on."),
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
    let seen =
        query.last_event_id(&parts.headers).and_then(|it| last_event_id::decode(it, jobs.len()));
    let seen = seen.unwrap_or_else(|| vec![None; jobs.len()]);
    let answer = async {
        let place = admit(&state, &jobs, &query, &mut parts).await?;
        let joins = jobs.iter().zip(&seen).map(|(job, after)| hub.subscribe(*job, *after));
        let subscriptions: Vec<_> =
            try_join_all(joins).await?.into_iter().zip(seen.clone()).collect();
        let is_over = subscriptions.iter().all(|(it, after)| {
            it.channel.terminal_id().is_some_and(|terminal| after.is_some_and(|it| it >= terminal))
        });
        if is_over {
            return Ok(sse_response::nothing_more());
        }
        Ok(sse_response::respond(hub.clone(), place, Following::Jobs(subscriptions), timeout))
    };
    or_come_back(answer.await, hub)
}

/// Follow what Python programs publish about a job
///
/// The messages of the channel `job:{job_id}:events` as they come, without a past.
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
    let answer = async {
        let place = admit(&state, &[job], &query, &mut parts).await?;
        let subscription = hub.subscribe(job, None).await?;
        if subscription.channel.is_over() {
            return Ok(sse_response::nothing_more());
        }
        Ok(sse_response::respond_live(hub.clone(), place, subscription))
    };
    or_come_back(answer.await, hub)
}

/// A refusal that passes is no status to `EventSource`, which would never come back after it.
fn or_come_back(answer: Result<Response, Problem>, hub: &Hub) -> Result<Response, Problem> {
    match answer {
        Err(problem) if problem.status.is_server_error() => {
            hub.metrics().refused.inc();
            let mut response = sse_response::come_back_later(hub.config().retry);
            response.extensions_mut().insert(Unsaid(problem));
            Ok(response)
        }
        other => other,
    }
}

/// Lets in who shows a ticket for each job, or a key that may see them, or anybody, as configured; if there is a
/// place.
async fn admit(
    state: &AppState,
    jobs: &[JobId],
    query: &FollowQuery,
    parts: &mut Parts,
) -> Result<Place, Problem> {
    let caller = caller(state, jobs, query, parts).await?;
    let address = parts.extensions.get::<ClientAddress>().map_or("", |it| &it.0);
    Ok(state.hub.enter(Who { address, caller: caller.as_deref() })?)
}

/// By whom a stream is counted: a key, or whoever has tickets for the same job.
async fn caller(
    state: &AppState,
    jobs: &[JobId],
    query: &FollowQuery,
    parts: &mut Parts,
) -> Result<Option<String>, Problem> {
    if let Some(tickets) = &query.ticket {
        state.tickets.check(jobs, tickets).await?;
        return Ok(jobs.first().map(JobId::to_string));
    }
    if state.hub.config().access == Access::JobId {
        return Ok(jobs.first().map(JobId::to_string));
    }
    let Reader(caller) = Reader::from_request_parts(parts, state).await?;
    let lookups = jobs.iter().map(|it| state.jobs.get_for(&caller, *it));
    try_join_all(lookups).await?;
    Ok(Some(caller.hash.as_str().to_owned()))
}
