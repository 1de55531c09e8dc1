//! Progress over HTTP: reported by workers, read at once, followed as a stream.

use std::time::Duration;

use axum::{
    Router,
    extract::{FromRequestParts as _, Request, State},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde::Deserialize;

use super::{
    Access, Progress, View,
    frame::full_snapshot,
    report::{BatchReport, FileReport},
    store::Recorded,
    stream,
};
use crate::{
    auth::{Reader, Tickets, Worker},
    error::{Error, Result},
    http::{Json, Path, Problem, Query, Unsaid},
    ids::{FileId, JobId, StreamId},
    jobs::Jobs,
    state::AppState,
};

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/jobs/{job_id}/files/{file_id}/progress", post(report_file))
        .route("/api/v1/jobs/{job_id}/progress", post(report_batch).get(show))
        .route("/api/v1/jobs/{job_id}/progress/stream", get(follow))
        // The deployed front-end's names for the same.
        .route("/api/v1/status/jobs/{job_id}/progress", get(show))
        .route("/api/v1/status/tasks/{job_id}/stream", get(follow))
}

async fn report_file(
    State(progress): State<Progress>,
    _: Worker,
    Path((job, file)): Path<(JobId, FileId)>,
    Json(report): Json<FileReport>,
) -> Result<Json<Recorded>, Problem> {
    Ok(Json(progress.report(job, &[report.check(file)?]).await?))
}

async fn report_batch(
    State(progress): State<Progress>,
    _: Worker,
    Path(job): Path<JobId>,
    Json(batch): Json<BatchReport>,
) -> Result<Json<Recorded>, Problem> {
    let reports = batch.check(progress.max_files)?;
    Ok(Json(progress.report(job, &reports).await?))
}

async fn show(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path(job): Path<JobId>,
) -> Result<Response, Problem> {
    let view = View::of(jobs.get_for(&caller, job).await?);
    Ok(Json(full_snapshot(&view)).into_response())
}

#[derive(Debug, Deserialize)]
struct FollowQuery {
    ticket: Option<String>,
    last_event_id: Option<String>,
    /// Seconds.
    timeout: Option<u64>,
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
    fn last_event_id(&self, headers: &HeaderMap) -> Option<StreamId> {
        let header = headers.get("last-event-id").and_then(|it| it.to_str().ok());
        header.or(self.last_event_id.as_deref())?.parse().ok()
    }
}

async fn follow(
    State(state): State<AppState>,
    Path(job): Path<JobId>,
    Query(query): Query<FollowQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let hub = &state.hub;
    let timeout = query.timeout(hub.config().default_timeout)?;
    let after = query.last_event_id(request.headers());
    let joined = async {
        admit(&state, job, query.ticket.as_deref(), request).await?;
        Ok::<_, Problem>(hub.subscribe(job, after).await?)
    };
    match joined.await {
        Ok(subscription) => match (after, subscription.channel.terminal_id()) {
            (Some(after), Some(terminal)) if after >= terminal => Ok(stream::nothing_more()),
            _ => Ok(stream::respond(hub.clone(), subscription, timeout)),
        },
        Err(problem) if problem.status.is_server_error() => {
            let mut response = stream::come_back_later(hub.config().retry);
            response.extensions_mut().insert(Unsaid(problem));
            Ok(response)
        }
        Err(problem) => Err(problem),
    }
}

/// Lets in who shows a ticket for the job, or a key that may see it, or anybody, as configured.
async fn admit(
    state: &AppState,
    job: JobId,
    ticket: Option<&str>,
    request: Request,
) -> Result<(), Problem> {
    if let Some(ticket) = ticket {
        let tickets: &Tickets = &state.tickets;
        return Ok(tickets.check(job, ticket).await?);
    }
    let (mut parts, _) = request.into_parts();
    if state.hub.config().access == Access::JobId
        && crate::auth::presented_key(&parts.headers).is_none()
    {
        return Ok(());
    }
    let Reader(caller) = Reader::from_request_parts(&mut parts, state).await?;
    state.jobs.get_for(&caller, job).await?;
    Ok(())
}
