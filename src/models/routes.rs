//! `/api/v1/models/{model_id}`: cached model data.

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
    routing::get,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Models;
use crate::{
    auth::{Reader, Worker},
    cache::{Outcome, Terms},
    error::{Error, Result},
    http::{Json, Path, Problem, X_CACHE, cached_json},
    ids::{ModelId, Tag},
    state::AppState,
};

pub(crate) fn router() -> Router<AppState> {
    Router::new().route("/api/v1/models/{model_id}", get(show).put(store).delete(remove))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewModel {
    data: Box<RawValue>,
    ttl_secs: Option<i64>,
    /// How long after that it is still served, as stale.
    #[serde(default)]
    stale_secs: i64,
    /// Whether reading it makes it fresh for as long again.
    #[serde(default)]
    refresh_on_hit: bool,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, Serialize)]
struct StoredBody {
    model_id: String,
    fresh_until: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    tags: Vec<String>,
}

async fn show(
    State(models): State<Models>,
    _: Reader,
    Path(model): Path<ModelId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = models.get(&model).await?;
    let x_cache = found.outcome.as_str();
    let Some(entry) = found.entry else {
        let mut response = Problem::from(Error::ModelNotFound(model)).into_response();
        response.headers_mut().insert(X_CACHE, HeaderValue::from_static(x_cache));
        return Ok(response);
    };
    let max_age = entry.fresh_for.min(models.config().client_max_age).as_secs();
    let cache_control = match found.outcome {
        Outcome::Stale => "private, no-cache".to_owned(),
        Outcome::Hit | Outcome::Miss | Outcome::Negative => format!("private, max-age={max_age}"),
    };
    Ok(cached_json(&headers, entry.json, x_cache, &cache_control))
}

async fn store(
    State(models): State<Models>,
    _: Worker,
    Path(model): Path<ModelId>,
    Json(new): Json<NewModel>,
) -> Result<Json<StoredBody>, Problem> {
    let terms = terms(&models, &new)?;
    let [fresh_until, expires_at] =
        models.put(&model, Bytes::copy_from_slice(new.data.get().as_bytes()), &terms).await?;
    let tags = terms.tags.iter().map(Tag::to_string).collect();
    Ok(Json(StoredBody { model_id: model.to_string(), fresh_until, expires_at, tags }))
}

async fn remove(
    State(models): State<Models>,
    _: Worker,
    Path(model): Path<ModelId>,
) -> Result<StatusCode, Problem> {
    if models.remove(&model).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Error::ModelNotFound(model).into())
    }
}

fn terms(models: &Models, new: &NewModel) -> Result<Terms> {
    const MAX_TAGS: usize = 16;
    let config = models.config();
    let (size, max_size) = (new.data.get().len() as u64, config.max_size.as_u64());
    if size > max_size {
        return Err(Error::Invalid(format!("data: {size} bytes are more than {max_size}")));
    }
    if new.tags.len() > MAX_TAGS {
        return Err(Error::Invalid(format!("tags: {} are more than {MAX_TAGS}", new.tags.len())));
    }
    let most = config.max_ttl.as_secs();
    let secs = |name: &str, value: i64, least: u64| match u64::try_from(value) {
        Ok(it) if (least..=most).contains(&it) => Ok(Duration::from_secs(it)),
        _ => Err(Error::Invalid(format!("{name}: {value} is not between {least} and {most}"))),
    };
    Ok(Terms {
        ttl: new.ttl_secs.map_or(Ok(config.ttl), |it| secs("ttl_secs", it, 1))?,
        stale_for: secs("stale_secs", new.stale_secs, 0)?,
        slides: new.refresh_on_hit,
        tags: new.tags.iter().map(|it| it.parse()).collect::<Result<_>>()?,
    })
}
