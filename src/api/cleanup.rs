//! `/api/v1/admin/cleanup`: begins a cleanup, and shows the last or the running one.

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
        extract::{Json, Query, auth::Admin},
        problem::Problem,
        state::AppState,
    },
    cleanup::{Maintenance, Report},
};

const PATH: &str = "/api/v1/admin/cleanup";

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(last, begin))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Begin {
    /// Count what would be done, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Begin a cleanup
///
/// Answers at once: a cleanup takes its time. How it goes is at the same path.
#[utoipa::path(post, path = "/api/v1/admin/cleanup", tag = "admin", security(("key" = ["admin"])), params(Begin),
    responses((status = 202, body = Report), (status = 409, description = "CLEANUP_RUNNING")))]
async fn begin(
    State(maintenance): State<Maintenance>,
    _: Admin,
    Query(query): Query<Begin>,
) -> Result<impl IntoResponse, Problem> {
    let report = maintenance.run_in_background(query.dry_run).await?;
    let headers: [(HeaderName, &str); 1] = [(header::LOCATION, PATH)];
    Ok((StatusCode::ACCEPTED, headers, Json(report)))
}

/// Read the report of the last cleanup
///
/// Or of the one that is running, whichever process runs it.
#[utoipa::path(get, path = "/api/v1/admin/cleanup", tag = "admin", security(("key" = ["admin"])),
    responses((status = 200, body = Report), (status = 404, description = "CLEANUP_NOT_FOUND")))]
async fn last(State(maintenance): State<Maintenance>, _: Admin) -> Result<Json<Report>, Problem> {
    let nothing =
        || Problem::new(StatusCode::NOT_FOUND, "CLEANUP_NOT_FOUND", "there was no cleanup yet");
    maintenance.last().await?.map(Json).ok_or_else(nothing)
}
