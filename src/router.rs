//! Every route and every layer, in the order in which a request meets them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::{
    Extension, Router,
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{from_fn, from_fn_with_state},
};
use serde::{Deserialize, Serialize};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::{AllowOrigin, CorsLayer},
};

use crate::{
    config::Config,
    health,
    http::{BodyLimit, Deadline, log_request, method_not_allowed, not_found, render_panic, render_problems},
    jobs, progress,
    state::AppState,
};

/// Which browsers may call.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CorsConfig {
    /// Origins, or `*`.
    pub origins: Vec<String>,
}

/// # Errors
///
/// If an origin of the settings is none.
pub(crate) fn router(state: AppState, config: &Config) -> Result<Router> {
    let body_limit = BodyLimit(usize::try_from(config.server.body_limit.as_u64()).unwrap_or(usize::MAX));
    let layers = ServiceBuilder::new()
        .layer(from_fn(log_request))
        .layer(cors(&config.cors)?)
        // Leaves event streams alone: a compressor would hold events back.
        .layer(CompressionLayer::new().br(true).gzip(true))
        .layer(from_fn(render_problems))
        .layer(CatchPanicLayer::custom(render_panic))
        .layer(from_fn_with_state(Deadline(config.server.request_timeout), Deadline::enforce))
        .layer(Extension(body_limit));
    Ok(Router::new()
        .merge(jobs::routes::router())
        .merge(progress::routes::router())
        .merge(health::routes::router())
        .merge(crate::web::router(config.environment))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(layers)
        .with_state(state))
}

fn cors(config: &CorsConfig) -> Result<CorsLayer> {
    const PREFLIGHT_IS_GOOD_FOR: Duration = Duration::from_secs(3600);
    let origins = if config.origins.iter().any(|it| it == "*") {
        AllowOrigin::any()
    } else {
        let parsed = config.origins.iter().map(|it| {
            let origin = it.trim_end_matches('/');
            HeaderValue::from_str(origin).with_context(|| format!("cors.origins: {it:?} is no origin"))
        });
        AllowOrigin::list(parsed.collect::<Result<Vec<_>>>()?)
    };
    let names = |names: &[&'static str]| names.iter().map(|it| HeaderName::from_static(it)).collect::<Vec<_>>();
    Ok(CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS])
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
