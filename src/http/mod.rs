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

/// HTTP listener and its limits.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on. Port 0 selects a free port.
    pub listen: SocketAddr,
    /// Maximum time until a response starts; after that the response is 504.
    #[serde(with = "HumanDuration")]
    pub request_timeout: Duration,
    /// Maximum time for a request head to arrive, including the idle time of a kept-alive connection.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub header_timeout: Duration,
    /// Maximum size of a request body.
    #[schemars(with = "HumanSize")]
    pub body_limit: ByteSize,
    /// Maximum time for a request body to arrive.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub body_timeout: Duration,
    /// A connection is closed when its client reads nothing for this long.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub write_timeout: Duration,
    /// Maximum number of open connections. Further connections get 503 and are closed.
    pub max_connections: usize,
    /// Maximum number of open connections from one address (IPv6: one /64) that is not in `rate_limit.trusted_proxies`.
    pub max_connections_per_ip: usize,
    /// TLS certificate and its chain as PEM text; empty for plain HTTP. `I2M__SERVER__TLS_CERT_FILE` names a file, and
    /// SIGHUP reloads it.
    pub tls_cert: String,
    /// Private key of the TLS certificate as PEM text.
    pub tls_key: Secret,
    /// Time after SIGTERM during which the service is not ready but still accepts requests, so that load balancers remove
    /// it.
    #[serde(with = "HumanDuration")]
    pub shutdown_delay: Duration,
    /// Time over which event streams are closed at shutdown, so that browsers do not reconnect all at once.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub drain_spread: Duration,
    /// Maximum time for requests to finish at shutdown. Unfinished requests are aborted.
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
            bail!("max_connections and max_connections_per_ip must be at least 1");
        }
        if self.tls_cert.is_empty() != self.tls_key.is_empty() {
            bail!("tls_cert and tls_key must be set together");
        }
        Ok(())
    }

    pub(crate) fn has_tls(&self) -> bool {
        !self.tls_cert.is_empty()
    }
}
