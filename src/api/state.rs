//! The handles that a handler may ask for, each by its own type.

use std::{ops::Deref, sync::Arc};

use axum::extract::FromRef;

use crate::{
    auth::{ApiKeys, Tickets},
    cache::Cache,
    cleanup::Maintenance,
    counters::Counters,
    health::Health,
    jobs::Jobs,
    locks::Locks,
    migrations::Schema,
    models::Models,
    observability::metrics::Metrics,
    progress::Progress,
    rate_limit::RateLimiter,
    sse::Hub,
    webhooks::Webhooks,
    workers::Workers,
};

/// Everything that handlers share. Every layer of every request has one, so a clone is one count more.
#[derive(Clone)]
pub(crate) struct AppState(Arc<Handles>);

/// The handles, each cheap to clone.
pub(crate) struct Handles {
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

impl AppState {
    pub(crate) fn new(handles: Handles) -> Self {
        Self(Arc::new(handles))
    }
}

impl Deref for AppState {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

macro_rules! hand_out {
    ($($handle:ident: $type:ty,)+) => {$(
        impl FromRef<AppState> for $type {
            fn from_ref(state: &AppState) -> Self {
                state.$handle.clone()
            }
        }
    )+};
}

hand_out! {
    keys: ApiKeys,
    tickets: Tickets,
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
    schema: Schema,
    maintenance: Maintenance,
    workers: Option<Workers>,
}
