//! `/livez`, `/readyz`, `/startupz`, `/health`: for Kubernetes and for people, without a key; and the slow log.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};

use super::{Health, report::Verdict, slow, store};
use crate::{
    auth::Admin,
    http::{Json, Problem, Query},
    state::AppState,
};

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

/// What only operators may ask.
pub(crate) fn admin_router() -> Router<AppState> {
    Router::new().route("/api/v1/admin/slow-queries", get(slow_queries))
}

#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
}

impl Check {
    fn new(name: &str, ok: bool) -> Self {
        Self { name: name.to_owned(), ok }
    }
}

/// The process runs. Says nothing of Redis: a restart here would not mend it there.
async fn live(uri: Uri) -> Response {
    probe(&uri, &[Check::new("process", true)])
}

/// Requests can be served.
async fn ready(State(health): State<Health>, uri: Uri) -> Response {
    let mut checks: Vec<Check> =
        health.0.redis.parts().map(|(name, ok)| Check::new(&format!("redis:{name}"), ok)).collect();
    checks.push(Check::new("started", health.has_started()));
    checks.push(Check::new("not_draining", !health.is_draining()));
    probe(&uri, &checks)
}

/// Redis was reached once.
async fn started(State(health): State<Health>, uri: Uri) -> Response {
    probe(&uri, &[Check::new("redis_reached", health.has_started())])
}

async fn health(State(health): State<Health>) -> Response {
    let report = health.report().await;
    let status = match report.status {
        Verdict::Healthy | Verdict::Degraded => StatusCode::OK,
        Verdict::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report)).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowQuery {
    num: Option<u64>,
}

#[derive(Debug, Serialize)]
struct SlowQueries {
    slow_queries: Vec<slow::SlowQuery>,
}

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
    let entries = store::slow_log(&health.0.redis, num).await.map_err(|error| {
        if error.to_string().contains("NOPERM") {
            let detail = "the Redis user of this service may not read the slow log; ACL SETUSER … +slowlog|get lets it";
            return Problem::new(StatusCode::NOT_IMPLEMENTED, "NOT_PERMITTED_BY_REDIS", detail);
        }
        error.into()
    })?;
    let slow_queries = entries.into_array().into_iter().filter_map(slow::SlowQuery::parse);
    Ok(Json(SlowQueries { slow_queries: slow_queries.collect() }))
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
