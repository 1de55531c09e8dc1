//! A pool of supervised connections to one database of one server, and single attempts of calls on them.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::Client,
    error::Error as FredError,
    interfaces::ClientLike as _,
    types::{
        Value,
        config::{Config as FredConfig, Options},
    },
};
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, Span, field::Empty, info_span};

use super::{
    call_error::CallError,
    config::Config,
    database::DatabaseId,
    endpoint::Endpoint,
    supervised_connection::{ConnectionKind, SupervisedConnection},
};
use crate::{
    error::Error,
    observability::{
        metrics::{CallOutcome, RedisMetrics, ServerMetrics},
        traces::TARGET,
    },
    tasks::TaskSupervisor,
};

/// Connections that send commands to one database.
struct CommandConnection {
    database: DatabaseId,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    connections: Arc<[Arc<SupervisedConnection<CommandConnection>>]>,
    next: Arc<AtomicUsize>,
    command_timeout: Duration,
    /// How long a call waits for a new primary; zero if the server never changes.
    failover_timeout: Duration,
    metrics: Arc<ServerMetrics>,
    /// In metrics and traces.
    database: DatabaseId,
}

impl Pool {
    /// Connects in the background.
    ///
    /// # Errors
    ///
    /// If fred rejects the settings.
    pub(crate) fn start(
        config: &Config,
        endpoint: &Endpoint,
        database: DatabaseId,
        tasks: &TaskSupervisor,
        metrics: &RedisMetrics,
    ) -> anyhow::Result<Self> {
        let connections = (0..config.pool_size).map(|_| {
            let metrics = metrics.connection(database.name);
            let kind = CommandConnection { database };
            SupervisedConnection::start(kind, config, endpoint, tasks, Some(metrics))
        });
        Ok(Self {
            connections: connections.collect::<anyhow::Result<_>>()?,
            next: Arc::default(),
            command_timeout: config.command_timeout,
            failover_timeout: if endpoint.is_dynamic() {
                config.failover_wait
            } else {
                Duration::ZERO
            },
            metrics: Arc::new(metrics.server(database.name)),
            database,
        })
    }

    /// The same connections, with calls measured under the name of `database`.
    pub(super) fn with_label(&self, database: DatabaseId, metrics: &RedisMetrics) -> Self {
        let metrics = Arc::new(metrics.server(database.name));
        Self { metrics, database, ..self.clone() }
    }

    pub(super) fn database(&self) -> DatabaseId {
        self.database
    }

    pub(super) fn failover_timeout(&self) -> Duration {
        self.failover_timeout
    }

    pub(super) fn is_up(&self) -> bool {
        self.connections.iter().any(|connection| connection.client_if_up().is_some())
    }

    /// Since when no connection has been up; `None` if one is.
    pub(super) fn down_since(&self) -> Option<Instant> {
        if self.is_up() {
            return None;
        }
        self.connections.iter().map(|connection| connection.last_up()).max()
    }

    /// Counts a call that ended before a connection was up.
    pub(super) fn record_not_connected(&self, started: Instant) {
        self.metrics.end(started.into_std(), CallOutcome::NotConnected);
    }

    /// Runs `call` once on a connection that is up, within the command timeout: fred's own timeout does not apply to
    /// scripts.
    pub(super) async fn try_call<T, E, F>(
        &self,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, E>> + Send,
        E: Into<CallError>,
    {
        let Some((connection, client)) = self.connection() else {
            return Err(CallError::NotConnected);
        };
        let (started, _in_flight) = self.metrics.begin();
        let span = self.span();
        // On the heap and without its type: fred's futures are large, and the futures of all callers would contain them.
        let reply: Pin<Box<dyn Future<Output = Result<T, E>> + Send + '_>> = Box::pin(call(client));
        let reply = timeout(self.command_timeout, reply).instrument(span.clone()).await;
        let (outcome, reply) = match reply {
            Ok(Ok(reply)) => (CallOutcome::Answered, Ok(reply)),
            Ok(Err(error)) => (CallOutcome::Failed, Err(error.into())),
            Err(_) => {
                let reason = format!("no answer within {:?}", self.command_timeout);
                let error = CallError::Indeterminate(Error::RedisUnavailable(reason));
                (CallOutcome::TimedOut, Err(error))
            }
        };
        if reply.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        self.metrics.end(started, outcome);
        if let Err(CallError::ReadOnly(_)) = reply {
            connection.request_reconnect();
        }
        reply
    }

    /// The connections take turns.
    fn connection(&self) -> Option<(&SupervisedConnection<CommandConnection>, Client)> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.connections.len())
            .map(|offset| &*self.connections[(first + offset) % self.connections.len()])
            .find_map(|connection| Some((connection, connection.client_if_up()?)))
    }

    /// The span of one call in the trace of its request.
    fn span(&self) -> Span {
        info_span!(
            target: TARGET,
            "redis",
            otel.kind = "client",
            otel.name = self.database.name,
            db.system.name = "redis",
            db.namespace = self.database.number,
            otel.status_code = Empty,
        )
    }
}

impl ConnectionKind for CommandConnection {
    type Client = Client;
    type Inbox = ();

    fn name(&self) -> &'static str {
        self.database.name
    }

    fn build(&self, config: &Config, server: &FredConfig) -> Result<Client, FredError> {
        config.builder(server, self.database.number).build()
    }

    fn open_inbox(&self, _: &Client) {}

    async fn receive(&self, (): &mut ()) {
        std::future::pending::<()>().await;
    }

    async fn ping(&self, client: &Client, limit: Duration) -> Result<Value, FredError> {
        let options = Options {
            timeout: Some(limit),
            max_attempts: Some(1),
            fail_fast: true,
            ..Options::default()
        };
        client.with_options(&options).ping(None).await
    }

    async fn prepare(&self, _: &Client) {}
}
