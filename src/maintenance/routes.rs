//! `/api/v1/admin/cleanup`: begins a cleanup, and shows the last or the running one.

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde::Deserialize;

use super::{Maintenance, Report};
use crate::{
    auth::Admin,
    http::{Json, Problem, Query},
    state::AppState,
};

const PATH: &str = "/api/v1/admin/cleanup";

pub(crate) fn router() -> Router<AppState> {
    Router::new().route(PATH, get(last).post(begin))
}

#[derive(Debug, Deserialize)]
struct Begin {
    /// Count what would be done, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Answers at once: a cleanup takes its time. How it goes is at the same path.
async fn begin(
    State(maintenance): State<Maintenance>,
    _: Admin,
    Query(query): Query<Begin>,
) -> Result<impl IntoResponse, Problem> {
    let report = maintenance.run_in_background(query.dry_run).await?;
    let headers: [(HeaderName, &str); 1] = [(header::LOCATION, PATH)];
    Ok((StatusCode::ACCEPTED, headers, Json(report)))
}

async fn last(State(maintenance): State<Maintenance>, _: Admin) -> Result<Json<Report>, Problem> {
    let nothing = || Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there was no cleanup yet");
    maintenance.last().await?.map(Json).ok_or_else(nothing)
}
