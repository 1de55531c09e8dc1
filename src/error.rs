//! Everything that can go wrong while serving, said without HTTP.
//!
//! `http::problem` decides how each variant looks to a caller.

use std::{error::Error as StdError, time::Duration};

use crate::ids::{FileId, InvalidId, JobId, KeyId, MetricName, ModelId, Resource};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A caller's mistake; the text is for the caller.
    #[error("{0}")]
    Invalid(String),
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
    /// Signed by us, so that whoever shows it has not guessed it.
    #[error("Invalid or expired stream ticket")]
    ExpiredTicket,
    #[error("there is no key {0}")]
    KeyNotFound(KeyId),
    /// As many keys as there may be, of a name or in all.
    #[error("{0}")]
    TooManyKeys(String),
    #[error("this needs a key with the role {needed}")]
    Forbidden { needed: &'static str },
    #[error("job {0} does not exist")]
    JobNotFound(JobId),
    #[error("there is no metric {0}")]
    NoMetric(MetricName),
    #[error("this Idempotency-Key was used for another request")]
    IdempotencyConflict,
    #[error("job {0} exists already")]
    JobExists(JobId),
    #[error("job {job} has no file {file}")]
    FileNotFound { job: JobId, file: FileId },
    #[error("job {job} is {present}, so it cannot become {wanted}")]
    WrongStatus { job: JobId, present: String, wanted: &'static str },
    #[error("file {file} is at attempt {present}; this report is from an older one")]
    StaleAttempt { file: FileId, present: u64 },
    #[error("there is no model {0}")]
    ModelNotFound(ModelId),
    /// Another service that we ask failed, or was too slow.
    #[error("the origin did not answer as it should: {0}")]
    Origin(String),
    #[error("{resource} is locked by another holder")]
    LockUnavailable { resource: Resource, expires_in: Option<Duration> },
    #[error("{resource} is not locked by this token, or no longer")]
    LockLost { resource: Resource },
    #[error("a cleanup is running already; GET /api/v1/admin/cleanup shows how far it is")]
    CleanupRunning,
    #[error(
        "migrations-lua/migrations/{0}.lua is not the file that was applied to this Redis; a released change of stored \
         data must stay as it is, and further changes need a file of their own (image2model-gateway migrate --status)"
    )]
    SchemaChanged(&'static str),
    #[error("too many requests by the limit {policy:?}")]
    RateLimited { policy: String, retry_after: Duration },
    /// As many streams are open as may be, or the service is about to stop.
    #[error("{0}")]
    Busy(&'static str),
    #[error("the request took longer than {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    /// Redis is away, too slow, or cannot write now; the same call may work later.
    #[error("Redis is not available: {0}")]
    RedisUnavailable(String),
    /// A new job is stored, and not yet on as many replicas as the settings ask for.
    #[error("{n_replicas} of {wanted} replicas have the job")]
    NotReplicated { wanted: u32, n_replicas: u32 },
    /// Redis refused what we sent: our fault, or data of a type that is not ours.
    #[error("Redis refused a command: {0}")]
    Redis(fred::error::Error),
    #[error("stored {what} cannot be read: {reason}")]
    Corrupt { what: &'static str, reason: String },
}

impl From<InvalidId> for Error {
    fn from(error: InvalidId) -> Self {
        match error {
            InvalidId::Job => Self::InvalidJobId,
            InvalidId::Other(message) => Self::Invalid(message),
        }
    }
}

impl From<fred::error::Error> for Error {
    fn from(error: fred::error::Error) -> Self {
        use fred::error::ErrorKind;

        // What a server says of its own state, by the first word of its error reply; and what fred says under no
        // kind of its own of a command whose connection went away before it was sent.
        const PASSING: [&str; 13] = [
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
        let passing = match error.kind() {
            ErrorKind::IO
            | ErrorKind::Timeout
            | ErrorKind::Canceled
            | ErrorKind::Backpressure
            | ErrorKind::Routing
            | ErrorKind::Cluster
            | ErrorKind::Sentinel
            | ErrorKind::Auth
            | ErrorKind::Tls => true,
            _ => PASSING.iter().any(|it| error.details().starts_with(it)),
        };
        if passing { Self::RedisUnavailable(error.to_string()) } else { Self::Redis(error) }
    }
}

/// An error, its cause, the cause of that, and so on.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |it| (*it).source())
}

/// All of them in one line, for the log.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
