//! The gateway of `Image2Model`: one axum microservice in front of Redis.
//!
//! It stores jobs and their owners, records progress per file, and streams events to browsers. `ARCHITECTURE.md`
//! describes the modules.

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
/// Internals, for `bench/instructions` only.
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use sse::bench_support as bench;
