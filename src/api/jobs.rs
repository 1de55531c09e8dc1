//! `/api/v1/jobs`: create, read, list, cancel, retry and delete jobs, report results.

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

use super::{downloads, files, job_status, jobs_response::JobBody, stream_tickets};
use crate::{
    api::{
        extract::{
            Json, Path, Query,
            auth::{Client, ClientOrAdmin, Reader, Worker},
        },
        problem::Problem,
        state::AppState,
    },
    auth::Tickets,
    error::{Error, Result},
    ids::{JobId, Sha256Hex},
    jobs::{Circumstances, Cursor, Filter, Jobs, NewJob, Status, Summary},
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
        .routes(routes!(show, change, delete))
        .routes(routes!(cancel))
        .routes(routes!(retry))
        .routes(routes!(webhooks))
}

/// Create a job
///
/// At most `jobs.max_files` files. With an `Idempotency-Key`, a repeated request answers with the job that the first
/// one made, and `Idempotent-Replayed: true`.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", security(("key" = ["client"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters.",
        min_length = 1, max_length = 255, pattern = "^[!-~]([ -~]*[!-~])?$")),
    request_body = NewJob,
    responses(
        (status = 201, body = JobBody, headers(("Location" = String, description = "Where the job is."))),
        (status = 422, description = "TOO_MANY_FILES, IDEMPOTENCY_CONFLICT"),
    ))]
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

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only jobs in this state.
    status: Option<Status>,
    /// Only jobs that were created after this moment.
    created_after: Option<DateTime<Utc>>,
    /// Jobs on a page; 20 without it.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobPage)]
struct PageBody {
    jobs: Vec<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Where the next page begins; absent on the last.
    next_cursor: Option<String>,
}

/// List the caller's jobs, newest first
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", security(("key" = ["client"])), params(ListQuery),
    responses((status = 200, body = PageBody)))]
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

/// Read a job and its files
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}", tag = "jobs", security(("key" = ["client", "worker"])),
    responses((status = 200, body = JobBody)))]
async fn show(
    State(jobs): State<Jobs>,
    State(tickets): State<Tickets>,
    Reader(caller): Reader,
    Path(id): Path<JobId>,
) -> Result<Json<JobBody>, Problem> {
    let job = jobs.get_for(&caller, id).await?;
    let queue_position = jobs.queue_position(&job).await?;
    let mut body = JobBody::of(Arc::unwrap_or_clone(job), &tickets).await?;
    body.queue_position = queue_position;
    Ok(Json(body))
}

/// Cancel queued or running work
///
/// 202 and `cancelling` while a worker is still at it; watchers are told when it has stopped.
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/cancel", tag = "jobs", security(("key" = ["client"])),
    responses(
        (status = 200, body = Changed),
        (status = 202, body = Changed),
        (status = 409, description = "INVALID_TRANSITION"),
    ))]
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

/// Try the failed files again
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/retry", tag = "jobs", security(("key" = ["client"])),
    responses((status = 200, body = JobBody), (status = 409, description = "INVALID_TRANSITION")))]
async fn retry(
    State(jobs): State<Jobs>,
    State(tickets): State<Tickets>,
    Client(caller): Client,
    Path(id): Path<JobId>,
    headers: HeaderMap,
) -> Result<Json<JobBody>, Problem> {
    jobs.get_for(&caller, id).await?;
    let job = jobs.retry(id, traceparent(&headers).as_deref()).await?;
    Ok(Json(JobBody::of(Arc::unwrap_or_clone(job), &tickets).await?))
}

/// Delete a job and all that is kept of it
#[utoipa::path(delete, path = "/api/v1/jobs/{job_id}", tag = "jobs", security(("key" = ["client", "admin"])),
    responses((status = 204)))]
async fn delete(
    State(jobs): State<Jobs>,
    ClientOrAdmin(caller): ClientOrAdmin,
    Path(id): Path<JobId>,
) -> Result<StatusCode, Problem> {
    jobs.get_for(&caller, id).await?;
    jobs.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StatusChange, example = json!({"status": "processing"}))]
struct Change {
    status: Status,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobStatus)]
struct Changed {
    job_id: JobId,
    status: Status,
}

/// Change a job's status
///
/// Only what may follow the present status.
#[utoipa::path(patch, path = "/api/v1/jobs/{job_id}", tag = "jobs", security(("key" = ["worker"])),
    request_body = Change,
    responses((status = 200, body = Changed), (status = 409, description = "INVALID_TRANSITION")))]
async fn change(
    State(jobs): State<Jobs>,
    _: Worker,
    Path(job_id): Path<JobId>,
    Json(change): Json<Change>,
) -> Result<Json<Changed>, Problem> {
    let status = jobs.transition(job_id, change.status).await?;
    Ok(Json(Changed { job_id, status }))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobWebhooks)]
struct WebhooksBody {
    job_id: JobId,
    webhooks: Vec<Webhook>,
}

/// List the webhooks of a job, and what became of them
///
/// One for each attempt that ended; none, if the job was created without `webhook_url`.
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/webhooks", tag = "jobs", security(("key" = ["client"])),
    responses((status = 200, body = WebhooksBody)))]
async fn webhooks(
    State(jobs): State<Jobs>,
    State(webhooks): State<Webhooks>,
    Client(caller): Client,
    Path(job_id): Path<JobId>,
) -> Result<Json<WebhooksBody>, Problem> {
    jobs.get_for(&caller, job_id).await?;
    Ok(Json(WebhooksBody { job_id, webhooks: webhooks.of_job(job_id).await? }))
}
