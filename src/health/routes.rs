//! `/livez`, `/readyz`, `/startupz`, `/health`: for Kubernetes and for people, without a key.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::Serialize;

use super::{Health, report::Verdict};
use crate::{http::Json, state::AppState};

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/startupz", get(started))
        .route("/health", get(health))
        // The deployed front-end's names for the same.
        .route("/api/v1/health", get(health))
        .route("/api/v1/health/", get(health))
        .route("/api/v1/health/detailed", get(health))
        .route("/api/v1/health/liveness", get(live))
        .route("/api/v1/health/readiness", get(ready))
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
}

/// The process runs. Says nothing of Redis: a restart here would not mend it there.
async fn live(uri: Uri) -> Response {
    probe(&uri, &[Check { name: "process", ok: true }])
}

/// Requests can be served.
async fn ready(State(health): State<Health>, uri: Uri) -> Response {
    let is_up = health.0.redis.is_up();
    probe(
        &uri,
        &[
            Check { name: "redis", ok: is_up },
            Check { name: "started", ok: health.has_started() },
            Check { name: "not_draining", ok: !health.is_draining() },
        ],
    )
}

/// Redis was reached once.
async fn started(State(health): State<Health>, uri: Uri) -> Response {
    probe(&uri, &[Check { name: "redis_reached", ok: health.has_started() }])
}

async fn health(State(health): State<Health>) -> Response {
    let report = health.report().await;
    let status = match report.status {
        Verdict::Healthy | Verdict::Degraded => StatusCode::OK,
        Verdict::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report)).into_response()
}

/// `ok` or `not ok`; with `?verbose`, each check.
fn probe(uri: &Uri, checks: &[Check]) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        checks: Option<&'a [Check]>,
    }
    let ok = checks.iter().all(|it| it.ok);
    let verbose = uri
        .query()
        .is_some_and(|it| it.split('&').any(|it| it == "verbose" || it.starts_with("verbose=")));
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Body { status: if ok { "ok" } else { "not ok" }, checks: verbose.then_some(checks) };
    (status, Json(body)).into_response()
}
