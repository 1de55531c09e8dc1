//! Probes for Kubernetes (`/livez`, `/readyz`, `/startupz`), the health report (`/health`), and the slow log of Redis.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        extract::{Json, Query, auth::RequireAdmin},
        legacy_paths::alias_at,
        problem::Problem,
        state::AppState,
    },
    auth::ApiKeys,
    health::{
        Health,
        report::{HealthReport, HealthStatus},
        slow_log,
    },
    migrations::Migrator,
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(started))
        .routes(routes!(health))
        .routes(alias_at("/api/v1/health", routes!(health)))
        .routes(alias_at("/api/v1/health/", routes!(health)))
        .routes(alias_at("/api/v1/health/detailed", routes!(health)))
        .routes(alias_at("/api/v1/health/liveness", routes!(live)))
        .routes(alias_at("/api/v1/health/readiness", routes!(ready)))
}

/// Operations that require the role `admin`.
pub(crate) fn admin_router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(slow_queries))
}

/// Response of a probe.
#[derive(Serialize, ToSchema)]
struct Probe<'a> {
    /// `ok` or `not ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// Present with `?verbose`.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<&'a [Check]>,
}

#[derive(Serialize, ToSchema)]
struct Check {
    #[schema(example = "redis:jobs")]
    name: String,
    ok: bool,
}

impl Check {
    fn new(name: &str, ok: bool) -> Self {
        Self { name: name.to_owned(), ok }
    }
}

/// Parsed by [`probe`], because `?verbose` has no value.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only describes the query in the OpenAPI document")]
struct ProbeQuery {
    /// Adds each check to the response; the value is ignored.
    verbose: Option<String>,
}

/// Check that the process runs
///
/// Ignores Redis, because a restart of the service does not repair Redis.
#[utoipa::path(get, path = "/livez", tag = "health", params(ProbeQuery), responses((status = 200, body = Probe)))]
async fn live(uri: Uri) -> Response {
    probe(&uri, &[Check::new("process", true)])
}

/// Check that the service can serve requests
#[utoipa::path(get, path = "/readyz", tag = "health", params(ProbeQuery), responses(
    (status = 200, body = Probe),
    (status = 503, description = "The service cannot serve requests now.", body = Probe)))]
async fn ready(
    State(health): State<Health>,
    State(schema): State<Migrator>,
    State(keys): State<ApiKeys>,
    uri: Uri,
) -> Response {
    let databases = health.redis_parts().into_iter();
    let mut checks: Vec<Check> =
        databases.map(|(name, ok)| Check::new(&format!("redis:{name}"), ok)).collect();
    checks.push(Check::new("schema", schema.is_up_to_date()));
    checks.push(Check::new("started", health.has_started()));
    checks.push(Check::new("keys_known", keys.is_loaded()));
    checks.push(Check::new("not_draining", !health.is_draining()));
    probe(&uri, &checks)
}

/// Check that Redis was reached at least once
#[utoipa::path(get, path = "/startupz", tag = "health", params(ProbeQuery), responses(
    (status = 200, body = Probe), (status = 503, description = "Redis was not reached yet.", body = Probe)))]
async fn started(State(health): State<Health>, uri: Uri) -> Response {
    probe(&uri, &[Check::new("redis_reached", health.has_started())])
}

/// Report the health of the service and its Redis
#[utoipa::path(get, path = "/health", tag = "health", responses(
    (status = 200, body = HealthReport), (status = 503, description = "The service cannot serve requests.", body = HealthReport)))]
async fn health(State(health): State<Health>) -> Response {
    let report = health.report().await;
    let status = match report.status {
        HealthStatus::Healthy | HealthStatus::Degraded => StatusCode::OK,
        HealthStatus::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report)).into_response()
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SlowQueriesQuery {
    /// Maximum number of entries, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 10)]
    num: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SlowQueries)]
struct SlowQueriesResponse {
    slow_queries: Vec<slow_log::SlowQuery>,
}

/// Read the slow log of Redis
///
/// Entries contain commands and keys; a value is replaced by its length.
#[utoipa::path(get, path = "/api/v1/admin/slow-queries", tag = "admin", security(("key" = ["admin"])),
    params(SlowQueriesQuery), responses((status = 200, body = SlowQueriesResponse),
    (status = 501, description = "NOT_PERMITTED_BY_REDIS")))]
async fn slow_queries(
    State(health): State<Health>,
    _: RequireAdmin,
    Query(query): Query<SlowQueriesQuery>,
) -> Result<Json<SlowQueriesResponse>, Problem> {
    const MAX: u64 = 100;
    let num = match query.num {
        None => 10,
        Some(num @ 1..=MAX) => num,
        Some(num) => {
            return Err(Problem::invalid(format!("num: {num} is not between 1 and {MAX}")));
        }
    };
    let slow_queries = health.slow_queries(num).await.map_err(|error| {
        if error.to_string().contains("NOPERM") {
            let detail = "the Redis user of this service may not read the slow log; \
                grant it with ACL SETUSER … +slowlog|get";
            return Problem::new(StatusCode::NOT_IMPLEMENTED, "NOT_PERMITTED_BY_REDIS", detail);
        }
        error.into()
    })?;
    Ok(Json(SlowQueriesResponse { slow_queries }))
}

/// Responds with `ok` or `not ok`, and with each check if the query has `verbose`.
fn probe(uri: &Uri, checks: &[Check]) -> Response {
    let ok = checks.iter().all(|check| check.ok);
    let mut parameters = uri.query().unwrap_or_default().split('&');
    let verbose = parameters.any(|name| name == "verbose" || name.starts_with("verbose="));
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body =
        Probe { status: if ok { "ok" } else { "not ok" }, checks: verbose.then_some(checks) };
    (status, Json(body)).into_response()
}
