//! Extractors that authenticate the caller and require a role.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};

use crate::{
    api::{middleware::request::PrincipalName, problem::Problem},
    auth::{ApiKeys, Caller, Role},
    error::Error,
};

/// A caller with the role `client`.
pub(crate) struct RequireClient(pub(crate) Caller);

/// A caller with the role `worker`.
pub(crate) struct RequireWorker;

/// A caller with the role `client` or `admin`.
pub(crate) struct RequireClientOrAdmin(pub(crate) Caller);

/// A caller with the role `admin`.
pub(crate) struct RequireAdmin;

/// A caller with the role `client` or `worker`.
pub(crate) struct RequireReader(pub(crate) Caller);

impl<S> FromRequestParts<S> for Caller
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // `identify_caller` has already authenticated the request.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let key = api_key_from_headers(&parts.headers).ok_or(Error::Unauthenticated)?;
        let caller = ApiKeys::from_ref(state).authenticate(key)?;
        if let Some(principal) = parts.extensions.get::<PrincipalName>() {
            principal.set(caller.name.clone());
        }
        Ok(caller)
    }
}

/// The API key in `Authorization: Bearer KEY`, or else in `X-API-Key: KEY`.
fn api_key_from_headers(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let key = bearer.or_else(|| headers.get("x-api-key")?.to_str().ok());
    key.filter(|key| !key.is_empty())
}

/// The caller, if it has one of `roles`; `needed` names them in the error.
async fn require_role<S>(
    parts: &mut Parts,
    state: &S,
    roles: &[Role],
    needed: &'static str,
) -> Result<Caller, Problem>
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    let caller = Caller::from_request_parts(parts, state).await?;
    if roles.iter().any(|role| caller.has_role(*role)) {
        Ok(caller)
    } else {
        Err(Error::Forbidden { needed }.into())
    }
}

impl<S> FromRequestParts<S> for RequireClient
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        require_role(parts, state, &[Role::Client], "client").await.map(Self)
    }
}

impl<S> FromRequestParts<S> for RequireWorker
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        require_role(parts, state, &[Role::Worker], "worker").await.map(|_| Self)
    }
}

impl<S> FromRequestParts<S> for RequireClientOrAdmin
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        require_role(parts, state, &[Role::Client, Role::Admin], "client or admin").await.map(Self)
    }
}

impl<S> FromRequestParts<S> for RequireAdmin
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        require_role(parts, state, &[Role::Admin], "admin").await.map(|_| Self)
    }
}

impl<S> FromRequestParts<S> for RequireReader
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        require_role(parts, state, &[Role::Client, Role::Worker], "client or worker")
            .await
            .map(Self)
    }
}
