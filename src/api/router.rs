//! Every route and every layer, in the order in which a request meets them.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
pub(crate) use axum::Router;
use axum::{
    Extension,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{DefaultPredicate, Predicate, SizeAbove},
    },
    cors::{AllowOrigin, CorsLayer},
};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::{
    cache, cleanup, health, jobs, keys, locks, middleware, models, progress, queues, rate_limits,
    shared_metrics,
};
use crate::{
    api::{
        dashboard,
        extract::BodyLimit,
        middleware::{
            request::{Deadline, LogLine},
            security_headers::secure_headers,
        },
        openapi,
        problem::{Problem, ProblemBody, method_not_allowed, not_found, render_panic},
        state::AppState,
    },
    config::{Config, cors::CorsConfig},
    observability::metrics::{MeasuredRequest, Metrics},
};

/// # Errors
///
/// If an origin of the settings is none.
pub(crate) fn router(state: AppState, config: &Config) -> Result<Router> {
    let mut limited = limited_routes();
    if config.rate_limit.enabled {
        limited =
            limited.route_layer(from_fn_with_state(state.clone(), middleware::rate_limit::enforce));
    }
    let measured = state.metrics.clone();
    let keyed = limited
        .merge(rate_limits::router())
        // Not around paths that do not exist: refusing those costs less than counting them.
        .route_layer(from_fn_with_state(state.clone(), middleware::rate_limit::know_caller));
    let (routes, collected) = keyed.merge(open_routes()).split_for_parts();
    let routes = routes
        .merge(openapi::routes::router(&openapi::complete(collected, config)?))
        .merge(dashboard::router(config.environment))
        .with_state(state);
    let routes = layered(routes, measured, config)?;
    // Without traces a request has no span to begin with.
    if config.traces.is_enabled() {
        return Ok(routes.layer(from_fn(middleware::trace::trace_request)));
    }
    Ok(routes)
}

/// What stands behind the rate limits.
fn limited_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Shared::openapi())
        .merge(jobs::router())
        .merge(progress::router())
        .merge(shared_metrics::router())
        .merge(health::admin_router())
        .merge(rate_limits::admin_router())
        .merge(queues::router())
        .merge(locks::router())
        .merge(models::router())
        .merge(cache::router())
        .merge(cleanup::router())
        .merge(keys::router())
}

/// What asks for no key and is never refused.
fn open_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().merge(health::router()).merge(shared_metrics::page())
}

/// The API document of this build.
///
/// # Errors
///
/// If it cannot be written as JSON, which does not happen.
pub(crate) fn document(config: &Config) -> Result<serde_json::Value> {
    Ok(openapi::complete(
        limited_routes().merge(rate_limits::router()).merge(open_routes()).into_openapi(),
        config,
    )?)
}

/// What no operation names and all may answer with.
#[derive(OpenApi)]
#[openapi(components(schemas(ProblemBody)))]
struct Shared;

/// What every request meets, whatever its route.
fn layered(routes: Router, metrics: Arc<Metrics>, config: &Config) -> Result<Router> {
    let body_limit = BodyLimit {
        bytes: usize::try_from(config.server.body_limit.as_u64()).unwrap_or(usize::MAX),
        within: config.server.body_timeout,
    };
    let attendance = Attendance { metrics, has_tls: config.server.has_tls() };
    let layers = ServiceBuilder::new()
        // Leaves event streams alone: a compressor would hold events back. And small answers: making one smaller costs
        // more than all else of it.
        .layer(CompressionLayer::new().br(true).gzip(true).compress_when(compressible()))
        .layer(from_fn_with_state(attendance, attend))
        .layer(cors(&config.cors)?)
        .layer(CatchPanicLayer::custom(render_panic))
        .layer(from_fn_with_state(Deadline(config.server.request_timeout), Deadline::enforce))
        .layer(Extension(body_limit));
    Ok(routes.fallback(not_found).method_not_allowed_fallback(method_not_allowed).layer(layers))
}

#[derive(Clone)]
struct Attendance {
    metrics: Arc<Metrics>,
    has_tls: bool,
}

/// What every request begins and every answer ends with. It is one layer: each has its box, and clones all within it.
async fn attend(State(it): State<Attendance>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let measured = MeasuredRequest::begin(&it.metrics, request.method(), route);
    let line = LogLine::begin(&mut request);
    let mut response = next.run(request).await;
    measured.end(response.status(), Problem::of(&response).map(|problem| problem.code));
    line.render_problem(&mut response);
    secure_headers(&mut response, it.has_tls);
    line.end(&mut response);
    response
}

fn compressible() -> impl Predicate {
    const WORTH_BYTES: u64 = 1024;
    DefaultPredicate::new().and(SizeAbove::new(WORTH_BYTES))
}

fn cors(config: &CorsConfig) -> Result<CorsLayer> {
    const PREFLIGHT_IS_GOOD_FOR: Duration = Duration::from_hours(1);
    let origins = if config.origins.iter().any(|it| it == "*") {
        AllowOrigin::any()
    } else {
        let parsed = config.origins.iter().map(|it| {
            let origin = it.trim_end_matches('/');
            HeaderValue::from_str(origin)
                .with_context(|| format!("cors.origins: {it:?} is no origin"))
        });
        AllowOrigin::list(parsed.collect::<Result<Vec<_>>>()?)
    };
    let names = |names: &[&'static str]| {
        names.iter().map(|it| HeaderName::from_static(it)).collect::<Vec<_>>()
    };
    Ok(CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers(names(&[
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "x-ratelimit-degraded",
            "ratelimit",
            "ratelimit-policy",
            "retry-after",
            "x-request-id",
            "x-cache",
            "etag",
            "location",
        ]))
        .max_age(PREFLIGHT_IS_GOOD_FOR))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request, routing::get};
    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str) -> (u16, Value) {
        let environment = [("I2M__SERVER__REQUEST_TIMEOUT".to_owned(), "20ms".to_owned())];
        let config = Config::load(None, environment).unwrap();
        let panics = async || -> &'static str { panic!("secret") };
        let hangs = async || std::future::pending::<()>().await;
        let routes = Router::new().route("/panics", get(panics)).route("/hangs", get(hangs));
        let request = Request::get(path).header("x-request-id", "r-1").body(Body::empty()).unwrap();
        let response = layered(routes, Arc::new(Metrics::new()), &config)
            .unwrap()
            .oneshot(request)
            .await
            .unwrap();
        assert_eq!(response.headers()["x-request-id"], "r-1");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing() {
        let (status, body) = ask("/panics").await;
        assert_eq!((status, body["error_code"].as_str()), (500, Some("INTERNAL")));
        assert_eq!(body["request_id"], "r-1");
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn a_handler_that_hangs_is_given_up() {
        let (status, body) = ask("/hangs").await;
        assert_eq!((status, body["error_code"].as_str()), (504, Some("TIMEOUT")));
    }
}
