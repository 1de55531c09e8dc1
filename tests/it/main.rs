//! Everything that needs the real service and a real Redis, in one binary.

mod harness;

mod config;
mod edges;
mod embedded;
mod jobs;
mod keys;
mod outage;
mod shutdown;
mod stream;
