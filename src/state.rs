//! The handles that a handler may ask for, each by its own type.

use axum::extract::FromRef;

use crate::{
    auth::{ApiKeys, Tickets},
    cache::Cache,
    health::Health,
    jobs::Jobs,
    locks::Locks,
    models::Models,
    progress::{Hub, Progress},
    rate_limit::RateLimiter,
    workers::Workers,
};

/// Everything that handlers share. Cheap to clone.
#[derive(Clone, FromRef)]
pub(crate) struct AppState {
    pub(crate) keys: ApiKeys,
    pub(crate) tickets: Tickets,
    pub(crate) jobs: Jobs,
    pub(crate) progress: Progress,
    pub(crate) hub: Hub,
    pub(crate) health: Health,
    pub(crate) limiter: RateLimiter,
    pub(crate) locks: Locks,
    pub(crate) cache: Cache,
    pub(crate) models: Models,
    /// Absent where jobs are not handed to Celery.
    pub(crate) workers: Option<Workers>,
}
