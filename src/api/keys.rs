//! `/api/v1/key`: what the presented key may do. `/api/v1/admin/keys`: make, show, limit and revoke keys.

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

use super::extract::auth::Admin;
use crate::{
    api::{
        extract::{Json, Path},
        problem::Problem,
        state::AppState,
    },
    auth::{ApiKeys, Caller, Limits, Role, key_admin::Order, store::StoredKey},
    error::Error,
    ids::KeyId,
    serde_integer::whole,
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(own))
        .routes(routes!(list, create))
        .routes(routes!(limit, revoke))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OwnKey)]
struct OwnBody {
    /// The key's name; with `auth.mode = "open"` the first digits of its hash.
    #[schema(example = "upload-api")]
    name: String,
    #[schema(example = json!(["client"]))]
    roles: Vec<Role>,
}

/// Read whose key this is, and what it may do
#[utoipa::path(get, path = "/api/v1/key", tag = "keys", security(("key" = ["client", "worker", "admin"])),
    responses((status = 200, body = OwnBody)))]
async fn own(caller: Caller) -> Json<OwnBody> {
    Json(OwnBody { name: caller.name.to_string(), roles: caller.roles.to_vec() })
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "upload-api", "roles": ["client"], "limits": {"key": 60000}}))]
struct NewKeyBody {
    /// Who gets it; two keys may have one name, so that they can be rotated.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    name: String,
    roles: Vec<Role>,
    /// Other limits than those of the policies, by their names.
    #[serde(default, deserialize_with = "whole_limits")]
    #[schema(value_type = BTreeMap<String, u32>)]
    limits: Limits,
}

#[derive(Serialize, ToSchema)]
struct CreatedBody<'a> {
    /// The key's first characters, by which operators name it.
    #[schema(value_type = String, example = "i2m_Ab12Cd34")]
    id: &'a KeyId,
    /// Shown this once.
    #[schema(example = "i2m_Ab12Cd34Ef56Gh78Ij90Kl12Mn34Op56Qr78St90Uvw")]
    key: &'a str,
}

#[derive(Debug, Serialize, ToSchema)]
struct KeysBody {
    keys: Vec<KeyBody>,
}

#[derive(Debug, Serialize, ToSchema)]
struct KeyBody {
    /// The key's first characters. A key of the settings has none that anybody knows.
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

impl From<StoredKey> for KeyBody {
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

pub(crate) fn rfc3339(unix_secs: i64) -> Option<String> {
    let time = DateTime::from_timestamp(unix_secs, 0)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Make a key
///
/// Only its hash is kept, so this answer is the only one that shows it.
#[utoipa::path(post, path = "/api/v1/admin/keys", tag = "admin", security(("key" = ["admin"])),
    request_body = NewKeyBody, responses(
        (status = 201, body = CreatedBody), (status = 409, description = "TOO_MANY_KEYS")))]
async fn create(
    State(state): State<AppState>,
    _: Admin,
    Json(new): Json<NewKeyBody>,
) -> Result<Response, Problem> {
    let limits = checked(&state, new.limits)?;
    let order = Order { name: new.name, roles: new.roles, limits };
    let new = state.keys.create(order).await?;
    let body = Json(CreatedBody { id: &new.id, key: new.key.expose_secret() });
    let mut response = (StatusCode::CREATED, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/admin/keys/{}", new.id)) {
        headers.insert(header::LOCATION, location);
    }
    Ok(response)
}

/// List all keys, those of the settings too
#[utoipa::path(get, path = "/api/v1/admin/keys", tag = "admin", security(("key" = ["admin"])),
    responses((status = 200, body = KeysBody)))]
async fn list(State(keys): State<ApiKeys>, _: Admin) -> Result<Json<KeysBody>, Problem> {
    let configured = keys.configured().keys.into_iter().map(|it| KeyBody {
        id: None,
        name: it.name,
        roles: it.roles,
        limits: it.limits,
        source: "configured",
        created_at: None,
        last_used_at: None,
    });
    let stored = keys.list().await?;
    Ok(Json(KeysBody { keys: configured.chain(stored.into_iter().map(KeyBody::from)).collect() }))
}

/// Limits, each a whole number of at least 1.
fn whole_limits<'de, D: Deserializer<'de>>(json: D) -> Result<Limits, D::Error> {
    #[derive(Deserialize)]
    struct Whole(#[serde(deserialize_with = "whole")] u32);

    let given = BTreeMap::<String, Whole>::deserialize(json)?;
    let limits = given.into_iter().map(|(policy, Whole(limit))| {
        let limit = NonZeroU32::new(limit).ok_or_else(|| {
            D::Error::custom(format_args!("{policy}: a limit is a whole number of at least 1"))
        })?;
        Ok((policy, limit))
    });
    limits.collect()
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LimitsBody {
    /// By policy; what is left out has the policy's.
    #[serde(deserialize_with = "whole_limits")]
    #[schema(value_type = BTreeMap<String, u32>, example = json!({"key": 60000}))]
    limits: Limits,
}

#[derive(Debug, Serialize, ToSchema)]
struct LimitedBody {
    #[schema(value_type = String, example = "i2m_Ab12Cd34")]
    id: KeyId,
    #[schema(value_type = BTreeMap<String, u32>, example = json!({"key": 60000}))]
    limits: Limits,
}

/// Give a key these limits in place of those that it has
#[utoipa::path(patch, path = "/api/v1/admin/keys/{key_id}", tag = "admin", security(("key" = ["admin"])),
    request_body = LimitsBody, responses((status = 200, body = LimitedBody)))]
async fn limit(
    State(state): State<AppState>,
    _: Admin,
    Path(id): Path<KeyId>,
    Json(body): Json<LimitsBody>,
) -> Result<Json<LimitedBody>, Problem> {
    let limits = checked(&state, body.limits)?;
    state.keys.limit(&id, &limits).await?;
    Ok(Json(LimitedBody { id, limits }))
}

/// Shut a key out, on every node within a second
#[utoipa::path(delete, path = "/api/v1/admin/keys/{key_id}", tag = "admin", security(("key" = ["admin"])),
    responses((status = 204)))]
async fn revoke(
    State(keys): State<ApiKeys>,
    _: Admin,
    Path(id): Path<KeyId>,
) -> Result<StatusCode, Problem> {
    keys.revoke(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn checked(state: &AppState, limits: Limits) -> Result<Limits, Problem> {
    match state.limiter.check_limits(&limits) {
        Ok(()) => Ok(limits),
        Err(error) => Err(Error::Invalid(format!("limits: {error:#}")).into()),
    }
}
