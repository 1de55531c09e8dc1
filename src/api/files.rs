//! `/api/v1/jobs/{job_id}/files`: a job's files and their results.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        extract::{
            Json, Path,
            auth::{Reader, Worker},
        },
        problem::Problem,
        state::AppState,
    },
    error::Error,
    ids::{FileId, JobId},
    jobs::{
        FileResult, JobFile, Jobs, Status,
        result::{ResultBody, StoredBody},
    },
};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(files))
        .routes(routes!(file))
        .routes(routes!(finish, result))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobFiles)]
struct FilesBody {
    job_id: JobId,
    files: Vec<JobFile>,
}

/// List a job's files
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/files", tag = "files", security(("key" = ["client", "worker"])),
    responses((status = 200, body = FilesBody)))]
async fn files(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path(job_id): Path<JobId>,
) -> Result<Json<FilesBody>, Problem> {
    let job = jobs.get_for(&caller, job_id).await?;
    Ok(Json(FilesBody { job_id, files: Arc::unwrap_or_clone(job).files }))
}

/// Read one file
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/files/{file_id}", tag = "files",
    security(("key" = ["client", "worker"])), responses((status = 200, body = JobFile)))]
async fn file(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path((job, file)): Path<(JobId, FileId)>,
) -> Result<Json<JobFile>, Problem> {
    let found = jobs.get_for(&caller, job).await?;
    let found = found.files.get(file.index()).cloned();
    Ok(Json(found.ok_or(Error::FileNotFound { job, file })?))
}

/// Report a file's result
///
/// Writing the same one twice counts once. The last file's result ends the job.
#[utoipa::path(put, path = "/api/v1/jobs/{job_id}/files/{file_id}/result", tag = "files",
    security(("key" = ["worker"])), request_body = ResultBody,
    responses((status = 200, body = Finished), (status = 409, description = "INVALID_TRANSITION")))]
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

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FinishedFile)]
struct Finished {
    job_id: JobId,
    file_id: FileId,
    /// The job's status after it.
    status: Status,
}

/// Read a file's result
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/files/{file_id}/result", tag = "files",
    security(("key" = ["client", "worker"])), responses((status = 200, body = StoredBody)))]
async fn result(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path((job, file)): Path<(JobId, FileId)>,
) -> Result<Response, Problem> {
    jobs.get_for(&caller, job).await?;
    let json = jobs.result(job, file).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}
