//! Where what belongs together stands: a database of a server, or a partition of a cluster.

use std::{future::Future, sync::Arc};

use fred::{
    clients::Client,
    error::Error as FredError,
    types::{Key, Value, scripts::Script as Loaded},
};

use super::{
    Database, Home, Partition, Redis,
    cluster::Primary,
    server::{Failure, Twice, ask_time},
};
use crate::error::{Error, Result};

/// Calls made on it reach whichever server has it at the time.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    redis: &'a Redis,
    database: Database,
    partition: Partition,
}

impl<'a> Place<'a> {
    pub(super) fn new(redis: &'a Redis, database: Database, partition: Partition) -> Self {
        Self { redis, database, partition }
    }

    pub(crate) fn database(&self) -> Database {
        self.database
    }

    pub(crate) fn partition(&self) -> Partition {
        self.partition
    }

    /// The key with this name.
    pub(crate) fn key(&self, name: &str) -> Key {
        self.redis.0.layout.key(self.partition, name)
    }

    /// The keys with these names.
    pub(super) fn keys(&self, names: Vec<Key>) -> Vec<Key> {
        if self.redis.0.layout.is_numbered() {
            return names;
        }
        names.iter().map(|it| self.key(&it.as_str_lossy())).collect()
    }

    /// Runs `call`, once.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`] when no connection is up or none answered in time.
    pub(crate) async fn call<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, FredError>>,
    {
        match &self.redis.0.home {
            Home::Numbered(server) => server.database(self.database).call(call).await,
            Home::Cluster(_) => self.retry(Twice::Differs, call).await,
        }
    }

    /// Runs `call`, which only reads or comes to the same when it is done twice, and again where a failover takes its
    /// answer.
    ///
    /// # Errors
    ///
    /// As [`Place::call`].
    pub(crate) async fn read<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, FredError>>,
    {
        self.retry(Twice::IsOnce, call).await
    }

    async fn retry<T, F>(&self, twice: Twice, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, FredError>>,
    {
        // On the heap: fred's futures are large, and callers' would be with them.
        self.repeat(twice, |client| {
            let answer = Box::pin(call(client));
            async move { Ok(answer.await?) }
        })
        .await
    }

    /// Runs `call`, and again as far as `twice` allows.
    pub(super) async fn repeat<T, F>(&self, twice: Twice, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        match &self.redis.0.home {
            Home::Numbered(server) => server.database(self.database).repeat(twice, call).await,
            Home::Cluster(cluster) => {
                let (database, call) = (self.database, &call);
                let run = |primary: Arc<Primary>| async move {
                    primary.server(database).try_once(call).await
                };
                cluster.repeat(self.partition, twice, run).await
            }
        }
    }

    /// Runs a script until as many replicas have what it wrote as the settings ask for.
    ///
    /// # Errors
    ///
    /// [`Error::NotReplicated`] when it is done, and too few replicas have it.
    pub(super) async fn run_durably(
        &self,
        twice: Twice,
        script: &Loaded,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<Value> {
        let input = (keys, args);
        match &self.redis.0.home {
            Home::Numbered(server) => match &server.durable {
                Some(it) => it.run(twice, script, input).await,
                None => Err(Error::RedisUnavailable("replicas are not waited for".to_owned())),
            },
            Home::Cluster(cluster) => {
                let input = &input;
                let run = |primary: Arc<Primary>| async move {
                    primary.run_durably(script, input.clone()).await
                };
                cluster.repeat(self.partition, twice, run).await
            }
        }
    }

    /// The clock of all processes: Unix milliseconds by the server's `TIME`.
    ///
    /// # Errors
    ///
    /// As [`Place::call`].
    pub(crate) async fn now_ms(&self) -> Result<u64> {
        self.read(ask_time).await
    }
}
