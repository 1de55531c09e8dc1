//! Progress over HTTP: reported by workers, read at once.

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
            auth::{Admin, Reader, Worker},
        },
        legacy_paths::also_at,
        problem::Problem,
        state::AppState,
    },
    error::Result,
    ids::{FileId, JobId},
    jobs::Jobs,
    progress::{
        Progress, View,
        report::{BatchReport, FileReport},
        store::Recorded,
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
        .routes(routes!(report_batch, show))
        .routes(also_at("/api/v1/status/jobs/{job_id}/progress", routes!(show)))
        .routes(routes!(streams))
}

/// Report a file's progress
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/files/{file_id}/progress", tag = "progress",
    security(("key" = ["worker"])), request_body = FileReport,
    responses((status = 200, body = Recorded), (status = 409, description = "INVALID_TRANSITION")))]
async fn report_file(
    State(progress): State<Progress>,
    _: Worker,
    Path((job, file)): Path<(JobId, FileId)>,
    Json(report): Json<FileReport>,
) -> Result<Json<Recorded>, Problem> {
    Ok(Json(progress.report(job, &[report.check(file)?]).await?))
}

/// Report many files' progress
///
/// All of it is recorded or, on an error, none.
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/progress", tag = "progress", security(("key" = ["worker"])),
    request_body = BatchReport,
    responses((status = 200, body = Recorded), (status = 409, description = "INVALID_TRANSITION")))]
async fn report_batch(
    State(progress): State<Progress>,
    _: Worker,
    Path(job): Path<JobId>,
    Json(batch): Json<BatchReport>,
) -> Result<Json<Recorded>, Problem> {
    let reports = batch.check(progress.max_files())?;
    Ok(Json(progress.report(job, &reports).await?))
}

/// Read how far a job is
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/progress", tag = "progress",
    security(("key" = ["client", "worker"])), responses((status = 200, body = Snapshot)))]
async fn show(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path(job): Path<JobId>,
) -> Result<Response, Problem> {
    let view = View::of(&*jobs.get_for(&caller, job).await?);
    Ok(Json(full_snapshot(&view)).into_response())
}

/// What this process streams, the most watched jobs first.
#[derive(Debug, Serialize, ToSchema)]
struct Streams {
    open: usize,
    jobs: Vec<Watched>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WatchedJob)]
struct Watched {
    job_id: JobId,
    subscribers: usize,
}

/// Read what this process streams
#[utoipa::path(get, path = "/api/v1/admin/streams", tag = "admin", security(("key" = ["admin"])),
    responses((status = 200, body = Streams)))]
async fn streams(State(hub): State<Hub>, _: Admin) -> Json<Streams> {
    const MAX_JOBS: usize = 100;
    let jobs = hub.most_watched(MAX_JOBS).into_iter();
    let jobs = jobs.map(|(job_id, subscribers)| Watched { job_id, subscribers }).collect();
    Json(Streams { open: hub.n_open(), jobs })
}
