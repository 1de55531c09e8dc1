//! `/api/v1/locks/{resource}`: take, extend and release a lock.

use std::time::Duration;

use axum::{extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    api::{
        extract::{Json, Path, Query, auth::Worker},
        problem::Problem,
        state::AppState,
    },
    error::{Error, Result},
    ids::{Resource, quoted},
    locks::{Locks, Wanted},
    serde_integer::whole,
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(acquire, extend, release))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewLock {
    /// At most `locks.max_ttl`.
    #[schema(minimum = 1, example = 30)]
    #[serde(deserialize_with = "whole")]
    ttl_secs: i64,
    /// How long to wait for it; at most `locks.max_wait`.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = 0, example = 0)]
    wait_secs: i64,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LockExtension)]
#[serde(deny_unknown_fields)]
struct Extension {
    #[schema(format = "uuid", example = "5f0c1d9e-8d0b-4a53-9a54-0f6f3c2b7a11")]
    token: String,
    /// The remaining time, from now on; at most `locks.max_ttl`.
    #[schema(minimum = 1, example = 30)]
    #[serde(deserialize_with = "whole")]
    ttl_secs: i64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Release {
    /// As the lock was granted with.
    #[param(format = "uuid", example = "5f0c1d9e-8d0b-4a53-9a54-0f6f3c2b7a11")]
    token: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lock)]
struct LockBody {
    #[schema(example = "job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")]
    resource: String,
    token: Uuid,
    /// Larger than that of every earlier holder.
    /// Absent for a lock that another program took, by Redis itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_700_000_000_000_000_u64)]
    fencing_token: Option<u64>,
    expires_at: DateTime<Utc>,
}

/// Take a lock
///
/// It ends with its TTL, whatever its holder does; the `fencing_token` lets what is written to under it refuse an
/// earlier holder. Who waits is woken by the release.
#[utoipa::path(post, path = "/api/v1/locks/{resource}", tag = "locks", security(("key" = ["worker"])),
    request_body = NewLock,
    responses(
        (status = 201, body = LockBody),
        (status = 409, description = "LOCK_UNAVAILABLE"),
        (status = 503, description = "SERVICE_BUSY"),
    ))]
async fn acquire(
    State(locks): State<Locks>,
    _: Worker,
    Path(resource): Path<Resource>,
    Json(new): Json<NewLock>,
) -> Result<(StatusCode, Json<LockBody>), Problem> {
    let config = locks.config();
    let ttl = seconds("ttl_secs", new.ttl_secs, 1, config.max_ttl)?;
    let wait = seconds("wait_secs", new.wait_secs, 0, config.max_wait)?;
    let held = locks.acquire(&Wanted { resource, ttl, wait }).await?;
    let body = LockBody {
        resource: held.resource.to_string(),
        token: held.token,
        fencing_token: Some(held.fencing_token),
        expires_at: held.expires_at,
    };
    Ok((StatusCode::CREATED, Json(body)))
}

/// Set the remaining time of a lock
#[utoipa::path(patch, path = "/api/v1/locks/{resource}", tag = "locks", security(("key" = ["worker"])),
    request_body = Extension,
    responses((status = 200, body = LockBody), (status = 409, description = "LOCK_LOST")))]
async fn extend(
    State(locks): State<Locks>,
    _: Worker,
    Path(resource): Path<Resource>,
    Json(extension): Json<Extension>,
) -> Result<Json<LockBody>, Problem> {
    let ttl = seconds("ttl_secs", extension.ttl_secs, 1, locks.config().max_ttl)?;
    let token = parse_token(&extension.token)?;
    let (fencing_token, expires_at) = locks.extend(&resource, token, ttl).await?;
    Ok(Json(LockBody { resource: resource.to_string(), token, fencing_token, expires_at }))
}

/// Give a lock back
#[utoipa::path(delete, path = "/api/v1/locks/{resource}", tag = "locks", security(("key" = ["worker"])),
    params(Release), responses((status = 204), (status = 409, description = "LOCK_LOST")))]
async fn release(
    State(locks): State<Locks>,
    _: Worker,
    Path(resource): Path<Resource>,
    Query(release): Query<Release>,
) -> Result<StatusCode, Problem> {
    locks.release(&resource, parse_token(&release.token)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whole seconds within what is allowed.
fn seconds(name: &str, secs: i64, least: u64, most: Duration) -> Result<Duration> {
    let most = most.as_secs();
    match u64::try_from(secs) {
        Ok(it) if (least..=most).contains(&it) => Ok(Duration::from_secs(it)),
        _ => Err(Error::Invalid(format!("{name}: {secs} is not between {least} and {most}"))),
    }
}

/// In the one spelling that stands in Redis.
fn parse_token(text: &str) -> Result<Uuid> {
    let token = Uuid::try_parse(text).ok().filter(|it| it.hyphenated().to_string() == text);
    token.ok_or_else(|| {
        Error::Invalid(format!("token: {} is not the token of a lock, a UUID", quoted(text)))
    })
}
