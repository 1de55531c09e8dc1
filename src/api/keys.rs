//! `/api/v1/key`: the name and roles of the presented key. `/api/v1/admin/keys`: create, list, limit and revoke keys.

use std::{collections::BTreeMap, num::NonZeroU32};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, SecondsFormat};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        extract::{Json, Path, auth::RequireAdmin},
        problem::Problem,
        state::AppState,
    },
    auth::{ApiKeys, Caller, Limits, Role, key_admin::NewApiKey, store::StoredKey},
    error::Error,
    ids::KeyId,
    serde_integer::lenient_int,
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(get_own_key))
        .routes(routes!(list, create))
        .routes(routes!(limit, revoke))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OwnKey)]
struct OwnKeyResponse {
    /// Name of the key; with `auth.mode = "open"` the first digits of its hash.
    #[schema(example = "upload-api")]
    name: String,
    #[schema(example = json!(["client"]))]
    roles: Vec<Role>,
}

/// Read the name and roles of the presented key
#[utoipa::path(get, path = "/api/v1/key", operation_id = "own", tag = "keys",
    security(("key" = ["client", "worker", "admin"])), responses((status = 200, body = OwnKeyResponse)))]
async fn get_own_key(caller: Caller) -> Json<OwnKeyResponse> {
    Json(OwnKeyResponse { name: caller.name.to_string(), roles: caller.roles.to_vec() })
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKeyBody, example = json!({"name": "upload-api", "roles": ["client"], "limits": {"key": 60000}}))]
struct CreateKeyRequest {
    /// Name of the client; two keys may have the same name, so that a key can be rotated.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    name: String,
    roles: Vec<Role>,
    /// Limits that replace the limits of the policies, by policy name.
    #[serde(default, deserialize_with = "whole_limits")]
    #[schema(value_type = BTreeMap<String, u32>)]
    limits: Limits,
}

#[derive(Serialize, ToSchema)]
#[schema(as = CreatedBody)]
struct CreateKeyResponse<'a> {
    /// First characters of the key, which identify it.
    #[schema(value_type = String, example = "i2m_Ab12Cd34")]
    id: &'a KeyId,
    /// The key. No later response contains it.
    #[schema(example = "i2m_Ab12Cd34Ef56Gh78Ij90Kl12Mn34Op56Qr78St90Uvw")]
    key: &'a str,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeysBody)]
struct KeysResponse {
    keys: Vec<KeyResponse>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyBody)]
struct KeyResponse {
    /// First characters of the key; absent for keys from the settings, of which only the hash is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "i2m_Ab12Cd34")]
    id: Option<KeyId>,
    name: String,
    roles: Vec<Role>,
    #[schema(value_type = BTreeMap<String, u32>, example = json!({"key": 60000}))]
    limits: Limits,
    /// `stored` or `configured`.
    #[schema(example = "stored")]
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-11-23T00:58:58Z")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-11-23T00:58:58Z")]
    last_used_at: Option<String>,
}

impl From<StoredKey> for KeyResponse {
    fn from(key: StoredKey) -> Self {
        Self {
            id: Some(key.id),
            name: key.record.name,
            roles: key.record.roles,
            limits: key.record.limits,
            source: "stored",
            created_at: rfc3339(key.record.created_at),
            last_used_at: key.used_at.and_then(rfc3339),
        }
    }
}

/// The time in RFC 3339 with second precision, or `None` if it is out of range.
pub(crate) fn rfc3339(unix_secs: i64) -> Option<String> {
    let time = DateTime::from_timestamp(unix_secs, 0)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Create a key
///
/// The service stores only the hash of the key, so only this response contains the key.
#[utoipa::path(post, path = "/api/v1/admin/keys", tag = "admin", security(("key" = ["admin"])),
    request_body = CreateKeyRequest, responses(
        (status = 201, body = CreateKeyResponse), (status = 409, description = "TOO_MANY_KEYS")))]
