//! `/api/v1/jobs`: create, list, read, cancel, retry, update and delete jobs, and list their webhooks.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{downloads, files, job_response::JobResponse, job_status, stream_tickets};
use crate::{
    api::{
        extract::{
            Json, Path, Query,
            auth::{RequireClient, RequireClientOrAdmin, RequireReader, RequireWorker},
        },
        problem::Problem,
        state::AppState,
    },
    auth::StreamTickets,
    error::{Error, Result},
    ids::{JobId, Sha256Hex},
    jobs::{CreateContext, CreateJobRequest, Cursor, Filter, Jobs, Status, Summary},
    observability::traces::traceparent,
    webhooks::{Webhook, Webhooks},
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(job_status::router())
        .merge(files::router())
        .merge(downloads::router())
        .merge(stream_tickets::router())
        .routes(routes!(create, list))
        .routes(routes!(get_job, update_status, delete))
        .routes(routes!(cancel))
        .routes(routes!(retry))
        .routes(routes!(webhooks))
}

/// Create a job
///
/// A job has at most `jobs.max_files` files. A repeated request with the same `Idempotency-Key` returns the job that
/// the first request created, with `Idempotent-Replayed: true`.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", security(("key" = ["client"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters.",
        min_length = 1, max_length = 255, pattern = "^[!-~]([ -~]*[!-~])?$")),
    request_body = CreateJobRequest,
    responses(
        (status = 201, body = JobResponse, headers(("Location" = String, description = "The path of the job."))),
        (status = 422, description = "TOO_MANY_FILES, IDEMPOTENCY_CONFLICT"),
    ))]
async fn create(
    State(state): State<AppState>,
    RequireClient(caller): RequireClient,
    headers: HeaderMap,
    Json(new_job): Json<CreateJobRequest>,
) -> Result<Response, Problem> {
    if let Some(url) = new_job.webhook_url() {
        state.webhooks.validate_url(url)?;
    }
    let circumstances = CreateContext {
        idempotency: idempotency_key(&headers)?,
        traceparent: traceparent(&headers),
    };
    let (job, is_replay) = state.jobs.create(&caller.hash, &new_job, &circumstances).await?;
    let body = JobResponse::new(job, &state.tickets).await?;
    let location = HeaderValue::try_from(&body.links.self_).ok();
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if is_replay {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The hash of the `Idempotency-Key`: a quoted string (RFC 9651), as in draft-ietf-httpapi-idempotency-key-header, or
/// an unquoted one, as most clients send it.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<Sha256Hex>> {
    const MAX_BYTES: usize = 255;
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if key.is_empty()
        || key.len() > MAX_BYTES
        || !key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        return Err(Error::Validation(format!(
            "Idempotency-Key must have 1 to {MAX_BYTES} printable ASCII characters"
        )));
    }
    Ok(Some(Sha256Hex::digest(key)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only jobs with this status.
    status: Option<Status>,
    /// Only jobs created after this time.
    created_after: Option<DateTime<Utc>>,
    /// Maximum number of jobs on a page; default 20.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobPage)]
struct JobPageResponse {
    jobs: Vec<Summary>,
    /// Cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List the caller's jobs, newest first
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", security(("key" = ["client"])), params(ListQuery),
    responses((status = 200, body = JobPageResponse)))]
async fn list(
    State(jobs): State<Jobs>,
    RequireClient(caller): RequireClient,
    Query(query): Query<ListQuery>,
) -> Result<Json<JobPageResponse>, Problem> {
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
    Ok(Json(JobPageResponse {
        jobs: page.jobs,
        next_cursor: page.next.map(|cursor| cursor.encode()),
    }))
}

/// Read a job and its files
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}", operation_id = "show", tag = "jobs",
    security(("key" = ["client", "worker"])),
    responses((status = 200, body = JobResponse)))]
async fn get_job(
    State(jobs): State<Jobs>,
    State(tickets): State<StreamTickets>,
    RequireReader(caller): RequireReader,
    Path(id): Path<JobId>,
) -> Result<Json<JobResponse>, Problem> {
    let job = jobs.get_visible_to(&caller, id).await?;
    let queue_position = jobs.queue_position(&job).await?;
    let mut body = JobResponse::new(Arc::unwrap_or_clone(job), &tickets).await?;
    body.queue_position = queue_position;
    Ok(Json(body))
}

