//! Streams over HTTP: who may follow which jobs, and from where.

use std::time::Duration;

use axum::{
    Router,
    extract::{FromRequestParts as _, State},
    http::{HeaderMap, request::Parts},
    response::Response,
    routing::get,
};
use futures_util::future::try_join_all;
use serde::Deserialize;

use super::{Access, cursor, follower::Following, stream};
use crate::{
    auth::Reader,
    error::{Error, Result},
    http::{Path, Problem, Query, Unsaid},
    ids::{JobId, StreamId},
    state::AppState,
};

/// Jobs on one connection.
const MAX_JOBS: usize = 100;

pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/jobs/{job_id}/progress/stream", get(follow_job))
        // The deployed front-end's name for the same.
        .route("/api/v1/status/tasks/{job_id}/stream", get(follow_job))
        .route("/api/v1/progress/stream", get(follow_jobs))
        .route("/api/v1/jobs/{job_id}/events", get(follow_events))
}

#[derive(Debug, Deserialize)]
struct FollowQuery {
    /// One a job, separated by commas.
    ticket: Option<String>,
    last_event_id: Option<String>,
    /// Seconds.
    timeout: Option<u64>,
    /// Of a stream of several jobs: their ids, separated by commas.
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
            text.split(',').map(|it| it.trim().parse()).collect::<Result<_>>()?;
        if jobs.len() > MAX_JOBS {
            return Err(Error::Invalid(format!("jobs: {} are more than {MAX_JOBS}", jobs.len())));
        }
        Ok(jobs)
    }
}

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
        admit(&state, &[job], &query, &mut parts).await?;
        let place = hub.enter()?;
        let subscription = hub.subscribe(job, after).await?;
        Ok(match (after, subscription.channel.terminal_id()) {
            (Some(after), Some(terminal)) if after >= terminal => stream::nothing_more(),
            _ => stream::respond(hub.clone(), place, Following::OneJob(subscription), timeout),
        })
    };
    or_come_back(answer.await, hub.config().retry)
}

async fn follow_jobs(
    State(state): State<AppState>,
    Query(query): Query<FollowQuery>,
    mut parts: Parts,
) -> Result<Response, Problem> {
    let hub = &state.hub;
    let timeout = query.timeout(hub.config().default_timeout)?;
    let jobs = query.jobs()?;
    let seen = query.last_event_id(&parts.headers).and_then(|it| cursor::decode(it, jobs.len()));
    let seen = seen.unwrap_or_else(|| vec![None; jobs.len()]);
    let answer = async {
        admit(&state, &jobs, &query, &mut parts).await?;
        let place = hub.enter()?;
        let joins = jobs.iter().zip(&seen).map(|(job, after)| hub.subscribe(*job, *after));
        let subscriptions: Vec<_> =
            try_join_all(joins).await?.into_iter().zip(seen.clone()).collect();
        let is_over = subscriptions.iter().all(|(it, after)| {
            it.channel.terminal_id().is_some_and(|terminal| after.is_some_and(|it| it >= terminal))
        });
        if is_over {
            return Ok(stream::nothing_more());
        }
        Ok(stream::respond(hub.clone(), place, Following::Jobs(subscriptions), timeout))
    };
    or_come_back(answer.await, hub.config().retry)
}

async fn follow_events(
    State(state): State<AppState>,
    Path(job): Path<JobId>,
    Query(query): Query<FollowQuery>,
    mut parts: Parts,
) -> Result<Response, Problem> {
    let hub = &state.hub;
    let answer = async {
        admit(&state, &[job], &query, &mut parts).await?;
        let place = hub.enter()?;
        let subscription = hub.subscribe(job, None).await?;
        if subscription.channel.is_over() {
            return Ok(stream::nothing_more());
        }
        Ok(stream::respond_live(hub.clone(), place, subscription))
    };
    or_come_back(answer.await, hub.config().retry)
}

/// A refusal that passes is no status to `EventSource`, which would never come back after it.
fn or_come_back(answer: Result<Response, Problem>, retry: Duration) -> Result<Response, Problem> {
    match answer {
        Err(problem) if problem.status.is_server_error() => {
            let mut response = stream::come_back_later(retry);
            response.extensions_mut().insert(Unsaid(problem));
            Ok(response)
        }
        other => other,
    }
}

/// Lets in who shows a ticket for each job, or a key that may see them, or anybody, as configured.
async fn admit(
    state: &AppState,
    jobs: &[JobId],
    query: &FollowQuery,
    parts: &mut Parts,
) -> Result<(), Problem> {
    if let Some(tickets) = &query.ticket {
        let tickets: Vec<&str> = tickets.split(',').collect();
        if tickets.len() != jobs.len() {
            return Err(Error::InvalidTicket.into());
        }
        let checks =
            jobs.iter().zip(tickets).map(|(job, ticket)| state.tickets.check(*job, ticket));
        return Ok(try_join_all(checks).await.map(|_| ())?);
    }
    if state.hub.config().access == Access::JobId {
        return Ok(());
    }
    let Reader(caller) = Reader::from_request_parts(parts, state).await?;
    let lookups = jobs.iter().map(|it| state.jobs.get_for(&caller, *it));
    Ok(try_join_all(lookups).await.map(|_| ())?)
}
