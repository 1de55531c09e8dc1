//! What routes are made of; knows no feature: extractors, problems, request ids, the listener.

mod alias;
mod cached;
mod connection;
mod extract;
mod problem;
mod request;
mod server;
mod takeover;
mod whole;

use std::{net::SocketAddr, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    alias::{ALIAS_TAG, also_at},
    cached::{X_CACHE, cached_json},
    extract::{BodyLimit, Json, Path, Query, read_body},
    problem::{Problem, ProblemBody, Unsaid, method_not_allowed, not_found, render_panic},
    request::{CallerLabel, Deadline, log_request, render_problems},
    server::Server,
    takeover::{Taken, Takeover},
    whole::{maybe_whole, whole},
};

/// The listener and its limits.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The longest that an answer may take to begin.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// The longest that a request head may take to arrive.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// The largest request head.
    pub header_limit: ByteSize,
    /// The largest request body.
    pub body_limit: ByteSize,
    /// Connections kept at once.
    pub max_connections: usize,
    /// Time between turning not ready and closing anything.
    #[serde(with = "humantime_serde")]
    pub shutdown_delay: Duration,
    /// Streams close spread over this time.
    #[serde(with = "humantime_serde")]
    pub drain_spread: Duration,
    /// What is not finished by then is cut.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
}