/// Cancel queued or running work
///
/// Returns 202 and `cancelling` while a worker still processes the job; its streams report when the worker has stopped.
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/cancel", tag = "jobs", security(("key" = ["client"])),
    responses(
        (status = 200, body = UpdateStatusResponse),
        (status = 202, body = UpdateStatusResponse),
        (status = 409, description = "INVALID_TRANSITION"),
    ))]
async fn cancel(
    State(jobs): State<Jobs>,
    RequireClient(caller): RequireClient,
    Path(job_id): Path<JobId>,
) -> Result<(StatusCode, Json<UpdateStatusResponse>), Problem> {
    jobs.get_visible_to(&caller, job_id).await?;
    let status = jobs.cancel(job_id).await?;
    let code = if status == Status::Cancelling { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((code, Json(UpdateStatusResponse { job_id, status })))
}

/// Retry the failed files
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/retry", tag = "jobs", security(("key" = ["client"])),
    responses((status = 200, body = JobResponse), (status = 409, description = "INVALID_TRANSITION")))]
async fn retry(
    State(jobs): State<Jobs>,
    State(tickets): State<StreamTickets>,
    RequireClient(caller): RequireClient,
    Path(id): Path<JobId>,
    headers: HeaderMap,
) -> Result<Json<JobResponse>, Problem> {
    jobs.get_visible_to(&caller, id).await?;
    let job = jobs.retry(id, traceparent(&headers).as_deref()).await?;
    Ok(Json(JobResponse::new(Arc::unwrap_or_clone(job), &tickets).await?))
}

/// Delete a job and all its data
#[utoipa::path(delete, path = "/api/v1/jobs/{job_id}", tag = "jobs", security(("key" = ["client", "admin"])),
    responses((status = 204)))]
async fn delete(
    State(jobs): State<Jobs>,
    RequireClientOrAdmin(caller): RequireClientOrAdmin,
    Path(id): Path<JobId>,
) -> Result<StatusCode, Problem> {
    jobs.get_visible_to(&caller, id).await?;
    jobs.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StatusChange, example = json!({"status": "processing"}))]
struct UpdateStatusRequest {
    status: Status,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobStatus)]
struct UpdateStatusResponse {
    job_id: JobId,
    status: Status,
}

/// Change a job's status
///
/// Only transitions that the current status allows.
#[utoipa::path(patch, path = "/api/v1/jobs/{job_id}", operation_id = "change", tag = "jobs",
    security(("key" = ["worker"])), request_body = UpdateStatusRequest,
    responses((status = 200, body = UpdateStatusResponse), (status = 409, description = "INVALID_TRANSITION")))]
async fn update_status(
    State(jobs): State<Jobs>,
    _: RequireWorker,
    Path(job_id): Path<JobId>,
    Json(request): Json<UpdateStatusRequest>,
) -> Result<Json<UpdateStatusResponse>, Problem> {
    let status = jobs.transition(job_id, request.status).await?;
    Ok(Json(UpdateStatusResponse { job_id, status }))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobWebhooks)]
struct WebhooksResponse {
    job_id: JobId,
    webhooks: Vec<Webhook>,
}

/// List the webhooks of a job and their delivery state
///
/// A job has one webhook for each attempt that ended, and none if it was created without `webhook_url`.
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/webhooks", tag = "jobs", security(("key" = ["client"])),
    responses((status = 200, body = WebhooksResponse)))]
async fn webhooks(
    State(jobs): State<Jobs>,
    State(webhooks): State<Webhooks>,
    RequireClient(caller): RequireClient,
    Path(job_id): Path<JobId>,
) -> Result<Json<WebhooksResponse>, Problem> {
    jobs.get_visible_to(&caller, job_id).await?;
    Ok(Json(WebhooksResponse { job_id, webhooks: webhooks.for_job(job_id).await? }))
}
