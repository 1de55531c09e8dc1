//! `Image2Model`'s gateway: one Axum microservice in front of Redis.
//!
//! Jobs and who owns them, per-file progress, and events for browsers. `ARCHITECTURE.md` is the map.

mod app;
pub mod cli;
mod demo;

mod api;

mod config;

mod auth;
mod cache;
mod celery;
mod cleanup;
mod counters;
mod health;
mod jobs;
mod locks;
mod migrations;
mod models;
mod progress;
mod rate_limit;
mod sse;
mod webhooks;
mod workers;

mod store;

mod http;
mod redis;

mod error;
mod ids;
mod observability;
mod serde_integer;
mod settings;
mod tasks;

pub use app::App;
pub use config::Config;
pub use settings::{Environment, Secret};
/// Of the inside, for bench/instructions alone.
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use sse::bench_support as bench;
