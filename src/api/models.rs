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
        conditional::{X_CACHE, json_with_etag},
        extract::{
            Json, Path,
            auth::{RequireReader, RequireWorker},
        },
        problem::Problem,
        state::AppState,
    },
    cache::{CachePolicy, CacheStatus},
    error::{Error, Result},
    ids::{InvalidId, ModelId, Tag},
    models::Models,
    serde_integer::{lenient_int, lenient_int_opt},
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_model, put_model, remove))
}

/// The JSON that a worker stored, unchanged.
#[derive(ToSchema)]
#[schema(value_type = serde_json::Value)]
#[expect(dead_code, reason = "only describes the stored JSON in the OpenAPI document")]
struct ModelData(serde_json::Value);

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewModel)]
struct PutModelRequest {
    /// Any JSON, of at most `models.max_size`.
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    /// Time for which the model is fresh, at most `models.max_ttl`; default `models.ttl`.
    #[serde(default, deserialize_with = "lenient_int_opt")]
    #[schema(minimum = 1, example = 300)]
    ttl_secs: Option<i64>,
    /// Time after that for which the model is still served, as stale.
    #[serde(default, deserialize_with = "lenient_int")]
    #[schema(minimum = 0, example = 60)]
    stale_secs: i64,
    /// Whether each read restarts the time to live.
    #[serde(default)]
    #[schema(example = false)]
    refresh_on_hit: bool,
    /// Tags for invalidation.
    #[serde(default)]
    #[schema(value_type = Vec<crate::ids::Tag>, max_items = 16)]
    tags: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoredModel)]
struct StoredModelResponse {
    #[schema(example = "chair-1")]
    model_id: String,
    fresh_until: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    #[schema(example = json!(["job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"]))]
    tags: Vec<String>,
}

/// Read a model
///
/// A missing model is fetched from `models.origin` if that is set, once for all concurrent requests.
#[utoipa::path(get, path = "/api/v1/models/{model_id}", operation_id = "show", tag = "models",
    security(("key" = ["client", "worker"])),
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the previous response.")),
    responses(
        (status = 200, body = ModelData, headers(
            ("ETag" = String, description = "Entity tag of this model."),
            ("X-Cache" = String, description = "`hit`, `stale` or `miss`; with 404 `miss` or `negative`."),
        )),
        (status = 304),
        (status = 404, description = "MODEL_NOT_FOUND"),
        (status = 502, description = "ORIGIN_FAILED"),
    ))]
async fn get_model(
    State(models): State<Models>,
    _: RequireReader,
    Path(model): Path<ModelId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let lookup = models.get(&model).await?;
    let x_cache = lookup.outcome.as_str();
    let Some(entry) = lookup.entry else {
        let mut response = Problem::from(Error::ModelNotFound(model)).into_response();
        response.headers_mut().insert(X_CACHE, HeaderValue::from_static(x_cache));
        return Ok(response);
    };
    let max_age = entry.fresh_for.min(models.config().client_max_age).as_secs();
    let cache_control = match lookup.outcome {
        CacheStatus::Stale => "private, no-cache".to_owned(),
        CacheStatus::Hit | CacheStatus::Miss | CacheStatus::Negative => {
            format!("private, max-age={max_age}")
        }
    };
    Ok(json_with_etag(&headers, entry.json, x_cache, &cache_control))
}

/// Store a model
#[utoipa::path(put, path = "/api/v1/models/{model_id}", operation_id = "store", tag = "models",
    security(("key" = ["worker"])), request_body = PutModelRequest,
    responses((status = 200, body = StoredModelResponse)))]
async fn put_model(
    State(models): State<Models>,
    _: RequireWorker,
    Path(model): Path<ModelId>,
    Json(request): Json<PutModelRequest>,
) -> Result<Json<StoredModelResponse>, Problem> {
    let policy = cache_policy(&models, &request)?;
    let json = Bytes::copy_from_slice(request.data.get().as_bytes());
    let [fresh_until, expires_at] = models.put(&model, json, &policy).await?;
    let tags = policy.tags.iter().map(Tag::to_string).collect();
    Ok(Json(StoredModelResponse { model_id: model.to_string(), fresh_until, expires_at, tags }))
}

/// Remove a model
#[utoipa::path(delete, path = "/api/v1/models/{model_id}", tag = "models", security(("key" = ["worker"])),
    responses((status = 204), (status = 404, description = "MODEL_NOT_FOUND")))]
async fn remove(
    State(models): State<Models>,
    _: RequireWorker,
    Path(model): Path<ModelId>,
) -> Result<StatusCode, Problem> {
    if models.remove(&model).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Error::ModelNotFound(model).into())
    }
}

/// Validates a request and returns the cache policy of the model.
fn cache_policy(models: &Models, request: &PutModelRequest) -> Result<CachePolicy> {
    const MAX_TAGS: usize = 16;
    let config = models.config();
    let (size, max_size) = (request.data.get().len() as u64, config.max_size.as_u64());
    if size > max_size {
        return Err(Error::Validation(format!("data: {size} bytes are more than {max_size}")));
    }
    if request.tags.len() > MAX_TAGS {
        let count = request.tags.len();
        return Err(Error::Validation(format!("tags: {count} are more than {MAX_TAGS}")));
    }
    let max = config.max_ttl.as_secs();
    let seconds = |name: &str, value: i64, min: u64| match u64::try_from(value) {
        Ok(secs) if (min..=max).contains(&secs) => Ok(Duration::from_secs(secs)),
        _ => Err(Error::Validation(format!("{name}: {value} is not between {min} and {max}"))),
    };
    Ok(CachePolicy {
        ttl: request.ttl_secs.map_or(Ok(config.ttl), |ttl| seconds("ttl_secs", ttl, 1))?,
        stale_for: seconds("stale_secs", request.stale_secs, 0)?,
        slides: request.refresh_on_hit,
        tags: request.tags.iter().map(|tag| tag.parse()).collect::<Result<_, InvalidId>>()?,
    })
}
