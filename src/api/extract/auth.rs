//! The authenticated caller, as an argument of handlers.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};

use crate::{
    api::{middleware::request::CallerLabel, problem::Problem},
    auth::{ApiKeys, Caller, Role},
    error::Error,
};

/// A caller with the role `client`.
pub(crate) struct Client(pub(crate) Caller);

/// A caller with the role `worker`.
pub(crate) struct Worker;

/// A caller with the role `client` or `admin`.
pub(crate) struct ClientOrAdmin(pub(crate) Caller);

/// A caller with the role `admin`.
pub(crate) struct Admin;

/// A caller with the role `client` or `worker`.
pub(crate) struct Reader(pub(crate) Caller);

impl<S> FromRequestParts<S> for Caller
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // The rate limit has asked before.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let key = presented_key(&parts.headers).ok_or(Error::Unauthenticated)?;
        let caller = ApiKeys::from_ref(state).identify(key)?;
        if let Some(label) = parts.extensions.get::<CallerLabel>() {
            label.set(caller.name.clone());
        }
        Ok(caller)
    }
}

/// The key of a request: `Authorization: Bearer KEY`, else `X-API-Key: KEY`.
fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let bearer =
        headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok()).and_then(|it| {
            let (scheme, key) = it.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
    let key = bearer.or_else(|| headers.get("x-api-key")?.to_str().ok());
    key.filter(|it| !it.is_empty())
}

async fn caller_with<S>(
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
    if roles.iter().any(|it| caller.is(*it)) {
        Ok(caller)
    } else {
        Err(Error::Forbidden { needed }.into())
    }
}

impl<S> FromRequestParts<S> for Client
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        caller_with(parts, state, &[Role::Client], "client").await.map(Self)
    }
}

impl<S> FromRequestParts<S> for Worker
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        caller_with(parts, state, &[Role::Worker], "worker").await.map(|_| Self)
    }
}

impl<S> FromRequestParts<S> for ClientOrAdmin
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        caller_with(parts, state, &[Role::Client, Role::Admin], "client or admin").await.map(Self)
    }
}

impl<S> FromRequestParts<S> for Admin
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        caller_with(parts, state, &[Role::Admin], "admin").await.map(|_| Self)
    }
}

impl<S> FromRequestParts<S> for Reader
where
    ApiKeys: FromRef<S>,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        caller_with(parts, state, &[Role::Client, Role::Worker], "client or worker").await.map(Self)
    }
}
