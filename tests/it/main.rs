//! Everything that needs the real service and a real Redis, in one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

mod access_keys;
mod attacks;
mod backup;
mod browser;
mod cache;
mod celery;
mod chaos;
mod cleanup;
mod cleanup_load;
mod cli;
mod cluster;
mod config;
mod connection;
mod containers;
mod counters;
mod documents;
mod edges;
mod embedded;
mod hardening;
mod health;
mod jobs;
mod keys;
mod lifecycle;
mod lock_guard;
mod locks;
mod metrics;
mod model_origin;
mod models;
mod openapi;
mod outage;
mod property;
mod python;
mod queries;
mod rate_limit;
mod rate_limit_callers;
mod rate_limit_outage;
mod replicas;
mod round_trips;
mod schema;
mod seed_defects;
mod sentinel;
mod sentinel_answers;
mod sentinel_features;
mod shutdown;
mod stream;
mod stream_cuts;
mod stream_kinds;
mod traces;
mod upgrade;
mod webhooks;
