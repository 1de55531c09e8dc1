//! Who may call: API keys and their roles, and tickets that let a browser follow a job.

pub(crate) mod command;
mod config;
mod extract;
mod keyring;
mod keys;
pub(crate) mod routes;
mod store;
mod ticket;
mod watch;

pub(crate) use self::{
    config::{Config, Limits, Mode, Role},
    extract::{Admin, Caller, Client, ClientOrAdmin, Reader, Worker},
    keyring::ApiKeys,
    ticket::Tickets,
    watch::watch,
};
