//! Calls with retries.
//!
//! On a server with a fixed address a call fails at once while no connection is up, ends after `command_timeout`, and is
//! sent once. With sentinels or a cluster a call outlasts a failover of up to `failover_wait`: it waits for the new
//! primary and is sent again if that cannot execute it twice.

use std::{future::Future, time::Duration};

use fred::{
    clients::Client,
    error::Error as FredError,
    interfaces::ClientLike as _,
    types::{CustomCommand, Key, Value, scripts::Script as LoadedScript},
};
use tokio::time::{Instant, sleep};

use super::{
    call_error::{CallError, Idempotency},
    cluster::Cluster,
    pool::Pool,
    replicated_write::ReplicatedWriter,
};
use crate::error::{Error, Result};

/// Delay between attempts, and between checks for a new primary.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Where a call is sent.
#[derive(Clone, Copy)]
pub(crate) enum Route<'a> {
    /// To the pool of one server.
    Pool(&'a Pool),
    /// To the primary of a cluster that owns the slot at the time of each attempt.
    Slot {
        cluster: &'a Cluster,
        /// The position of the slot among those that the cluster was started with.
        slot: usize,
        /// The position of the database whose name labels the call.
        database: usize,
    },
}

/// Where a write is sent that waits for replicas.
#[derive(Clone, Copy)]
pub(crate) enum ReplicatedRoute<'a> {
    Writer(&'a ReplicatedWriter),
    Slot { cluster: &'a Cluster, slot: usize },
}

/// Sends `call`, and again as far as `idempotency` permits.
///
/// # Errors
///
/// [`Error::RedisUnavailable`] when no connection is up or none answered in time.
pub(crate) async fn call_with_retry<T, F>(
    route: Route<'_>,
    idempotency: Idempotency,
    call: impl Fn(Client) -> F,
) -> Result<T>
where
    F: Future<Output = Result<T, FredError>> + Send,
{
    let retry = Retry::new(idempotency);
    loop {
        let primary;
        let (pool, cluster) = match route {
            Route::Pool(pool) => (pool, None),
            Route::Slot { cluster, slot, database } => match cluster.primary(slot) {
                Ok(found) => {
                    primary = found;
                    (primary.pool(database), Some(cluster))
                }
                Err(unassigned_since) => {
                    retry.wait_for_assignment(cluster, unassigned_since).await?;
                    continue;
                }
            },
        };
        match pool.try_call(&call).await {
            Ok(reply) => return Ok(reply),
            Err(error) => retry.wait(error, pool, cluster).await?,
        }
    }
}

/// Runs a script until as many replicas as the settings require have its writes.
///
/// # Errors
///
/// [`Error::NotReplicated`] when the script was executed and too few replicas have its writes.
pub(super) async fn run_replicated(
    route: ReplicatedRoute<'_>,
    idempotency: Idempotency,
    script: &LoadedScript,
    (keys, args): (Vec<Key>, Vec<Value>),
) -> Result<Value> {
    let retry = Retry::new(idempotency);
    loop {
        let primary;
        let (writer, cluster) = match route {
            ReplicatedRoute::Writer(writer) => (writer, None),
            ReplicatedRoute::Slot { cluster, slot } => match cluster.primary(slot) {
                Ok(found) => {
                    primary = found;
                    let writer = primary.writer().ok_or_else(|| {
                        Error::RedisUnavailable("writes are not replicated".to_owned())
                    })?;
                    (writer, Some(cluster))
                }
                Err(unassigned_since) => {
                    retry.wait_for_assignment(cluster, unassigned_since).await?;
                    continue;
                }
            },
        };
        match writer.try_run(script, (keys.clone(), args.clone())).await {
            Ok(reply) => return Ok(reply),
            Err(error) => retry.wait(error, writer.pool(), cluster).await?,
        }
    }
}

impl Pool {
    /// Sends `call`; Redis executes it at most once.
    ///
    /// # Errors
    ///
    /// See [`call_with_retry`].
    pub(crate) async fn call_once<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, FredError>> + Send,
    {
        call_with_retry(Route::Pool(self), Idempotency::NonIdempotent, call).await
    }

    /// Sends an idempotent `call`, and again if a failover loses its reply.
    ///
    /// # Errors
    ///
    /// See [`call_with_retry`].
    pub(crate) async fn call_idempotent<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, FredError>> + Send,
    {
        call_with_retry(Route::Pool(self), Idempotency::Idempotent, call).await
    }

    /// The server's clock in Unix milliseconds.
    ///
    /// # Errors
    ///
    /// See [`call_with_retry`].
    pub(crate) async fn now_ms(&self) -> Result<u64> {
        call_with_retry(Route::Pool(self), Idempotency::Idempotent, server_time).await
    }
}

/// Unix milliseconds by `TIME`.
pub(crate) async fn server_time(client: Client) -> Result<u64, FredError> {
    let time = CustomCommand::new_static("TIME", None, false);
    let (secs, micros): (u64, u64) = client.custom(time, Vec::<String>::new()).await?;
    Ok(secs * 1000 + micros / 1000)
}

/// Decides after each failed attempt whether there is another one.
struct Retry {
    idempotency: Idempotency,
    started: Instant,
}

impl Retry {
    fn new(idempotency: Idempotency) -> Self {
        Self { idempotency, started: Instant::now() }
    }

    /// Waits until the next attempt, or returns the error if no attempt remains.
    async fn wait(&self, error: CallError, pool: &Pool, cluster: Option<&Cluster>) -> Result<()> {
        let is_connected = !matches!(error, CallError::NotConnected);
        if !self.may_repeat(&error) {
            return Err(error.into_error());
        }
        let mut failover_timeout = pool.failover_timeout();
        if let Some(cluster) = cluster {
            cluster.request_refresh();
            failover_timeout = cluster.failover_timeout();
        }
        if self.delay(failover_timeout, pool.down_since()).await {
            return Ok(());
        }
        if !is_connected {
            pool.record_not_connected(self.started);
        }
        Err(error.into_error())
    }

    /// Waits while no server owns the slot.
    async fn wait_for_assignment(
        &self,
        cluster: &Cluster,
        unassigned_since: Option<Instant>,
    ) -> Result<()> {
        if self.delay(cluster.failover_timeout(), unassigned_since).await {
            return Ok(());
        }
        Err(Error::RedisUnavailable("no server owns the hash slot".to_owned()))
    }

    fn may_repeat(&self, error: &CallError) -> bool {
        match error {
            CallError::NotConnected
            | CallError::ReadOnly(_)
            | CallError::Moved(_)
            | CallError::NotExecuted(_) => true,
            CallError::Indeterminate(_) => self.idempotency == Idempotency::Idempotent,
            CallError::Permanent(_) => false,
        }
    }

    /// Returns false, without a delay, if the failover takes too long, counted from the start of the call or of the
    /// outage.
    async fn delay(&self, failover_timeout: Duration, down_since: Option<Instant>) -> bool {
        let outage_start = down_since.map_or(self.started, |since| since.min(self.started));
        if Instant::now() + RETRY_DELAY >= outage_start + failover_timeout {
            return false;
        }
        sleep(RETRY_DELAY).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> Error {
        Error::RedisUnavailable(String::new())
    }

    #[test]
    fn only_idempotent_calls_are_repeated_after_a_lost_reply() {
        let may_repeat = |idempotency, error: &CallError| {
            Retry { idempotency, started: Instant::now() }.may_repeat(error)
        };
        for idempotency in [Idempotency::Idempotent, Idempotency::NonIdempotent] {
            assert!(may_repeat(idempotency, &CallError::NotConnected));
            assert!(may_repeat(idempotency, &CallError::ReadOnly(unavailable())));
            assert!(may_repeat(idempotency, &CallError::Moved(unavailable())));
            assert!(may_repeat(idempotency, &CallError::NotExecuted(unavailable())));
            assert!(!may_repeat(idempotency, &CallError::Permanent(unavailable())));
        }
        let lost = CallError::Indeterminate(unavailable());
        assert!(may_repeat(Idempotency::Idempotent, &lost));
        assert!(!may_repeat(Idempotency::NonIdempotent, &lost));
    }

    #[tokio::test]
    async fn retries_end_with_the_time_that_a_failover_may_take() {
        let timeout = Duration::from_millis(200);
        let retry = Retry::new(Idempotency::Idempotent);
        assert!(!retry.delay(Duration::ZERO, None).await, "a fixed server has no failover");
        assert!(retry.delay(timeout, None).await);
        assert!(retry.delay(timeout, Some(retry.started)).await);
        sleep(timeout).await;
        assert!(!retry.delay(timeout, None).await);
        let later = Retry::new(Idempotency::Idempotent);
        assert!(!later.delay(timeout, Some(retry.started)).await, "the outage is too old");
    }
}
