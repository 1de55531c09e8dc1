//! Connections to one database of one server, and how long a call on them may take.
//!
//! Where the server stays where it is, a call is refused at once while no connection is up, ends after
//! `command_timeout`, and is tried once. Where the sentinels name the server, a call outlasts a failover of up to
//! `failover_wait`: it waits for the new primary, and is tried again there if that cannot make it count twice.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fred::{clients::Client, interfaces::ClientLike as _, types::CustomCommand};
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument as _, Span, field::Empty, info_span};

use super::{Address, Config, slot::Slot};
use crate::{
    error::{Error, Result},
    observability::{
        metrics::{CallOutcome, RedisMetrics, ServerMetrics},
        traces::TARGET,
    },
    tasks::Tasks,
};

/// Time between looks for a new primary, and between attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// What a call does when it is done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twice {
    /// The same as once.
    IsOnce,
    /// Something else, so it is repeated only when it was certainly not done.
    Differs,
}

/// Why a call failed, by what that says of its having been done.
pub(super) enum Failure {
    /// It was not, because this server is a replica.
    ReadOnly(Error),
    /// It was not, because another server of the cluster has its keys.
    Elsewhere(Error),
    /// It was not, and may succeed elsewhere or later.
    NotDone(Error),
    /// Nobody knows.
    Unknown(Error),
    /// Trying again would not help.
    Final(Error),
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Server {
    pool: Arc<[Arc<Slot>]>,
    next: Arc<AtomicUsize>,
    command_timeout: Duration,
    /// How long a call waits for a new primary; zero where there never is one.
    failover_wait: Duration,
    metrics: Arc<ServerMetrics>,
    /// In metrics and traces.
    name: &'static str,
    database: u8,
}

/// Under which name calls to a server are measured.
#[derive(Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) metrics: &'a RedisMetrics,
    pub(crate) name: &'static str,
}

impl Server {
    pub(crate) fn start(
        config: &Config,
        address: &Address,
        database: u8,
        tasks: &Tasks,
        measured: Measured<'_>,
    ) -> anyhow::Result<Self> {
        let slots = (0..config.pool_size).map(|_| {
            let metrics = measured.metrics.connection(measured.name);
            Slot::start(config, address, database, tasks, metrics)
        });
        Ok(Self {
            pool: slots.collect::<anyhow::Result<_>>()?,
            next: Arc::default(),
            command_timeout: config.command_timeout,
            failover_wait: if address.is_followed() {
                config.failover_wait
            } else {
                Duration::ZERO
            },
            metrics: Arc::new(measured.metrics.server(measured.name)),
            name: measured.name,
            database,
        })
    }

