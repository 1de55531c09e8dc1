//! Progress of jobs: workers report it, clients read it once. `streams` serves it as an event stream.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::streams;
use crate::{
    api::{
        extract::{
            Json, Path,
            auth::{RequireAdmin, RequireReader, RequireWorker},
        },
        legacy_paths::alias_at,
        problem::Problem,
        state::AppState,
    },
    error::Result,
    ids::{FileId, JobId},
    jobs::Jobs,
    progress::{
        JobSnapshot, Progress,
        report::{BatchProgressRequest, FileProgressRequest},
        store::RecordSummary,
    },
    sse::{
        Hub,
        frame::{Snapshot, full_snapshot},
    },
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(streams::router())
        .routes(routes!(report_file))
        .routes(routes!(report_batch, get_progress))
        .routes(alias_at("/api/v1/status/jobs/{job_id}/progress", routes!(get_progress)))
        .routes(routes!(streams))
}

/// Report a file's progress
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/files/{file_id}/progress", tag = "progress",
    security(("key" = ["worker"])), request_body = FileProgressRequest,
    responses((status = 200, body = RecordSummary), (status = 409, description = "INVALID_TRANSITION")))]
async fn report_file(
    State(progress): State<Progress>,
    _: RequireWorker,
    Path((job, file)): Path<(JobId, FileId)>,
    Json(report): Json<FileProgressRequest>,
) -> Result<Json<RecordSummary>, Problem> {
    Ok(Json(progress.report(job, &[report.validate(file)?]).await?))
}

/// Report the progress of many files
///
/// All reports are recorded, or none if one is invalid.
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/progress", tag = "progress", security(("key" = ["worker"])),
    request_body = BatchProgressRequest,
    responses((status = 200, body = RecordSummary), (status = 409, description = "INVALID_TRANSITION")))]
async fn report_batch(
    State(progress): State<Progress>,
    _: RequireWorker,
    Path(job): Path<JobId>,
    Json(batch): Json<BatchProgressRequest>,
) -> Result<Json<RecordSummary>, Problem> {
    let reports = batch.validate(progress.max_files())?;
    Ok(Json(progress.report(job, &reports).await?))
}

/// Read the progress of a job
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/progress", operation_id = "show", tag = "progress",
    security(("key" = ["client", "worker"])), responses((status = 200, body = Snapshot)))]
async fn get_progress(
    State(jobs): State<Jobs>,
    RequireReader(caller): RequireReader,
    Path(job): Path<JobId>,
) -> Result<Response, Problem> {
    let snapshot = JobSnapshot::new(&*jobs.get_visible_to(&caller, job).await?);
    Ok(Json(full_snapshot(&snapshot)).into_response())
}

/// The open streams of this process.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Streams)]
struct OpenStreamsResponse {
    open: usize,
    /// The most watched jobs first.
    jobs: Vec<WatchedJob>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WatchedJob {
    job_id: JobId,
    subscribers: usize,
}

/// Read the open streams of this process
#[utoipa::path(get, path = "/api/v1/admin/streams", tag = "admin", security(("key" = ["admin"])),
    responses((status = 200, body = OpenStreamsResponse)))]
async fn streams(State(hub): State<Hub>, _: RequireAdmin) -> Json<OpenStreamsResponse> {
    const MAX_JOBS: usize = 100;
    let jobs = hub.top_watched(MAX_JOBS).into_iter();
    let jobs = jobs.map(|(job_id, subscribers)| WatchedJob { job_id, subscribers }).collect();
    Json(OpenStreamsResponse { open: hub.open_count(), jobs })
}
