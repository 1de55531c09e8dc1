//! `/api/v1/jobs`: create, read, list, cancel, retry and delete jobs, report results.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Circumstances, Cursor, FileResult, Filter, JobFile, Jobs, NewJob, Status, Summary,
    body::{self, JobBody},
    download, status_cache,
};
use crate::{
    auth::{Client, ClientOrAdmin, Reader, Tickets, Worker},
    error::{Error, Result},
    http::{Json, Path, Problem, Query},
    ids::{FileId, JobId, Sha256Hex},
    state::AppState,
    traces::traceparent,
    webhooks::{Webhook, Webhooks},
};

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .merge(status_cache::router())
        .merge(download::router())
        .route("/api/v1/jobs", post(create).get(list))
        .route("/api/v1/jobs/{job_id}", get(show).patch(change).delete(delete))
        .route("/api/v1/jobs/{job_id}/cancel", post(cancel))
        .route("/api/v1/jobs/{job_id}/retry", post(retry))
        .route("/api/v1/jobs/{job_id}/ticket", post(ticket))
        .route("/api/v1/jobs/{job_id}/webhooks", get(webhooks))
        .route("/api/v1/jobs/{job_id}/files", get(files))
        .route("/api/v1/jobs/{job_id}/files/{file_id}", get(file))
        .route("/api/v1/jobs/{job_id}/files/{file_id}/result", put(finish).get(result))
}

async fn create(
    State(state): State<AppState>,
    Client(caller): Client,
    headers: HeaderMap,
    Json(new): Json<NewJob>,
) -> Result<Response, Problem> {
    if let Some(url) = new.webhook_url() {
        state.webhooks.check(url)?;
    }
    let circumstances = Circumstances {
        idempotency: idempotency_key(&headers)?,
        traceparent: traceparent(&headers),
    };
    let (job, is_replay) = state.jobs.create(&caller.hash, &new, &circumstances).await?;
    let body = JobBody::of(job, &state.tickets).await?;
    let location = HeaderValue::try_from(&body.links.itself).ok();
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if is_replay {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The hash of the `Idempotency-Key`: a string of RFC 9651 in quotes as
/// draft-ietf-httpapi-idempotency-key-header has it, or without, as most clients send it.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<Sha256Hex>> {
    const MAX_BYTES: usize = 255;
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let key = text.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(text);
    if key.is_empty()
        || key.len() > MAX_BYTES
        || !key.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    {
        return Err(Error::Invalid(format!(
            "Idempotency-Key: needs 1 to {MAX_BYTES} printable ASCII characters"
        )));
    }
    Ok(Some(Sha256Hex::of(key)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    status: Option<Status>,
    created_after: Option<DateTime<Utc>>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct PageBody {
    jobs: Vec<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

async fn list(
    State(jobs): State<Jobs>,
    Client(caller): Client,
    Query(query): Query<ListQuery>,
) -> Result<Json<PageBody>, Problem> {
    const LIMITS: std::ops::RangeInclusive<usize> = 1..=100;
    const DEFAULT_LIMIT: usize = 20;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !LIMITS.contains(&limit) {
        return Err(Problem::invalid(format!(
            "limit: {limit} is not between 1 and {}",
            LIMITS.end()
        )));
    }
    let after = query.cursor.as_deref().map(Cursor::decode).transpose()?;
    let filter = Filter { status: query.status, created_after: query.created_after, limit, after };
    let page = jobs.list(&caller.hash, &filter).await?;
    Ok(Json(PageBody { jobs: page.jobs, next_cursor: page.next.map(|it| it.encode()) }))
}

async fn show(
    State(jobs): State<Jobs>,
    State(tickets): State<Tickets>,
    Reader(caller): Reader,
    Path(id): Path<JobId>,
) -> Result<Json<JobBody>, Problem> {
    let job = jobs.get_for(&caller, id).await?;
    let queue_position = jobs.queue_position(&job).await?;
    let mut body = JobBody::of(job, &tickets).await?;
    body.queue_position = queue_position;
    Ok(Json(body))
}

async fn cancel(
    State(jobs): State<Jobs>,
    Client(caller): Client,
    Path(job_id): Path<JobId>,
) -> Result<(StatusCode, Json<Changed>), Problem> {
    jobs.get_for(&caller, job_id).await?;
    let status = jobs.cancel(job_id).await?;
    let code = if status == Status::Cancelling { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((code, Json(Changed { job_id, status })))
}

async fn retry(
    State(jobs): State<Jobs>,
    State(tickets): State<Tickets>,
    Client(caller): Client,
    Path(id): Path<JobId>,
    headers: HeaderMap,
) -> Result<Json<JobBody>, Problem> {
    jobs.get_for(&caller, id).await?;
    let job = jobs.retry(id, traceparent(&headers).as_deref()).await?;
    Ok(Json(JobBody::of(job, &tickets).await?))
}

async fn delete(
    State(jobs): State<Jobs>,
    ClientOrAdmin(caller): ClientOrAdmin,
    Path(id): Path<JobId>,
) -> Result<StatusCode, Problem> {
    jobs.get_for(&caller, id).await?;
    jobs.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
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
    Ok(Json(TicketBody { stream: body::stream_link(id, &ticket), ticket }))
}

#[derive(Debug, Serialize)]
struct WebhooksBody {
    job_id: JobId,
    webhooks: Vec<Webhook>,
}

async fn webhooks(
    State(jobs): State<Jobs>,
    State(webhooks): State<Webhooks>,
    Client(caller): Client,
    Path(job_id): Path<JobId>,
) -> Result<Json<WebhooksBody>, Problem> {
    jobs.get_for(&caller, job_id).await?;
    Ok(Json(WebhooksBody { job_id, webhooks: webhooks.of_job(job_id).await? }))
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
    jobs.check_result(&result).map_err(Error::Invalid)?;
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
