//! `Image2Model`'s gateway: one Axum microservice in front of Redis.
//!
//! Jobs and who owns them, per-file progress, and events for browsers. `ARCHITECTURE.md` is the map.

mod app;
pub mod cli;
mod config;
mod offline;
mod router;
mod state;

mod auth;
mod cache;
mod celery;
mod counters;
mod demo;
mod health;
mod jobs;
mod locks;
mod maintenance;
mod models;
mod openapi;
mod progress;
mod rate_limit;
mod schema;
mod web;
mod webhooks;
mod workers;

mod http;
mod metrics;
mod redis;

mod error;
mod ids;
mod tasks;
mod telemetry;
mod traces;

pub use app::App;
pub use config::{Config, Deployment, Secret};
/// Of the inside, for bench/instructions alone.
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use progress::bench;