    /// Runs `call`, once.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`] when no connection is up or none answered in time.
    pub(crate) async fn call<T, F>(&self, call: impl FnOnce(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, fred::error::Error>>,
    {
        let (slot, client) = self.connection_by(self.deadline()).await?;
        // On the heap, here and below: fred's futures are large, and callers' would be with them.
        let answer = Box::pin(call(client));
        self.attempt(&slot, async move { Ok(answer.await?) }).await.map_err(Failure::into_error)
    }

    /// Runs `call`, which only reads or else comes to the same when it is done twice, and again where a failover takes
    /// its answer.
    ///
    /// # Errors
    ///
    /// As [`Server::call`].
    pub(crate) async fn read<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, fred::error::Error>>,
    {
        self.repeat(Twice::IsOnce, |client| {
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
        let deadline = self.deadline();
        loop {
            let (slot, client) = self.connection_by(deadline).await?;
            let error = match self.attempt(&slot, Box::pin(call(client))).await {
                Ok(answer) => return Ok(answer),
                Err(
                    Failure::ReadOnly(error) | Failure::Elsewhere(error) | Failure::NotDone(error),
                ) => error,
                Err(Failure::Unknown(error)) if twice == Twice::IsOnce => error,
                Err(Failure::Unknown(error) | Failure::Final(error)) => return Err(error),
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    /// Runs `call` if a connection is up now.
    pub(super) async fn try_once<T, F>(&self, call: impl FnOnce(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let Some((slot, client)) = self.connection() else {
            return Err(Failure::NotDone(Error::RedisUnavailable("not connected".to_owned())));
        };
        self.attempt(&slot, Box::pin(call(client))).await
    }

    /// The same connections, with calls measured under another name.
    pub(super) fn measured_as(&self, measured: Measured<'_>) -> Self {
        let metrics = Arc::new(measured.metrics.server(measured.name));
        Self { metrics, name: measured.name, ..self.clone() }
    }

    /// Since when no connection has been up; nothing, if one is.
    pub(super) fn down_since(&self) -> Option<Instant> {
        if self.is_up() {
            return None;
        }
        self.pool.iter().map(|it| it.last_up()).max()
    }

    /// A call was given up before there was a connection.
    pub(super) fn count_as_not_connected(&self, began: std::time::Instant) {
        self.metrics.end(began, CallOutcome::NotConnected);
    }

    /// One attempt, within the command timeout: fred's own does not hold for scripts.
    async fn attempt<T>(
        &self,
        slot: &Slot,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let (started, _held) = self.metrics.begin();
        let span = self.span();
        let answer = timeout(self.command_timeout, call).instrument(span.clone()).await;
        let (outcome, answer) = match answer {
            Ok(Ok(answer)) => (CallOutcome::Answered, Ok(answer)),
            Ok(Err(failure)) => (CallOutcome::Failed, Err(failure)),
            Err(_) => {
                let reason = format!("no answer within {:?}", self.command_timeout);
                let failure = Failure::Unknown(Error::RedisUnavailable(reason));
                (CallOutcome::TimedOut, Err(failure))
            }
        };
        if answer.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        self.metrics.end(started, outcome);
        if let Err(Failure::ReadOnly(_)) = answer {
            slot.doubt();
        }
        answer
    }

    /// A call's part of the trace that it belongs to.
    fn span(&self) -> Span {
        info_span!(
            target: TARGET,
            "redis",
            otel.kind = "client",
            otel.name = self.name,
            db.system.name = "redis",
            db.namespace = self.database,
            otel.status_code = Empty,
        )
    }

    /// Unix milliseconds by the server's `TIME`.
    ///
    /// # Errors
    ///
    /// As [`Server::call`].
    pub(crate) async fn now_ms(&self) -> Result<u64> {
        self.read(ask_time).await
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection().is_some()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.failover_wait
    }

    /// A connection as soon as there is one; not later than `deadline`, and not when there has been none for
    /// longer than a failover may take.
    async fn connection_by(&self, deadline: Instant) -> Result<(Arc<Slot>, Client)> {
        let began = std::time::Instant::now();
        loop {
            if let Some(connection) = self.connection() {
                return Ok(connection);
            }
            let last_up = self.pool.iter().map(|it| it.last_up()).max();
            let patience_ends =
                last_up.map_or(deadline, |it| deadline.min(it + self.failover_wait));
            if Instant::now() + PAUSE >= patience_ends {
                self.metrics.end(began, CallOutcome::NotConnected);
                return Err(Error::RedisUnavailable("not connected".to_owned()));
            }
            sleep(PAUSE).await;
        }
    }

    fn connection(&self) -> Option<(Arc<Slot>, Client)> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.pool.len())
            .map(|step| &self.pool[(first + step) % self.pool.len()])
            .find_map(|slot| Some((slot.clone(), slot.client_if_up()?)))
    }
}

/// Unix milliseconds by the `TIME` of the server that `client` speaks with.
pub(super) async fn ask_time(client: Client) -> Result<u64, fred::error::Error> {
    let time = CustomCommand::new_static("TIME", None, false);
    let (secs, micros): (u64, u64) = client.custom(time, Vec::<String>::new()).await?;
    Ok(secs * 1000 + micros / 1000)
}

impl From<fred::error::Error> for Failure {
    fn from(error: fred::error::Error) -> Self {
        use fred::error::ErrorKind;

        // What a server says instead of doing anything, a script at its first write; and fred, without a connection.
        const REFUSED: [&str; 7] = [
            "LOADING",
            "MASTERDOWN",
            "NOREPLICAS",
            "TRYAGAIN",
            // A slot is on its way to another server; a script with all of its keys there has to wait until it is.
            "ASK",
            "CLUSTERDOWN",
            "Failed to route command",
        ];
        // And what of fred's or, where somebody waited for replicas, of a primary that becomes one, says nothing of it.
        const LOST: [&str; 3] =
            ["Too many failed write attempts", "Missing expected connection", "UNBLOCKED"];
        if error.details().starts_with("READONLY") {
            return Self::ReadOnly(error.into());
        }
        if error.details().starts_with("MOVED") {
            return Self::Elsewhere(error.into());
        }
        if REFUSED.iter().any(|it| error.details().starts_with(it)) {
            return Self::NotDone(error.into());
        }
        if LOST.iter().any(|it| error.details().starts_with(it)) {
            return Self::Unknown(error.into());
        }
        match error.kind() {
            ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Canceled => Self::Unknown(error.into()),
            _ => Self::Final(error.into()),
        }
    }
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::ReadOnly(error)
            | Self::Elsewhere(error)
            | Self::NotDone(error)
            | Self::Unknown(error)
            | Self::Final(error) => error,
        }
    }
}
