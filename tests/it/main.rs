//! All tests that need the real service and a real Redis, in one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

mod access_keys;
mod backup;
mod browser;
mod brute_force;
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
mod doc_examples;
mod embedded;
mod health;
mod jobs;
mod lifecycle;
mod lock_guard;
mod locks;
mod metrics;
mod model_origin;
mod models;
mod openapi;
mod outage;
mod promql;
mod property;
mod python;
mod rate_limit;
mod rate_limit_callers;
mod rate_limit_outage;
mod redis_layout;
mod replicas;
mod round_trips;
mod schema;
mod seed_defects;
mod sentinel;
mod sentinel_failover_features;
mod sentinel_replies;
mod shutdown;
mod slow_clients;
mod stream;
mod stream_disconnects;
mod stream_variants;
mod traces;
mod upgrade;
mod validation;
mod webhooks;
