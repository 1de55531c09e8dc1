//! The application state: one handle per component, each extractable by its type.

use std::{ops::Deref, sync::Arc};

use axum::extract::FromRef;

use crate::{
    auth::{ApiKeys, StreamTickets},
    cache::Cache,
    cleanup::Cleanup,
    counters::Counters,
    health::Health,
    jobs::Jobs,
    locks::Locks,
    migrations::Migrator,
    models::Models,
    observability::metrics::Metrics,
    progress::Progress,
    rate_limit::RateLimiter,
    sse::Hub,
    webhooks::Webhooks,
    workers::Workers,
};

/// The state that handlers share. Every layer clones it for every request, so a clone only increments one counter.
#[derive(Clone)]
pub(crate) struct AppState(Arc<StateFields>);

/// The handles of all components, each cheap to clone.
pub(crate) struct StateFields {
    pub(crate) keys: ApiKeys,
    pub(crate) tickets: StreamTickets,
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
    pub(crate) schema: Migrator,
    pub(crate) maintenance: Cleanup,
    /// `None` if Celery is disabled.
    pub(crate) workers: Option<Workers>,
}

impl AppState {
    pub(crate) fn new(handles: StateFields) -> Self {
        Self(Arc::new(handles))
    }
}

impl Deref for AppState {
    type Target = StateFields;

    fn deref(&self) -> &StateFields {
        &self.0
    }
}

macro_rules! impl_from_ref {
    ($($handle:ident: $type:ty,)+) => {$(
        impl FromRef<AppState> for $type {
            fn from_ref(state: &AppState) -> Self {
                state.$handle.clone()
            }
        }
    )+};
}

impl_from_ref! {
    keys: ApiKeys,
    tickets: StreamTickets,
    jobs: Jobs,
    progress: Progress,
    hub: Hub,
    counters: Counters,
    metrics: Arc<Metrics>,
    health: Health,
    limiter: RateLimiter,
    locks: Locks,
    cache: Cache,
    models: Models,
    webhooks: Webhooks,
    schema: Migrator,
    maintenance: Cleanup,
    workers: Option<Workers>,
}
