//! `/api/v1/admin/cleanup`: starts a cleanup and reports the running or the last one.

use axum::{
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        extract::{Json, Query, auth::RequireAdmin},
        problem::Problem,
        state::AppState,
    },
    cleanup::{Cleanup, CleanupReport},
};

const PATH: &str = "/api/v1/admin/cleanup";

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_last_report, start_cleanup))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct StartCleanupRequest {
    /// Only counts the changes, without making them.
    #[serde(default)]
    dry_run: bool,
}

/// Start a cleanup
///
/// Returns immediately. GET on the same path reports the progress.
#[utoipa::path(post, path = "/api/v1/admin/cleanup", operation_id = "begin", tag = "admin",
    security(("key" = ["admin"])), params(StartCleanupRequest),
    responses((status = 202, body = CleanupReport), (status = 409, description = "CLEANUP_RUNNING")))]
async fn start_cleanup(
    State(maintenance): State<Cleanup>,
    _: RequireAdmin,
    Query(request): Query<StartCleanupRequest>,
) -> Result<impl IntoResponse, Problem> {
    let report = maintenance.run_in_background(request.dry_run).await?;
    let headers: [(HeaderName, &str); 1] = [(header::LOCATION, PATH)];
    Ok((StatusCode::ACCEPTED, headers, Json(report)))
}

/// Read the report of the running or the last cleanup
///
/// Any process may have run it.
#[utoipa::path(get, path = "/api/v1/admin/cleanup", operation_id = "last", tag = "admin", security(("key" = ["admin"])),
    responses((status = 200, body = CleanupReport), (status = 404, description = "CLEANUP_NOT_FOUND")))]
async fn get_last_report(
    State(maintenance): State<Cleanup>,
    _: RequireAdmin,
) -> Result<Json<CleanupReport>, Problem> {
    let not_found =
        || Problem::new(StatusCode::NOT_FOUND, "CLEANUP_NOT_FOUND", "no cleanup has run yet");
    maintenance.last().await?.map(Json).ok_or_else(not_found)
}
