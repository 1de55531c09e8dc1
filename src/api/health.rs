//! `/livez`, `/readyz`, `/startupz`, `/health`: for Kubernetes and for people, without a key; and the slow log.

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
        extract::{Json, Query, auth::Admin},
        legacy_paths::also_at,
        problem::Problem,
        state::AppState,
    },
    auth::ApiKeys,
    health::{
        Health,
        report::{Report, Verdict},
        slow_log,
    },
    migrations::Schema,
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

/// What only operators may ask.
pub(crate) fn admin_router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(slow_queries))
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
    #[schema(example = "redis:jobs")]
    name: String,
    ok: bool,
}

impl Check {
    fn new(name: &str, ok: bool) -> Self {
        Self { name: name.to_owned(), ok }
    }
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
    probe(&uri, &[Check::new("process", true)])
}

/// Whether requests can be served
#[utoipa::path(get, path = "/readyz", tag = "health", params(ProbeQuery), responses(
    (status = 200, body = Probe), (status = 503, description = "Not now.", body = Probe)))]
async fn ready(
    State(health): State<Health>,
    State(schema): State<Schema>,
    State(keys): State<ApiKeys>,
    uri: Uri,
) -> Response {
    let parts = health.redis_parts().into_iter();
    let mut checks: Vec<Check> =
        parts.map(|(name, ok)| Check::new(&format!("redis:{name}"), ok)).collect();
    checks.push(Check::new("schema", schema.is_current()));
    checks.push(Check::new("started", health.has_started()));
    checks.push(Check::new("keys_known", keys.are_known()));
    checks.push(Check::new("not_draining", !health.is_draining()));
    probe(&uri, &checks)
}

/// Whether Redis was reached once
#[utoipa::path(get, path = "/startupz", tag = "health", params(ProbeQuery), responses(
    (status = 200, body = Probe), (status = 503, description = "Not yet.", body = Probe)))]
async fn started(State(health): State<Health>, uri: Uri) -> Response {
    probe(&uri, &[Check::new("redis_reached", health.has_started())])
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

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SlowQuery {
    /// How many at most, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 10)]
    num: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct SlowQueries {
    slow_queries: Vec<slow_log::SlowQuery>,
}

/// Read Redis' slow log
///
/// Commands with their keys; of values only their length is told.
#[utoipa::path(get, path = "/api/v1/admin/slow-queries", tag = "admin", security(("key" = ["admin"])),
    params(SlowQuery), responses((status = 200, body = SlowQueries),
    (status = 501, description = "NOT_PERMITTED_BY_REDIS")))]
async fn slow_queries(
    State(health): State<Health>,
    _: Admin,
    Query(query): Query<SlowQuery>,
) -> Result<Json<SlowQueries>, Problem> {
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
            let detail = "the Redis user of this service may not read the slow log; ACL SETUSER … +slowlog|get lets it";
            return Problem::new(StatusCode::NOT_IMPLEMENTED, "NOT_PERMITTED_BY_REDIS", detail);
        }
        error.into()
    })?;
    Ok(Json(SlowQueries { slow_queries }))
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
