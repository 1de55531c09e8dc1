//! `/api/v1/locks/{resource}`: take, extend and release a lock.

use std::time::Duration;

use axum::{Router, extract::State, http::StatusCode, routing::post};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Locks, Wanted};
use crate::{
    auth::Worker,
    error::{Error, Result},
    http::{Json, Path, Problem, Query},
    ids::{Resource, quoted},
    state::AppState,
};

pub(crate) fn router() -> Router<AppState> {
    Router::new().route("/api/v1/locks/{resource}", post(acquire).patch(extend).delete(release))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLock {
    ttl_secs: i64,
    #[serde(default)]
    wait_secs: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extension {
    token: String,
    ttl_secs: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    token: String,
}

#[derive(Debug, Serialize)]
struct LockBody {
    resource: String,
    token: Uuid,
    /// Absent for a lock that another program took, by Redis itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing_token: Option<u64>,
    expires_at: DateTime<Utc>,
}

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
