//! `/api/v1/jobs`: create and read jobs, report results.

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{FileResult, Job, JobFile, Jobs, NewJob, Status};
use crate::{
    auth::{Client, Reader, Tickets, Worker},
    error::{Error, Result},
    http::{Json, Path, Problem},
    ids::{FileId, JobId},
    state::AppState,
};

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/jobs", post(create))
        .route("/api/v1/jobs/{job_id}", get(show).patch(change))
        .route("/api/v1/jobs/{job_id}/ticket", post(ticket))
        .route("/api/v1/jobs/{job_id}/files", get(files))
        .route("/api/v1/jobs/{job_id}/files/{file_id}", get(file))
        .route("/api/v1/jobs/{job_id}/files/{file_id}/result", put(finish).get(result))
}

async fn create(
    State(jobs): State<Jobs>,
    State(tickets): State<Tickets>,
    Client(caller): Client,
    Json(new): Json<NewJob>,
) -> Result<Response, Problem> {
    let job = jobs.create(&caller.hash, &new).await?;
    let body = JobBody::of(job, &tickets).await?;
    let location = HeaderValue::try_from(&body.links.itself).ok();
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn show(
    State(jobs): State<Jobs>,
    State(tickets): State<Tickets>,
    Reader(caller): Reader,
    Path(id): Path<JobId>,
) -> Result<Json<JobBody>, Problem> {
    let job = jobs.get_for(&caller, id).await?;
    Ok(Json(JobBody::of(job, &tickets).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    status: Status,
}

#[derive(Debug, Serialize)]
struct Changed {
    job_id: JobId,
    status: Status,
}

async fn change(
    State(jobs): State<Jobs>,
    _: Worker,
    Path(job_id): Path<JobId>,
    Json(change): Json<Change>,
) -> Result<Json<Changed>, Problem> {
    let status = jobs.transition(job_id, change.status).await?;
    Ok(Json(Changed { job_id, status }))
}

#[derive(Debug, Serialize)]
struct TicketBody {
    ticket: String,
    stream: String,
}

async fn ticket(
    State(jobs): State<Jobs>,
    State(tickets): State<Tickets>,
    Client(caller): Client,
    Path(id): Path<JobId>,
) -> Result<Json<TicketBody>, Problem> {
    let job = jobs.get_for(&caller, id).await?;
    let ticket = tickets.issue(job.id).await?.as_str().to_owned();
    Ok(Json(TicketBody { stream: stream_link(id, &ticket), ticket }))
}

#[derive(Debug, Serialize)]
struct FilesBody {
    job_id: JobId,
    files: Vec<JobFile>,
}

async fn files(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path(job_id): Path<JobId>,
) -> Result<Json<FilesBody>, Problem> {
    let job = jobs.get_for(&caller, job_id).await?;
    Ok(Json(FilesBody { job_id, files: job.files }))
}

async fn file(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path((job, file)): Path<(JobId, FileId)>,
) -> Result<Json<JobFile>, Problem> {
    let mut files = jobs.get_for(&caller, job).await?.files;
    if file.index() < files.len() {
        return Ok(Json(files.swap_remove(file.index())));
    }
    Err(Error::FileNotFound { job, file }.into())
}

async fn finish(
    State(jobs): State<Jobs>,
    _: Worker,
    Path((job_id, file_id)): Path<(JobId, FileId)>,
    Json(result): Json<FileResult>,
) -> Result<Json<Finished>, Problem> {
    let status = jobs.finish_file(job_id, file_id, &result).await?;
    Ok(Json(Finished { job_id, file_id, status }))
}

#[derive(Debug, Serialize)]
struct Finished {
    job_id: JobId,
    file_id: FileId,
    /// The job's status after it.
    status: Status,
}

async fn result(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path((job, file)): Path<(JobId, FileId)>,
) -> Result<Response, Problem> {
    jobs.get_for(&caller, job).await?;
    let json = jobs.result(job, file).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// A job as callers see it; a field without a value is left out.
#[derive(Debug, Serialize)]
struct JobBody {
    job_id: JobId,
    status: Status,
    /// Percent.
    progress: u8,
    total_files: u32,
    completed_files: u32,
    failed_files: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<Map<String, Value>>,
    files: Vec<JobFile>,
    links: Links,
}

#[derive(Debug, Serialize)]
struct Links {
    #[serde(rename = "self")]
    itself: String,
    progress: String,
    /// For `EventSource`: with a ticket, so that no header is needed.
    stream: String,
    cancel: String,
}

impl JobBody {
    async fn of(job: Job, tickets: &Tickets) -> Result<Self> {
        let ticket = tickets.issue(job.id).await?;
        let itself = format!("/api/v1/jobs/{}", job.id);
        Ok(Self {
            links: Links {
                progress: format!("{itself}/progress"),
                stream: stream_link(job.id, ticket.as_str()),
                cancel: format!("{itself}/cancel"),
                itself,
            },
            job_id: job.id,
            status: job.status,
            progress: job.progress,
            total_files: job.total_files,
            completed_files: job.completed_files,
            failed_files: job.failed_files,
            created_at: job.created_at,
            updated_at: job.updated_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            error: job.error,
            params: job.params,
            files: job.files,
        })
    }
}

fn stream_link(job: JobId, ticket: &str) -> String {
    format!("/api/v1/jobs/{job}/progress/stream?ticket={ticket}")
}
