//! The handles that a handler may ask for, each by its own type.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::{
    auth::{ApiKeys, Tickets},
    cache::Cache,
    counters::Counters,
    health::Health,
    jobs::Jobs,
    locks::Locks,
    maintenance::Maintenance,
    metrics::Metrics,
    models::Models,
    progress::{Hub, Progress},
    rate_limit::RateLimiter,
    schema::Schema,
    webhooks::Webhooks,
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
    pub(crate) counters: Counters,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) limiter: RateLimiter,
    pub(crate) locks: Locks,
    pub(crate) cache: Cache,
    pub(crate) models: Models,
    pub(crate) webhooks: Webhooks,
    pub(crate) schema: Schema,
    pub(crate) maintenance: Maintenance,
    /// Absent where jobs are not handed to Celery.
    pub(crate) workers: Option<Workers>,
}
