//! The small status of a job: what pollers ask for, cached in `cache:status:{job_id}` and dropped by every change.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use fred::types::Value;

use super::Jobs;
use crate::{
    auth::{Caller, Reader},
    error::{Error, Result},
    http::{Path, Problem},
    ids::{JobId, Sha256Hex},
    redis::Script,
    state::AppState,
};

static STATUS: Script = Script::about_job(include_str!("../../migrations-lua/jobs/status.lua"));

pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/jobs/{job_id}/status", get(show))
        // The deployed front-end's name for the same.
        .route("/api/v1/status/tasks/{job_id}/status", get(show))
}

/// A status as JSON text.
struct CachedStatus {
    json: String,
    is_hit: bool,
}

impl Jobs {
    /// The small status of a job as far as it is `caller`'s business: one round trip.
    async fn cached_status(&self, caller: &Caller, id: JobId) -> Result<CachedStatus> {
        let ttl_secs = self.config.status_cache_ttl.as_secs().max(1);
        let args = vec![Value::from(ttl_secs.to_string())];
        let answer: Value = STATUS.run_on_job(&self.redis, id, self.retention, args).await?;
        let mut parts = answer.into_array().into_iter();
        let mut next = || parts.next().unwrap_or(Value::Null);
        let outcome = next().as_string().unwrap_or_default();
        if outcome == "missing" {
            return Err(Error::JobNotFound(id));
        }
        let json = next().as_string().unwrap_or_default();
        let owner: Vec<Option<String>> = next().convert()?;
        let owner = owner.into_iter().flatten().next().and_then(|it| Sha256Hex::try_from(it).ok());
        if !caller.may_see(owner.as_ref()) {
            return Err(Error::JobNotFound(id));
        }
        let (is_hit, cache) = (outcome == "hit", &self.redis.metrics().cache);
        if is_hit {
            cache.hit.inc()
        } else {
            cache.miss.inc()
        };
        Ok(CachedStatus { json, is_hit })
    }
}

async fn show(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path(id): Path<JobId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
    let status = jobs.cached_status(&caller, id).await?;
    let etag = format!("\"{}\"", Sha256Hex::of(&status.json).short());
    let known =
        headers.get(header::IF_NONE_MATCH).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let is_known = known.split(',').any(|it| it.trim().trim_start_matches("W/") == etag);
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], status.json).into_response()
    };
    let cache = HeaderValue::from_static(if status.is_hit { "hit" } else { "miss" });
    response.headers_mut().insert(X_CACHE, cache);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}
