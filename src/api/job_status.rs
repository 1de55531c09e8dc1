//! `/api/v1/jobs/{job_id}/status`: the small status of a job, for polling. It is cached in `cache:status:{job_id}`
//! until the job changes.

use axum::{extract::State, http::HeaderMap, response::Response};
use chrono::{DateTime, Utc};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        conditional::json_with_etag,
        extract::{Path, auth::RequireReader},
        legacy_paths::alias_at,
        problem::Problem,
        state::AppState,
    },
    error::Result,
    ids::JobId,
    jobs::Jobs,
};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(alias_at("/api/v1/status/tasks/{job_id}/status", routes!(status)))
}

/// The JSON that `status.lua` writes.
#[derive(ToSchema)]
#[schema(as = SmallStatus)]
#[expect(dead_code, reason = "only describes the script's JSON in the OpenAPI document")]
struct SmallStatusResponse {
    job_id: JobId,
    /// The stored status, which may come from another program.
    #[schema(example = "processing")]
    status: String,
    /// Percent.
    #[schema(maximum = 100, example = 40)]
    progress: u8,
    total_files: u32,
    completed_files: u32,
    failed_files: u32,
    updated_at: DateTime<Utc>,
}

/// Read a job's small status
///
/// For polling: the response is cached and has an `ETag`.
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/status", tag = "jobs", security(("key" = ["client", "worker"])),
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the previous response.")),
    responses(
        (status = 200, body = SmallStatusResponse, headers(
            ("ETag" = String, description = "Entity tag of this status."),
            ("X-Cache" = String, description = "`hit` or `miss`."),
        )),
        (status = 304),
    ))]
async fn status(
    State(jobs): State<Jobs>,
    RequireReader(caller): RequireReader,
    Path(id): Path<JobId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let status = jobs.cached_status(&caller, id).await?;
    let x_cache = if status.is_hit { "hit" } else { "miss" };
    Ok(json_with_etag(&headers, status.json, x_cache, "private, no-cache"))
}
