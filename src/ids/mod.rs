//! Identifiers in URLs, bodies and Redis keys; each type is validated once, where it is parsed.

mod digest;
mod job;
mod names;
mod stream;

pub(crate) use self::{
    digest::{KeyId, Sha256Hex},
    job::{FileId, JobId},
    names::{LockName, MetricName, ModelId, Tag},
    stream::StreamId,
};

/// The text is not a valid identifier; the message is for the client that sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidId {
    #[error("a job id is a UUID such as 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")]
    Job,
    #[error("{0}")]
    Other(String),
}

/// `text` quoted for an error message: escaped, and truncated to 60 characters so that it cannot flood a log.
pub(crate) fn truncate_quoted(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let cut: String = text.chars().take(MAX_CHARS).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}
