//! `/api/v1/rate-limits`: how the caller stands with each policy. Asking does not count.
//! `/api/v1/admin/rate-limits`: the policies, and who calls most.

use axum::extract::{FromRequestParts as _, Request, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::middleware::rate_limit::origin_of;
use crate::{
    api::{
        extract::{Json, auth::Admin},
        problem::Problem,
        state::AppState,
    },
    auth::Caller,
    rate_limit::{
        RateLimiter, RouteGroup, ceil_secs,
        heavy_hitters::{Busy, Name},
        policy::{Algorithm, Cost, OnRedisFailure, Policy, Scope},
    },
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show))
}

/// What only operators may ask.
pub(crate) fn admin_router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(policies))
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
    let config = limiter.config();
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

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RateLimitPolicies)]
struct Policies {
    /// Whether anything is counted.
    enabled: bool,
    /// Whether it is counted, and nobody refused.
    shadow: bool,
    /// Of how many of the last seconds `busiest` tells.
    #[schema(example = 412)]
    seconds: u64,
    policies: Vec<PolicyInUse>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RateLimitPolicy)]
struct PolicyInUse {
    #[schema(example = "key")]
    policy: String,
    scope: Scope,
    /// The groups of routes that it counts; none are all.
    routes: Vec<RouteGroup>,
    algorithm: Algorithm,
    cost: Cost,
    #[schema(example = 6000)]
    limit: u64,
    #[schema(example = 60)]
    window_secs: u64,
    on_redis_failure: OnRedisFailure,
    /// Who spent most at this process, the busiest first.
    busiest: Vec<BusyCaller>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BusyCaller)]
struct BusyCaller {
    /// A key's name, an address, or a network.
    #[schema(example = "upload-api")]
    caller: String,
    /// Of a key, the first digits of its SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "72ee9d43")]
    key_hash: Option<String>,
    /// The group of routes, for policies that count each by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<RouteGroup>,
    #[schema(example = 5211)]
    admitted: u64,
    #[schema(example = 0)]
    refused: u64,
    /// At most so much of these may be of other callers: only the busiest are counted exactly.
    #[schema(example = 0)]
    uncertain: u64,
}

impl From<Busy> for BusyCaller {
    fn from(busy: Busy) -> Self {
        let (caller, key_hash) = match busy.who {
            Name::Key { name, hash } => (name.to_string(), Some(hash.into_string())),
            Name::Address(address) => (address.to_string(), None),
        };
        let Busy { route, admitted, refused, uncertain, .. } = busy;
        Self { caller, key_hash, route, admitted, refused, uncertain }
    }
}

impl PolicyInUse {
    fn of(policy: &Policy, busiest: Vec<Busy>) -> Self {
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

/// Read the limits, and who calls most
///
/// Callers are counted by each process for itself, over the last five to ten minutes.
#[utoipa::path(get, path = "/api/v1/admin/rate-limits", tag = "admin", security(("key" = ["admin"])),
    responses((status = 200, body = Policies)))]
async fn policies(State(limiter): State<RateLimiter>, _: Admin) -> Json<Policies> {
    const MAX_CALLERS: usize = 10;
    let config = limiter.config();
    let (lasted, busiest) = limiter.busiest(MAX_CALLERS);
    let policies = config.policies.iter().zip(busiest);
    Json(Policies {
        enabled: config.enabled,
        shadow: config.shadow,
        seconds: lasted.as_secs(),
        policies: policies.map(|(policy, busiest)| PolicyInUse::of(policy, busiest)).collect(),
    })
}
