//! `/api/v1/locks/{resource}`: acquire, extend and release a lock.

use std::time::Duration;

use axum::{extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    api::{
        extract::{Json, Path, Query, auth::RequireWorker},
        problem::Problem,
        state::AppState,
    },
    error::{Error, Result},
    ids::{LockName, truncate_quoted},
    locks::{LockRequest, Locks},
    serde_integer::lenient_int,
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(acquire, extend, release))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewLock)]
struct AcquireLockRequest {
    /// At most `locks.max_ttl`.
    #[schema(minimum = 1, example = 30)]
    #[serde(deserialize_with = "lenient_int")]
    ttl_secs: i64,
    /// Maximum time to wait for the lock; at most `locks.max_wait`.
    #[serde(default, deserialize_with = "lenient_int")]
    #[schema(minimum = 0, example = 0)]
    wait_secs: i64,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LockExtension)]
#[serde(deny_unknown_fields)]
struct ExtendLockRequest {
    #[schema(format = "uuid", example = "5f0c1d9e-8d0b-4a53-9a54-0f6f3c2b7a11")]
    token: String,
    /// The new time to live, counted from now; at most `locks.max_ttl`.
    #[schema(minimum = 1, example = 30)]
    #[serde(deserialize_with = "lenient_int")]
    ttl_secs: i64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReleaseLockRequest {
    /// The token from the response that granted the lock.
    #[param(format = "uuid", example = "5f0c1d9e-8d0b-4a53-9a54-0f6f3c2b7a11")]
    token: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lock)]
struct LockResponse {
    #[schema(example = "job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")]
    resource: String,
    token: Uuid,
    /// Larger than the fencing token of every earlier holder. Absent for a lock that another program acquired directly
    /// in Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_700_000_000_000_000_u64)]
    fencing_token: Option<u64>,
    expires_at: DateTime<Utc>,
}

/// Acquire a lock
///
/// The lock expires after its TTL. A resource that is written under the lock can reject writes of an earlier holder by
/// its `fencing_token`. A release wakes a waiting request.
#[utoipa::path(post, path = "/api/v1/locks/{resource}", tag = "locks", security(("key" = ["worker"])),
    request_body = AcquireLockRequest,
    responses(
        (status = 201, body = LockResponse),
        (status = 409, description = "LOCK_UNAVAILABLE"),
        (status = 503, description = "SERVICE_BUSY"),
    ))]
async fn acquire(
    State(locks): State<Locks>,
    _: RequireWorker,
    Path(resource): Path<LockName>,
    Json(request): Json<AcquireLockRequest>,
) -> Result<(StatusCode, Json<LockResponse>), Problem> {
    let config = locks.config();
    let ttl = seconds("ttl_secs", request.ttl_secs, 1, config.max_ttl)?;
    let wait = seconds("wait_secs", request.wait_secs, 0, config.max_wait)?;
    let lease = locks.acquire(&LockRequest { resource, ttl, wait }).await?;
    let body = LockResponse {
        resource: lease.resource.to_string(),
        token: lease.token,
        fencing_token: Some(lease.fencing_token),
        expires_at: lease.expires_at,
    };
    Ok((StatusCode::CREATED, Json(body)))
}

/// Set the time to live of a lock
#[utoipa::path(patch, path = "/api/v1/locks/{resource}", tag = "locks", security(("key" = ["worker"])),
    request_body = ExtendLockRequest,
    responses((status = 200, body = LockResponse), (status = 409, description = "LOCK_LOST")))]
async fn extend(
    State(locks): State<Locks>,
    _: RequireWorker,
    Path(resource): Path<LockName>,
    Json(request): Json<ExtendLockRequest>,
) -> Result<Json<LockResponse>, Problem> {
    let ttl = seconds("ttl_secs", request.ttl_secs, 1, locks.config().max_ttl)?;
    let token = parse_token(&request.token)?;
    let (fencing_token, expires_at) = locks.extend(&resource, token, ttl).await?;
    Ok(Json(LockResponse { resource: resource.to_string(), token, fencing_token, expires_at }))
}

/// Release a lock
#[utoipa::path(delete, path = "/api/v1/locks/{resource}", tag = "locks", security(("key" = ["worker"])),
    params(ReleaseLockRequest), responses((status = 204), (status = 409, description = "LOCK_LOST")))]
async fn release(
    State(locks): State<Locks>,
    _: RequireWorker,
    Path(resource): Path<LockName>,
    Query(request): Query<ReleaseLockRequest>,
) -> Result<StatusCode, Problem> {
    locks.release(&resource, parse_token(&request.token)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Validates a number of seconds; `name` is the field in the error.
fn seconds(name: &str, value: i64, min: u64, max: Duration) -> Result<Duration> {
    let max = max.as_secs();
    match u64::try_from(value) {
        Ok(secs) if (min..=max).contains(&secs) => Ok(Duration::from_secs(secs)),
        _ => Err(Error::Validation(format!("{name}: {value} is not between {min} and {max}"))),
    }
}

/// Accepts only the canonical spelling, because Redis compares tokens as strings.
fn parse_token(text: &str) -> Result<Uuid> {
    let token = Uuid::try_parse(text).ok().filter(|token| token.hyphenated().to_string() == text);
    token.ok_or_else(|| {
        Error::Validation(format!("token: {} is not a UUID of a lock", truncate_quoted(text)))
    })
}
