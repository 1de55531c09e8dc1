//! Writes that are acknowledged when replicas have them.
//!
//! `WAIT` speaks of what its own connection has written, and lets nothing else through on that connection until it is
//! done. So these writes have connections of their own, and script and `WAIT` go out together: between two calls,
//! fred might have made a new connection, on which `WAIT` is content with anything.

use std::time::Duration;

use fred::{
    clients::Client,
    error::{Error as FredError, ErrorKind},
    interfaces::{ClientLike as _, ServerInterface as _},
    types::{ClusterHash, CustomCommand, Key, Value, scripts::Script},
};

use tokio::sync::watch;

use super::{
    Address, Config, Server,
    address::Node,
    server::{Failure, Measured, Twice},
};
use crate::{error::Error, tasks::Tasks};

/// Connections on which replicas are waited for.
pub(super) struct Durable {
    server: Server,
    min_replicas: u32,
    /// Those that sentinels or the cluster hold to be well, where there are such.
    replicas: watch::Receiver<Vec<Node>>,
    wait_timeout: Duration,
}

impl Durable {
    pub(super) fn start(
        config: &Config,
        (address, database): (&Address, u8),
        replicas: watch::Receiver<Vec<Node>>,
        tasks: &Tasks,
        measured: Measured<'_>,
    ) -> anyhow::Result<Self> {
        // A connection waits for one write after the other: about a millisecond each.
        const CONNECTIONS: usize = 4;
        let config = Config { pool_size: config.pool_size.max(CONNECTIONS), ..config.clone() };
        Ok(Self {
            server: Server::start(&config, address, database, tasks, measured)?,
            min_replicas: config.min_replicas,
            replicas,
            wait_timeout: config.wait_timeout,
        })
    }

    /// Runs a script until enough replicas have what it wrote.
    ///
    /// # Errors
    ///
    /// [`Error::NotReplicated`] when it is done, and too few replicas have it.
    pub(super) async fn run(
        &self,
        twice: Twice,
        script: &Script,
        (keys, args): (Vec<Key>, Vec<Value>),
    ) -> crate::error::Result<Value> {
        let run = |client| {
            let input = (keys.clone(), args.clone());
            async move { self.once(&client, script, input).await }
        };
        self.server.repeat(twice, run).await
    }

    /// Runs a script once, if a connection is up now.
    pub(super) async fn try_once(
        &self,
        script: &Script,
        input: (Vec<Key>, Vec<Value>),
    ) -> Result<Value, Failure> {
        let run = |client| async move { self.once(&client, script, input).await };
        self.server.try_once(run).await
    }

    async fn once(
        &self,
        client: &Client,
        script: &Script,
        input: (Vec<Key>, Vec<Value>),
    ) -> Result<Value, Failure> {
        let wanted = self.wanted();
        let (answer, n_replicas) = self.run_and_wait(wanted, client, script, input).await?;
        if n_replicas < wanted {
            return Err(Failure::Unknown(Error::NotReplicated { wanted, n_replicas }));
        }
        Ok(answer)
    }

    /// As many as the settings ask for, and all that are well: what only some of them have is lost when another is
    /// made the primary, and one that has left its primary to become one is not counted by `WAIT`.
    fn wanted(&self) -> u32 {
        let n_well = u32::try_from(self.replicas.borrow().len()).unwrap_or(u32::MAX);
        self.min_replicas.max(n_well)
    }

    async fn run_and_wait(
        &self,
        wanted: u32,
        client: &Client,
        script: &Script,
        (keys, args): (Vec<Key>, Vec<Value>),
    ) -> Result<(Value, u32), FredError> {
        let wait_ms = i64::try_from(self.wait_timeout.as_millis()).unwrap_or(i64::MAX);
        // A pipeline of fred's knows no scripts.
        let mut call = vec![Value::from(&**script.sha1()), Value::try_from(keys.len())?];
        call.extend(keys.into_iter().map(Value::from));
        call.extend(args);
        for is_loaded in [false, true] {
            let together = client.pipeline();
            let evalsha = CustomCommand::new_static("EVALSHA", ClusterHash::Offset(2), false);
            together.custom::<(), _>(evalsha, call.clone()).await?;
            together.wait::<()>(i64::from(wanted), wait_ms).await?;
            let mut answers = together.try_all::<Value>().await.into_iter();
            let mut next = || answers.next().unwrap_or_else(|| Err(FredError::new_canceled()));
            match next() {
                Ok(answer) => return Ok((answer, next()?.convert()?)),
                Err(error) if error.details().starts_with("NOSCRIPT") && !is_loaded => {
                    script.load(client).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(FredError::new(ErrorKind::NotFound, "Redis forgets its scripts at once"))
    }
}
