//! `/api/v1/rate-limits`: the caller's limits and remaining requests. Reading them is not counted.
//! `/api/v1/admin/rate-limits`: the policies and the busiest callers.

use axum::extract::{FromRequestParts as _, Request, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::middleware::rate_limit::requester_of;
use crate::{
    api::{
        extract::{Json, auth::RequireAdmin},
        problem::Problem,
        state::AppState,
    },
    auth::Caller,
    rate_limit::{
        RateLimiter, RouteGroup, ceil_secs,
        heavy_hitters::{CallerId, TopCaller},
        policy::{Algorithm, Cost, OnRedisFailure, Policy, Scope},
    },
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_rate_limits))
}

/// Operations that require the role `admin`.
pub(crate) fn admin_router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(policies))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RateLimits)]
struct RateLimitsResponse {
    /// Whether requests over the limit are rejected.
    enforced: bool,
    policies: Vec<RateLimit>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RateLimit {
    #[schema(example = "per-key")]
    policy: String,
    scope: Scope,
    /// The route group of this count, for policies that count each group separately.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<RouteGroup>,
    algorithm: Algorithm,
    cost: Cost,
    limit: u64,
    window_secs: u64,
    remaining: u64,
    /// Unix seconds: the time at which the full limit is available again, or the next request is allowed.
    reset: u64,
}

/// Read the caller's limits and remaining requests
///
/// This request is not counted.
#[utoipa::path(get, path = "/api/v1/rate-limits", operation_id = "show", tag = "rate limits",
    security(("key" = ["client", "worker", "admin"])), responses((status = 200, body = RateLimitsResponse)))]
async fn get_rate_limits(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<RateLimitsResponse>, Problem> {
    let limiter = &state.limiter;
    let (mut parts, _) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &state).await?;
    let config = limiter.config();
    let limit_status = limiter.peek(&caller, &requester_of(limiter, &parts)).await?;
    let policies = limit_status.into_iter().filter_map(|(route, status)| {
        let policy = config.policies.iter().find(|policy| policy.name == status.policy)?;
        Some(RateLimit {
            scope: policy.scope,
            route,
            algorithm: policy.algorithm,
            cost: policy.cost,
            limit: status.limit,
            window_secs: ceil_secs(status.window),
            remaining: status.remaining,
            reset: status.reset_at,
            policy: status.policy,
        })
    });
    Ok(Json(RateLimitsResponse {
        enforced: config.enabled && !config.dry_run,
        policies: policies.collect(),
    }))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RateLimitPolicies)]
struct PoliciesResponse {
    /// Whether requests are counted.
    enabled: bool,
    /// Whether requests are only counted and never rejected.
    shadow: bool,
    /// The period that `busiest` covers, in seconds up to now.
    #[schema(example = 412)]
    seconds: u64,
    policies: Vec<RateLimitPolicy>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RateLimitPolicy {
    #[schema(example = "key")]
    policy: String,
    scope: Scope,
    /// The route groups that the policy counts; empty for all groups.
    routes: Vec<RouteGroup>,
    algorithm: Algorithm,
    cost: Cost,
    #[schema(example = 6000)]
    limit: u64,
    #[schema(example = 60)]
    window_secs: u64,
    on_redis_failure: OnRedisFailure,
    /// The busiest callers of this process, in descending order.
    busiest: Vec<BusyCaller>,
}

#[derive(Debug, Serialize, ToSchema)]
struct BusyCaller {
    /// Name of a key, an IP address, or a network.
    #[schema(example = "upload-api")]
    caller: String,
    /// First digits of the SHA-256 of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "72ee9d43")]
    key_hash: Option<String>,
    /// The route group, for policies that count each group separately.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<RouteGroup>,
    #[schema(example = 5211)]
    admitted: u64,
    #[schema(example = 0)]
    refused: u64,
    /// Maximum part of these counts that may belong to other callers, because only the busiest are counted exactly.
    #[schema(example = 0)]
    uncertain: u64,
}

impl From<TopCaller> for BusyCaller {
    fn from(busy: TopCaller) -> Self {
        let (caller, key_hash) = match busy.caller {
            CallerId::Key { name, hash } => (name.to_string(), Some(hash.into_string())),
            CallerId::Address(address) => (address.to_string(), None),
        };
        let TopCaller { route, admitted, refused, error_bound: uncertain, .. } = busy;
        Self { caller, key_hash, route, admitted, refused, uncertain }
    }
}

impl RateLimitPolicy {
    fn new(policy: &Policy, busiest: Vec<TopCaller>) -> Self {
        Self {
            policy: policy.name.clone(),
            scope: policy.scope,
            routes: policy.routes.clone(),
            algorithm: policy.algorithm,
            cost: policy.cost,
            limit: u64::from(policy.limit.get()),
            window_secs: ceil_secs(policy.window),
            on_redis_failure: policy.on_redis_failure,
            busiest: busiest.into_iter().map(BusyCaller::from).collect(),
        }
    }
}

/// Read the policies and the busiest callers
///
/// Each process counts its own callers, over the last five to ten minutes.
#[utoipa::path(get, path = "/api/v1/admin/rate-limits", tag = "admin", security(("key" = ["admin"])),
    responses((status = 200, body = PoliciesResponse)))]
async fn policies(State(limiter): State<RateLimiter>, _: RequireAdmin) -> Json<PoliciesResponse> {
    const MAX_CALLERS: usize = 10;
    let config = limiter.config();
    let (period, busiest) = limiter.busiest(MAX_CALLERS);
    let policies = config.policies.iter().zip(busiest);
    Json(PoliciesResponse {
        enabled: config.enabled,
        shadow: config.dry_run,
        seconds: period.as_secs(),
        policies: policies.map(|(policy, busiest)| RateLimitPolicy::new(policy, busiest)).collect(),
    })
}
