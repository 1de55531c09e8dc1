//! Every error of the service, without HTTP.
//!
//! `api::problem` maps each variant to a status code and an error code.

use std::{error::Error as StdError, time::Duration};

use crate::ids::{FileId, InvalidId, JobId, KeyId, LockName, MetricName, ModelId};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request is invalid; the message is for the client.
    #[error("{0}")]
    Validation(String),
    #[error("a job id is a UUID such as 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")]
    InvalidJobId,
    #[error("a job takes at most {max} files; got {got}")]
    TooManyFiles { max: usize, got: usize },
    #[error("Not authenticated")]
    Unauthenticated,
    #[error("Invalid API key")]
    InvalidKey,
    #[error("Invalid or expired stream ticket")]
    InvalidTicket,
    /// The signature is valid, so the client did not guess the ticket.
    #[error("Invalid or expired stream ticket")]
    ExpiredTicket,
    #[error("key {0} does not exist")]
    KeyNotFound(KeyId),
    /// The number of keys has reached its limit, per name or in total.
    #[error("{0}")]
    TooManyKeys(String),
    #[error("this request needs a key with the role {needed}")]
    Forbidden { needed: &'static str },
    #[error("job {0} does not exist")]
    JobNotFound(JobId),
    #[error("metric {0} does not exist")]
    MetricNotFound(MetricName),
    #[error("this Idempotency-Key was used for another request")]
    IdempotencyConflict,
    #[error("job {0} already exists")]
    JobExists(JobId),
    #[error("job {job} has no file {file}")]
    FileNotFound { job: JobId, file: FileId },
    #[error("job {job} is {current}, so it cannot become {requested}")]
    InvalidTransition { job: JobId, current: String, requested: &'static str },
    #[error("file {file} is at attempt {present}; this report is from an older one")]
    StaleAttempt { file: FileId, present: u64 },
    #[error("model {0} does not exist")]
    ModelNotFound(ModelId),
    /// The origin of models failed or timed out.
    #[error("the origin failed: {0}")]
    Origin(String),
    #[error("{resource} is locked by another holder")]
    LockUnavailable { resource: LockName, expires_in: Option<Duration> },
    #[error("{resource} is not locked by this token (any more)")]
    LockLost { resource: LockName },
    #[error("a cleanup is already running; GET /api/v1/admin/cleanup shows its progress")]
    CleanupRunning,
    #[error(
        "the checksum of migrations-lua/migrations/{0}.lua differs from the one applied to this Redis; a released migration \
         must not change, so add a new file (image2model-gateway migrate --status)"
    )]
    MigrationChecksumMismatch(&'static str),
    #[error("rate limit {policy:?} exceeded")]
    RateLimited { policy: String, retry_after: Duration },
    /// A limit of this process is reached, or the service is shutting down.
    #[error("{0}")]
    Overloaded(&'static str),
    #[error("the request took longer than {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// Redis is unreachable, too slow, or cannot write at present; a later call may succeed.
    #[error("Redis is not available: {0}")]
    RedisUnavailable(String),
    /// A new job is stored, but on fewer replicas than `redis.min_replicas`.
    #[error("{replica_count} of {required} replicas have the job")]
    NotReplicated { required: u32, replica_count: u32 },
    /// Redis rejected a command: a bug, or a key of an unexpected type.
    #[error("Redis refused a command: {0}")]
    Redis(fred::error::Error),
    #[error("cannot read {what}: {reason}")]
    CorruptData { what: &'static str, reason: String },
}

impl From<InvalidId> for Error {
    fn from(error: InvalidId) -> Self {
        match error {
            InvalidId::Job => Self::InvalidJobId,
            InvalidId::Other(message) => Self::Validation(message),
        }
    }
}

impl From<fred::error::Error> for Error {
    fn from(error: fred::error::Error) -> Self {
        use fred::error::ErrorKind;

        // Error replies about the state of the server, by their first word, and messages of fred that have no kind
        // of their own, for commands whose connection closed before they were sent.
        const TRANSIENT: [&str; 13] = [
            "Failed to route command",
            "Too many failed write attempts",
            "Missing expected connection",
            "LOADING",
            "READONLY",
            "MASTERDOWN",
            "CLUSTERDOWN",
            "TRYAGAIN",
            "OOM",
            "MISCONF",
            "NOREPLICAS",
            "BUSY",
            "UNKILLABLE",
        ];
        let is_transient = match error.kind() {
            ErrorKind::IO
            | ErrorKind::Timeout
            | ErrorKind::Canceled
            | ErrorKind::Backpressure
            | ErrorKind::Routing
            | ErrorKind::Cluster
            | ErrorKind::Sentinel
            | ErrorKind::Auth
            | ErrorKind::Tls => true,
            _ => TRANSIENT.iter().any(|prefix| error.details().starts_with(prefix)),
        };
        if is_transient { Self::RedisUnavailable(error.to_string()) } else { Self::Redis(error) }
    }
}

/// An error and its chain of sources, outermost first.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The messages of an error and its sources on one line, joined by `: `.
pub(crate) fn display_chain(error: &(dyn StdError + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
