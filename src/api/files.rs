//! `/api/v1/jobs/{job_id}/files`: the files of a job and their results.

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
            auth::{RequireReader, RequireWorker},
        },
        problem::Problem,
        state::AppState,
    },
    error::Error,
    ids::{FileId, JobId},
    jobs::{
        FileResult, JobFile, Jobs, Status,
        result::{FileResultRequest, FileResultResponse},
    },
};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_files))
        .routes(routes!(get_file))
        .routes(routes!(put_file_result, get_file_result))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobFiles)]
struct FilesResponse {
    job_id: JobId,
    files: Vec<JobFile>,
}

/// List a job's files
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/files", operation_id = "files", tag = "files",
    security(("key" = ["client", "worker"])), responses((status = 200, body = FilesResponse)))]
async fn list_files(
    State(jobs): State<Jobs>,
    RequireReader(caller): RequireReader,
    Path(job_id): Path<JobId>,
) -> Result<Json<FilesResponse>, Problem> {
    let job = jobs.get_visible_to(&caller, job_id).await?;
    Ok(Json(FilesResponse { job_id, files: Arc::unwrap_or_clone(job).files }))
}

/// Read one file
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/files/{file_id}", operation_id = "file", tag = "files",
    security(("key" = ["client", "worker"])), responses((status = 200, body = JobFile)))]
async fn get_file(
    State(jobs): State<Jobs>,
    RequireReader(caller): RequireReader,
    Path((job_id, file_id)): Path<(JobId, FileId)>,
) -> Result<Json<JobFile>, Problem> {
    let job = jobs.get_visible_to(&caller, job_id).await?;
    let file = job.files.get(file_id.index()).cloned();
    Ok(Json(file.ok_or(Error::FileNotFound { job: job_id, file: file_id })?))
}

/// Report a file's result
///
/// Repeating the same result has no effect. The result of the last file ends the job.
#[utoipa::path(put, path = "/api/v1/jobs/{job_id}/files/{file_id}/result", operation_id = "finish", tag = "files",
    security(("key" = ["worker"])), request_body = FileResultRequest,
    responses((status = 200, body = PutFileResultResponse), (status = 409, description = "INVALID_TRANSITION")))]
async fn put_file_result(
    State(jobs): State<Jobs>,
    _: RequireWorker,
    Path((job_id, file_id)): Path<(JobId, FileId)>,
    Json(result): Json<FileResult>,
) -> Result<Json<PutFileResultResponse>, Problem> {
    jobs.validate_result(&result).map_err(Error::Validation)?;
    let status = jobs.finish_file(job_id, file_id, &result).await?;
    Ok(Json(PutFileResultResponse { job_id, file_id, status }))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FinishedFile)]
struct PutFileResultResponse {
    job_id: JobId,
    file_id: FileId,
    /// The job's status after this result.
    status: Status,
}

/// Read a file's result
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/files/{file_id}/result", operation_id = "result", tag = "files",
    security(("key" = ["client", "worker"])), responses((status = 200, body = FileResultResponse)))]
async fn get_file_result(
    State(jobs): State<Jobs>,
    RequireReader(caller): RequireReader,
    Path((job_id, file_id)): Path<(JobId, FileId)>,
) -> Result<Response, Problem> {
    jobs.get_visible_to(&caller, job_id).await?;
    let json = jobs.result(job_id, file_id).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}
