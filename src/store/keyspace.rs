//! A keyspace: one numbered database of a server, or one partition of a cluster.

use std::future::Future;

use fred::{clients::Client, error::Error as FredError, types::Key};

use super::{
    database::Database,
    layout::{KeyLayout, Partition},
};
use crate::{
    error::Result,
    redis::{Backend, Idempotency, ReplicatedRoute, Route, call_with_retry, server_time},
};

/// Calls reach the server that has the keys at the time of each attempt.
#[derive(Clone, Copy)]
pub(crate) struct Keyspace<'a> {
    backend: &'a Backend,
    layout: &'a KeyLayout,
    database: Database,
    partition: Partition,
}

impl<'a> Keyspace<'a> {
    pub(super) fn new(
        backend: &'a Backend,
        layout: &'a KeyLayout,
        database: Database,
        partition: Partition,
    ) -> Self {
        Self { backend, layout, database, partition }
    }

    pub(crate) fn database(&self) -> Database {
        self.database
    }

    pub(crate) fn partition(&self) -> Partition {
        self.partition
    }

    /// The key with this name.
    pub(crate) fn key(&self, name: &str) -> Key {
        self.layout.key(self.partition, name)
    }

    /// The keys with these names.
    pub(super) fn keys(&self, names: Vec<Key>) -> Vec<Key> {
        if self.layout.is_multi_database() {
            return names;
        }
        names.iter().map(|name| self.key(&name.as_str_lossy())).collect()
    }

    pub(super) fn route(&self) -> Route<'a> {
        self.backend.route(self.database as usize, self.partition.index())
    }

    /// The route of writes that wait for replicas; `None` if the settings do not ask for that.
    pub(super) fn replicated_route(&self) -> Option<ReplicatedRoute<'a>> {
        self.backend.replicated_route(self.partition.index())
    }

    /// Sends `call`; Redis executes it at most once.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::RedisUnavailable`] when no connection is up or none answered in time.
    pub(crate) async fn call_once<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, FredError>> + Send,
    {
        call_with_retry(self.route(), Idempotency::NonIdempotent, call).await
    }

    /// Sends an idempotent `call`, and again if a failover loses its reply.
    ///
    /// # Errors
    ///
    /// See [`Keyspace::call_once`].
    pub(crate) async fn call_idempotent<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, FredError>> + Send,
    {
        call_with_retry(self.route(), Idempotency::Idempotent, call).await
    }

    /// The clock of all processes: the server's time in Unix milliseconds.
    ///
    /// # Errors
    ///
    /// See [`Keyspace::call_once`].
    pub(crate) async fn now_ms(&self) -> Result<u64> {
        call_with_retry(self.route(), Idempotency::Idempotent, server_time).await
    }
}
