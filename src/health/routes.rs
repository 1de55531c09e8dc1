//! `/livez`, `/readyz`, `/startupz`, `/health`: for Kubernetes and for people, without a key.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Health,
    report::{Report, Verdict},
};
use crate::{
    http::{Json, also_at},
    state::AppState,
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(started))
        .routes(routes!(health))
        .routes(also_at("/api/v1/health", routes!(health)))
        .routes(also_at("/api/v1/health/", routes!(health)))
        .routes(also_at("/api/v1/health/detailed", routes!(health)))
        .routes(also_at("/api/v1/health/liveness", routes!(live)))
        .routes(also_at("/api/v1/health/readiness", routes!(ready)))
}

/// The answer of a probe.
#[derive(Serialize, ToSchema)]
struct Probe<'a> {
    /// `ok` or `not ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// With `?verbose`.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<&'a [Check]>,
}

#[derive(Serialize, ToSchema)]
struct Check {
    #[schema(example = "redis")]
    name: &'static str,
    ok: bool,
}

/// Read by hand: `?verbose` has no value.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `probe` looks for")]
struct ProbeQuery {
    /// Says each check; its value does not matter.
    verbose: Option<String>,
}

/// Whether the process runs
///
/// Says nothing of Redis: a restart here would not mend it there.
#[utoipa::path(get, path = "/livez", tag = "health", params(ProbeQuery), responses((status = 200, body = Probe)))]
async fn live(uri: Uri) -> Response {
    probe(&uri, &[Check { name: "process", ok: true }])
}

/// Whether requests can be served
#[utoipa::path(get, path = "/readyz", tag = "health", params(ProbeQuery), responses(
    (status = 200, body = Probe), (status = 503, description = "Not now.", body = Probe)))]
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

/// Whether Redis was reached once
#[utoipa::path(get, path = "/startupz", tag = "health", params(ProbeQuery), responses(
    (status = 200, body = Probe), (status = 503, description = "Not yet.", body = Probe)))]
async fn started(State(health): State<Health>, uri: Uri) -> Response {
    probe(&uri, &[Check { name: "redis_reached", ok: health.has_started() }])
}

/// Report how the service and its Redis are
#[utoipa::path(get, path = "/health", tag = "health", responses(
    (status = 200, body = Report), (status = 503, description = "Cannot serve.", body = Report)))]
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
    let ok = checks.iter().all(|it| it.ok);
    let verbose = uri
        .query()
        .is_some_and(|it| it.split('&').any(|it| it == "verbose" || it.starts_with("verbose=")));
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body =
        Probe { status: if ok { "ok" } else { "not ok" }, checks: verbose.then_some(checks) };
    (status, Json(body)).into_response()
}
