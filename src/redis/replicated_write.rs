//! Writes that are acknowledged once replicas have them.
//!
//! `WAIT` covers the writes of its own connection, and blocks that connection until it is done. So these writes have
//! connections of their own, and script and `WAIT` are sent together: between two calls fred might reconnect, and on a
//! new connection `WAIT` succeeds whatever the replicas have.

use std::time::Duration;

use fred::{
    clients::Client,
    error::{Error as FredError, ErrorKind},
    interfaces::{ClientLike as _, ServerInterface as _},
    types::{ClusterHash, CustomCommand, Key, Value, scripts::Script as LoadedScript},
};
use tokio::sync::watch;

use super::{
    call_error::CallError,
    config::Config,
    database::DatabaseId,
    endpoint::{Endpoint, Node},
    pool::Pool,
};
use crate::{error::Error, observability::metrics::RedisMetrics, tasks::TaskSupervisor};

/// Connections that wait for replicas.
pub(crate) struct ReplicatedWriter {
    pool: Pool,
    min_replicas: u32,
    /// The healthy replicas as sentinels or the cluster report them; empty without either.
    replicas: watch::Receiver<Vec<Node>>,
    wait_timeout: Duration,
}

impl ReplicatedWriter {
    /// Connects in the background.
    ///
    /// # Errors
    ///
    /// If fred rejects the settings.
    pub(super) fn start(
        config: &Config,
        (endpoint, database): (&Endpoint, DatabaseId),
        replicas: watch::Receiver<Vec<Node>>,
        tasks: &TaskSupervisor,
        metrics: &RedisMetrics,
    ) -> anyhow::Result<Self> {
        // A connection handles one write at a time, for about a millisecond each.
        const MIN_CONNECTIONS: usize = 4;
        let config = Config { pool_size: config.pool_size.max(MIN_CONNECTIONS), ..config.clone() };
        Ok(Self {
            pool: Pool::start(&config, endpoint, database, tasks, metrics)?,
            min_replicas: config.min_replicas,
            replicas,
            wait_timeout: config.wait_timeout,
        })
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Runs a script once, if a connection is up.
    pub(super) async fn try_run(
        &self,
        script: &LoadedScript,
        input: (Vec<Key>, Vec<Value>),
    ) -> Result<Value, CallError> {
        let run = |client: Client| async move {
            let required = self.required_acks();
            let (reply, acknowledged) = self.run_and_wait(required, &client, script, input).await?;
            if acknowledged < required {
                let error = Error::NotReplicated { required, replica_count: acknowledged };
                return Err(CallError::Indeterminate(error));
            }
            Ok(reply)
        };
        self.pool.try_call(run).await
    }

    /// At least the configured number, and every healthy replica: a write that only some of them have is lost when
    /// another one is promoted, and `WAIT` does not count a replica that has left its primary to be promoted.
    fn required_acks(&self) -> u32 {
        let healthy = u32::try_from(self.replicas.borrow().len()).unwrap_or(u32::MAX);
        self.min_replicas.max(healthy)
    }

    async fn run_and_wait(
        &self,
        required: u32,
        client: &Client,
        script: &LoadedScript,
        (keys, args): (Vec<Key>, Vec<Value>),
    ) -> Result<(Value, u32), FredError> {
        let wait_ms = i64::try_from(self.wait_timeout.as_millis()).unwrap_or(i64::MAX);
        // fred's pipelines do not support scripts.
        let mut evalsha_args = vec![Value::from(&**script.sha1()), Value::try_from(keys.len())?];
        evalsha_args.extend(keys.into_iter().map(Value::from));
        evalsha_args.extend(args);
        for is_loaded in [false, true] {
            let pipeline = client.pipeline();
            let evalsha = CustomCommand::new_static("EVALSHA", ClusterHash::Offset(2), false);
            pipeline.custom::<(), _>(evalsha, evalsha_args.clone()).await?;
            pipeline.wait::<()>(i64::from(required), wait_ms).await?;
            let mut replies = pipeline.try_all::<Value>().await.into_iter();
            let mut next = || replies.next().unwrap_or_else(|| Err(FredError::new_canceled()));
            match next() {
                Ok(reply) => return Ok((reply, next()?.convert()?)),
                Err(error) if error.details().starts_with("NOSCRIPT") && !is_loaded => {
                    script.load(client).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(FredError::new(ErrorKind::NotFound, "Redis lost a script right after it was loaded"))
    }
}
