//! Authentication: API keys and their roles, and tickets with which a browser subscribes to the events of a job.

mod caller;
mod config;
pub(crate) mod key_admin;
mod key_cache;
mod key_refresher;
pub(crate) mod store;
mod ticket;

pub(crate) use self::{
    caller::Caller,
    config::{Config, Limits, Mode, Role},
    key_cache::ApiKeys,
    key_refresher::run_refresher,
    ticket::StreamTickets,
};
