//! All routes and layers, in the order in which they handle a request.

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
            request::{AccessLogEntry, RequestTimeout},
            security_headers::add_security_headers,
        },
        openapi,
        problem::{Problem, ProblemResponse, method_not_allowed, not_found, render_panic},
        state::AppState,
    },
    config::{Config, cors::CorsConfig},
    observability::metrics::{MeasuredRequest, Metrics},
};

/// Builds the router of the service.
///
/// # Errors
///
/// If an entry of `cors.origins` is invalid.
pub(crate) fn router(state: AppState, config: &Config) -> Result<Router> {
    let mut rate_limited = rate_limited_routes();
    if config.rate_limit.enabled {
        rate_limited = rate_limited
            .route_layer(from_fn_with_state(state.clone(), middleware::rate_limit::enforce));
    }
    let metrics = state.metrics.clone();
    let authenticated = rate_limited
        .merge(rate_limits::router())
        // Not for unknown paths: a 404 costs less than a charge.
        .route_layer(from_fn_with_state(state.clone(), middleware::rate_limit::identify_caller));
    let (routes, collected) = authenticated.merge(public_routes()).split_for_parts();
    let routes = routes
        .merge(openapi::routes::router(&openapi::build_document(collected, config)?))
        .merge(dashboard::router(config.environment))
        .with_state(state);
    let routes = apply_middleware(routes, metrics, config)?;
    // Without tracing, requests do not pay for a span.
    if config.traces.is_enabled() {
        return Ok(routes.layer(from_fn(middleware::trace::trace_request)));
    }
    Ok(routes)
}

/// The rate-limited routes.
fn rate_limited_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(CommonSchemas::openapi())
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

/// The routes that need no key and are not rate-limited.
fn public_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().merge(health::router()).merge(shared_metrics::metrics_router())
}

/// The OpenAPI document of this build, with the limits of `config`.
///
/// # Errors
///
/// If it cannot be serialized, which does not happen.
pub(crate) fn document(config: &Config) -> Result<serde_json::Value> {
    Ok(openapi::build_document(
        rate_limited_routes().merge(rate_limits::router()).merge(public_routes()).into_openapi(),
        config,
    )?)
}

/// Schemas of responses that no operation declares and every operation may return.
#[derive(OpenApi)]
#[openapi(components(schemas(ProblemResponse)))]
struct CommonSchemas;

/// Adds the layers that apply to every request, including requests to unknown paths.
fn apply_middleware(routes: Router, metrics: Arc<Metrics>, config: &Config) -> Result<Router> {
    let body_limit = BodyLimit {
        bytes: usize::try_from(config.server.body_limit.as_u64()).unwrap_or(usize::MAX),
        timeout: config.server.body_timeout,
    };
    let instrumentation = Instrumentation { metrics, has_tls: config.server.has_tls() };
    let layers = ServiceBuilder::new()
        // Skips event streams, because a compressor delays events, and small responses, because compressing one costs
        // more than producing it.
        .layer(CompressionLayer::new().br(true).gzip(true).compress_when(compressible()))
        .layer(from_fn_with_state(instrumentation, instrument_request))
        .layer(cors(&config.cors)?)
        .layer(CatchPanicLayer::custom(render_panic))
        .layer(from_fn_with_state(
            RequestTimeout(config.server.request_timeout),
            RequestTimeout::enforce,
        ))
        .layer(Extension(body_limit));
    Ok(routes.fallback(not_found).method_not_allowed_fallback(method_not_allowed).layer(layers))
}

#[derive(Clone)]
struct Instrumentation {
    metrics: Arc<Metrics>,
    has_tls: bool,
}

/// Measures and logs a request, and completes its response. This is one layer, because each layer allocates a future
/// and clones all layers below it.
async fn instrument_request(
    State(instrumentation): State<Instrumentation>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let measured = MeasuredRequest::begin(&instrumentation.metrics, request.method(), route);
    let log_entry = AccessLogEntry::begin(&mut request);
    let mut response = next.run(request).await;
    measured.end(response.status(), Problem::from_response(&response).map(|problem| problem.code));
    log_entry.render_problem(&mut response);
    add_security_headers(&mut response, instrumentation.has_tls);
    log_entry.end(&mut response);
    response
}

fn compressible() -> impl Predicate {
    const MIN_BYTES: u64 = 1024;
    DefaultPredicate::new().and(SizeAbove::new(MIN_BYTES))
}

fn cors(config: &CorsConfig) -> Result<CorsLayer> {
    const PREFLIGHT_MAX_AGE: Duration = Duration::from_hours(1);
    let origins = if config.origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let parsed = config.origins.iter().map(|origin| {
            HeaderValue::from_str(origin.trim_end_matches('/'))
                .with_context(|| format!("cors.origins: {origin:?} is not a valid origin"))
        });
        AllowOrigin::list(parsed.collect::<Result<Vec<_>>>()?)
    };
    let names = |names: &[&'static str]| {
        names.iter().map(|name| HeaderName::from_static(name)).collect::<Vec<_>>()
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
        .max_age(PREFLIGHT_MAX_AGE))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request, routing::get};
    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;

    async fn get_problem(path: &str) -> (u16, Value) {
        let environment = [("I2M__SERVER__REQUEST_TIMEOUT".to_owned(), "20ms".to_owned())];
        let config = Config::load(None, environment).unwrap();
        let panics = async || -> &'static str { panic!("secret") };
        let hangs = async || std::future::pending::<()>().await;
        let routes = Router::new().route("/panics", get(panics)).route("/hangs", get(hangs));
        let request = Request::get(path).header("x-request-id", "r-1").body(Body::empty()).unwrap();
        let response = apply_middleware(routes, Arc::new(Metrics::new()), &config)
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
    async fn a_panic_is_a_problem_without_the_panic_message() {
        let (status, body) = get_problem("/panics").await;
        assert_eq!((status, body["error_code"].as_str()), (500, Some("INTERNAL")));
        assert_eq!(body["request_id"], "r-1");
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn a_handler_that_hangs_times_out() {
        let (status, body) = get_problem("/hangs").await;
        assert_eq!((status, body["error_code"].as_str()), (504, Some("TIMEOUT")));
    }
}
