//! The HTTP listener: connection limits, timeouts, TLS, and the hand-off of sockets. Knows no routes and no features.

mod connection;
mod connection_limit;
mod server;
mod socket_handoff;
mod timeout_stream;
mod tls;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, bail};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    connection::PeerAddress,
    connection_limit::ConnectionPermit,
    server::Server,
    socket_handoff::{RawConnection, SocketHandoff},
    tls::Tls,
};

use crate::settings::{HumanDuration, HumanSize, Secret, validate_range};

/// The listener and its limits.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The longest that an answer may take to begin; then it is 504.
    #[serde(with = "HumanDuration")]
    pub request_timeout: Duration,
    /// The longest that a request head may take to arrive, idle time of a kept connection included.
    #[serde(with = "HumanDuration")]
    pub header_timeout: Duration,
    /// The largest request head.
    #[schemars(with = "HumanSize")]
    pub header_limit: ByteSize,
    /// The largest request body.
    #[schemars(with = "HumanSize")]
    pub body_limit: ByteSize,
    /// The longest that a request body may take to arrive.
    #[serde(with = "HumanDuration")]
    pub body_timeout: Duration,
    /// A client that takes nothing of what it is sent for this long is cut off.
    #[serde(with = "HumanDuration")]
    pub write_timeout: Duration,
    /// Connections kept at once; further ones are answered 503 and closed.
    pub max_connections: usize,
    /// Of those, from one address that is not in `rate_limit.trusted_proxies`; IPv6: from one /64.
    pub max_connections_per_ip: usize,
    /// The certificate and its chain, as PEM text; plain HTTP without. SIGHUP loads it again.
    pub tls_cert: String,
    /// Its private key, as PEM text.
    pub tls_key: Secret,
    /// After SIGTERM: still serving, but not ready, so that load balancers look away ...
    #[serde(with = "HumanDuration")]
    pub shutdown_delay: Duration,
    /// ... then streams close, spread over this time ...
    #[serde(with = "HumanDuration")]
    pub drain_spread: Duration,
    /// ... and what is not finished by then is cut.
    #[serde(with = "HumanDuration")]
    pub shutdown_timeout: Duration,
}

impl Config {
    pub(crate) fn validate(&self) -> Result<()> {
        let (ms, hour) = (Duration::from_millis, Duration::from_hours(1));
        validate_range("header_timeout", self.header_timeout, ms(10), hour)?;
        validate_range("body_timeout", self.body_timeout, ms(10), hour)?;
        validate_range("write_timeout", self.write_timeout, ms(10), hour)?;
        if self.max_connections == 0 || self.max_connections_per_ip == 0 {
            bail!("max_connections and max_connections_per_ip have to be at least 1");
        }
        if self.tls_cert.is_empty() != self.tls_key.is_empty() {
            bail!("tls_cert and tls_key belong together; one of them is empty");
        }
        Ok(())
    }

    pub(crate) fn has_tls(&self) -> bool {
        !self.tls_cert.is_empty()
    }
}
