//! The small status of a job: what pollers ask for, cached in `cache:status:{job_id}` and dropped by every change.

use axum::{extract::State, http::HeaderMap, response::Response};
use chrono::{DateTime, Utc};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        conditional::cached_json,
        extract::{Path, auth::Reader},
        legacy_paths::also_at,
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
        .routes(also_at("/api/v1/status/tasks/{job_id}/status", routes!(status)))
}

/// What `status.lua` writes.
#[derive(ToSchema)]
#[schema(as = SmallStatus)]
#[expect(dead_code, reason = "the script writes the JSON; this describes it")]
struct StatusBody {
    job_id: JobId,
    /// The stored status, which other programs may have written.
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
/// For pollers: cached, with an `ETag`.
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}/status", tag = "jobs", security(("key" = ["client", "worker"])),
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the last answer.")),
    responses(
        (status = 200, body = StatusBody, headers(
            ("ETag" = String, description = "Of this status."),
            ("X-Cache" = String, description = "`hit` or `miss`."),
        )),
        (status = 304),
    ))]
async fn status(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path(id): Path<JobId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = jobs.cached_status(&caller, id).await?;
    let x_cache = if found.is_hit { "hit" } else { "miss" };
    Ok(cached_json(&headers, found.json, x_cache, "private, no-cache"))
}
