//! `/api/v1/models/{model_id}`: cached model data.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        conditional::{X_CACHE, cached_json},
        extract::{
            Json, Path,
            auth::{Reader, Worker},
        },
        problem::Problem,
        state::AppState,
    },
    cache::{Outcome, Terms},
    error::{Error, Result},
    ids::{InvalidId, ModelId, Tag},
    models::Models,
    serde_integer::{maybe_whole, whole},
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show, store, remove))
}

/// What a worker stored, as it is.
#[derive(ToSchema)]
#[schema(value_type = serde_json::Value)]
#[expect(dead_code, reason = "it is passed on as text; this describes it")]
struct ModelData(serde_json::Value);

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewModel {
    /// Any JSON, of at most `models.max_size`.
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    /// How long it is fresh, at most `models.max_ttl`; without it `models.ttl`.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 1, example = 300)]
    ttl_secs: Option<i64>,
    /// How long after that it is still served, as stale.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = 0, example = 60)]
    stale_secs: i64,
    /// Whether reading it makes it fresh for as long again.
    #[serde(default)]
    #[schema(example = false)]
    refresh_on_hit: bool,
    /// With which it is invalidated.
    #[serde(default)]
    #[schema(value_type = Vec<crate::ids::Tag>, max_items = 16)]
    tags: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoredModel)]
struct StoredBody {
    #[schema(example = "chair-1")]
    model_id: String,
    fresh_until: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    #[schema(example = json!(["job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"]))]
    tags: Vec<String>,
}

/// Read a model
///
/// What is missing is fetched from `models.origin`, if that is set, once for all who ask.
#[utoipa::path(get, path = "/api/v1/models/{model_id}", tag = "models", security(("key" = ["client", "worker"])),
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the last answer.")),
    responses(
        (status = 200, body = ModelData, headers(
            ("ETag" = String, description = "Of this model."),
            ("X-Cache" = String, description = "`hit`, `stale` or `miss`; with 404 `miss` or `negative`."),
        )),
        (status = 304),
        (status = 404, description = "MODEL_NOT_FOUND"),
        (status = 502, description = "ORIGIN_FAILED"),
    ))]
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

/// Store a model
#[utoipa::path(put, path = "/api/v1/models/{model_id}", tag = "models", security(("key" = ["worker"])),
    request_body = NewModel, responses((status = 200, body = StoredBody)))]
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

/// Remove a model
#[utoipa::path(delete, path = "/api/v1/models/{model_id}", tag = "models", security(("key" = ["worker"])),
    responses((status = 204), (status = 404, description = "MODEL_NOT_FOUND")))]
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
        tags: new.tags.iter().map(|it| it.parse()).collect::<Result<_, InvalidId>>()?,
    })
}