async fn create(
    State(state): State<AppState>,
    _: RequireAdmin,
    Json(request): Json<CreateKeyRequest>,
) -> Result<Response, Problem> {
    let limits = validated_limits(&state, request.limits)?;
    let new_key = NewApiKey { name: request.name, roles: request.roles, limits };
    let created = state.keys.create(new_key).await?;
    let body = Json(CreateKeyResponse { id: &created.id, key: created.key.expose_secret() });
    let mut response = (StatusCode::CREATED, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/admin/keys/{}", created.id)) {
        headers.insert(header::LOCATION, location);
    }
    Ok(response)
}

/// List all keys, including keys from the settings
#[utoipa::path(get, path = "/api/v1/admin/keys", tag = "admin", security(("key" = ["admin"])),
    responses((status = 200, body = KeysResponse)))]
async fn list(State(keys): State<ApiKeys>, _: RequireAdmin) -> Result<Json<KeysResponse>, Problem> {
    let configured = keys.configured().keys.into_iter().map(|key| KeyResponse {
        id: None,
        name: key.name,
        roles: key.roles,
        limits: key.limits,
        source: "configured",
        created_at: None,
        last_used_at: None,
    });
    let stored = keys.list().await?;
    let keys = configured.chain(stored.into_iter().map(KeyResponse::from)).collect();
    Ok(Json(KeysResponse { keys }))
}

/// Deserializes limits, each an integer of at least 1.
fn whole_limits<'de, D: Deserializer<'de>>(json: D) -> Result<Limits, D::Error> {
    #[derive(Deserialize)]
    struct Whole(#[serde(deserialize_with = "lenient_int")] u32);

    let limits = BTreeMap::<String, Whole>::deserialize(json)?;
    let limits = limits.into_iter().map(|(policy, Whole(limit))| {
        let limit = NonZeroU32::new(limit).ok_or_else(|| {
            D::Error::custom(format_args!("{policy}: a limit must be an integer of at least 1"))
        })?;
        Ok((policy, limit))
    });
    limits.collect()
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LimitsBody)]
struct SetLimitsRequest {
    /// Limits by policy name; a policy that is not listed keeps its own limit.
    #[serde(deserialize_with = "whole_limits")]
    #[schema(value_type = BTreeMap<String, u32>, example = json!({"key": 60000}))]
    limits: Limits,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LimitedBody)]
struct SetLimitsResponse {
    #[schema(value_type = String, example = "i2m_Ab12Cd34")]
    id: KeyId,
    #[schema(value_type = BTreeMap<String, u32>, example = json!({"key": 60000}))]
    limits: Limits,
}

/// Replace the limits of a key
#[utoipa::path(patch, path = "/api/v1/admin/keys/{key_id}", tag = "admin", security(("key" = ["admin"])),
    request_body = SetLimitsRequest, responses((status = 200, body = SetLimitsResponse)))]
async fn limit(
    State(state): State<AppState>,
    _: RequireAdmin,
    Path(id): Path<KeyId>,
    Json(request): Json<SetLimitsRequest>,
) -> Result<Json<SetLimitsResponse>, Problem> {
    let limits = validated_limits(&state, request.limits)?;
    state.keys.limit(&id, &limits).await?;
    Ok(Json(SetLimitsResponse { id, limits }))
}

/// Revoke a key, in all processes within a second
#[utoipa::path(delete, path = "/api/v1/admin/keys/{key_id}", tag = "admin", security(("key" = ["admin"])),
    responses((status = 204)))]
async fn revoke(
    State(keys): State<ApiKeys>,
    _: RequireAdmin,
    Path(id): Path<KeyId>,
) -> Result<StatusCode, Problem> {
    keys.revoke(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn validated_limits(state: &AppState, limits: Limits) -> Result<Limits, Problem> {
    match state.limiter.validate_limits(&limits) {
        Ok(()) => Ok(limits),
        Err(error) => Err(Error::Validation(format!("limits: {error:#}")).into()),
    }
}
