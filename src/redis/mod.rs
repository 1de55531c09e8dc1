//! A general Redis layer on fred: supervised connections to one server, to a primary that sentinels name, or to a
//! cluster; scripts, publish/subscribe, reads from replicas and replicated writes. It knows nothing
//! about the stored data.
//!
//! Every call is bounded; see `call`. Redis may have executed a call that was abandoned; see `docs/REDIS.md`.

mod backend;
mod call;
mod call_error;
mod cluster;
mod config;
mod connect;
mod database;
mod embedded;
mod endpoint;
mod eviction;
mod hash_slot;
mod one_shot;
mod pool;
mod pubsub_notify;
mod replicas;
mod replicated_write;
mod script;
mod sentinel;
mod subscriber;
mod supervised_connection;
mod tls;

pub(crate) use self::{
    backend::{Backend, Usage},
    call::{ReplicatedRoute, Route, call_with_retry, server_time},
    call_error::Idempotency,
    config::{Config, Mode},
    database::DatabaseId,
    endpoint::Endpoint,
    eviction::spawn_check as spawn_eviction_check,
    hash_slot::hash_slot,
    pool::Pool,
    pubsub_notify::{ChannelWaiter, PubSubNotifier},
    replicas::{ReplicaReport, Replicas},
    script::LuaScript,
    subscriber::{PubSubEvent, Subscriber},
    supervised_connection::is_alive_reply,
};
