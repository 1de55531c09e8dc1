//! `/api/v1/rate-limits`: how the caller stands with each policy. Asking does not count.

use axum::extract::{FromRequestParts as _, Request, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    RouteGroup, ceil_secs,
    layer::origin_of,
    policy::{Algorithm, Cost, Scope},
};
use crate::{
    auth::Caller,
    http::{Json, Problem},
    state::AppState,
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RateLimits)]
struct Limits {
    /// Whether anybody is refused.
    enforced: bool,
    policies: Vec<PolicyBody>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RateLimit)]
struct PolicyBody {
    #[schema(example = "per-key")]
    policy: String,
    scope: Scope,
    /// The group of routes whose count this is, for policies that count each by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<RouteGroup>,
    algorithm: Algorithm,
    cost: Cost,
    limit: u64,
    window_secs: u64,
    remaining: u64,
    /// Unix seconds; when the whole limit is back, or the next request may come.
    reset: u64,
}

/// Read how the caller stands with each limit
///
/// Asking does not count.
#[utoipa::path(get, path = "/api/v1/rate-limits", tag = "rate limits",
    security(("key" = ["client", "worker", "admin"])), responses((status = 200, body = Limits)))]
async fn show(State(state): State<AppState>, request: Request) -> Result<Json<Limits>, Problem> {
    let limiter = &state.limiter;
    let (mut parts, _) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &state).await?;
    let config = &limiter.0.config;
    let standings = limiter.peek(&caller, &origin_of(limiter, &parts)).await?;
    let policies = standings.into_iter().filter_map(|(route, standing)| {
        let policy = config.policies.iter().find(|it| it.name == standing.policy)?;
        Some(PolicyBody {
            scope: policy.scope,
            route,
            algorithm: policy.algorithm,
            cost: policy.cost,
            limit: standing.limit,
            window_secs: ceil_secs(standing.window),
            remaining: standing.remaining,
            reset: standing.reset_at,
            policy: standing.policy,
        })
    });
    Ok(Json(Limits { enforced: config.enabled && !config.shadow, policies: policies.collect() }))
}
