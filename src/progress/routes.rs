//! Progress over HTTP: reported by workers, read at once.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde::Serialize;

use super::{
    Hub, Progress, View, follow,
    frame::full_snapshot,
    report::{BatchReport, FileReport},
    store::Recorded,
};
use crate::{
    auth::{Admin, Reader, Worker},
    error::Result,
    http::{Json, Path, Problem},
    ids::{FileId, JobId},
    jobs::Jobs,
    state::AppState,
};

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .merge(follow::router())
        .route("/api/v1/jobs/{job_id}/files/{file_id}/progress", post(report_file))
        .route("/api/v1/jobs/{job_id}/progress", post(report_batch).get(show))
        // The deployed front-end's name for the same.
        .route("/api/v1/status/jobs/{job_id}/progress", get(show))
        .route("/api/v1/admin/streams", get(streams))
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

/// What this process streams, the most watched jobs first.
#[derive(Debug, Serialize)]
struct Streams {
    open: usize,
    jobs: Vec<Watched>,
}

#[derive(Debug, Serialize)]
struct Watched {
    job_id: JobId,
    subscribers: usize,
}

async fn streams(State(hub): State<Hub>, _: Admin) -> Json<Streams> {
    const MAX_JOBS: usize = 100;
    let jobs = hub.most_watched(MAX_JOBS).into_iter();
    let jobs = jobs.map(|(job_id, subscribers)| Watched { job_id, subscribers }).collect();
    Json(Streams { open: hub.n_open(), jobs })
}
