//! The listener: HTTP/1.1 and HTTP/2 on one port, plain or over TLS, with limits on connections, heads and times.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    Config, Tls,
    connection::{self, AcceptedConnection, HttpService, ProtocolConfig},
    connection_limit::ConnectionLimiter,
};
use crate::tasks::TaskSupervisor;

/// A bound listener that does not accept connections yet.
pub(crate) struct Server {
    listener: TcpListener,
    protocols: ProtocolConfig,
    connections: ConnectionLimiter,
    on_connection_rejected: Box<dyn Fn() + Send + Sync>,
}

impl Server {
    /// The connections of `proxies` are not limited per address, because each stands for many clients.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound or the certificate is invalid.
    pub(crate) fn bind(config: &Config, proxies: Vec<IpNet>) -> Result<Self> {
        let listener = listen(config.listen)
            .with_context(|| format!("cannot listen on {} (server.listen)", config.listen))?;
        let connections = ConnectionLimiter::new(config, proxies);
        let protocols = protocols(config, Tls::new(config)?);
        Ok(Self { listener, protocols, connections, on_connection_rejected: Box::new(|| ()) })
    }

    /// Calls `callback` for each connection above the limit.
    pub(crate) fn on_connection_rejected(
        self,
        callback: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { on_connection_rejected: Box::new(callback), ..self }
    }

    /// The certificate in use, if any.
    pub(crate) fn tls(&self) -> Option<Tls> {
        self.protocols.tls.clone()
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then waits up to `grace` for requests to finish. Returns whether all of them did.
    pub(crate) async fn run<A: HttpService>(
        self,
        app: A,
        tasks: &TaskSupervisor,
        stop: CancellationToken,
        grace: Duration,
    ) -> bool {
        let connections = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(self.accept()).await {
            let Some(accepted) = accepted else { continue };
            let serving =
                connection::serve(accepted, app.clone(), self.protocols.clone(), stop.clone());
            tasks.spawn("connection", connections.track_future(serving));
        }
        drop(self.listener);
        connections.close();
        tokio::time::timeout(grace, connections.wait()).await.is_ok()
    }

    async fn accept(&self) -> Option<AcceptedConnection> {
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                let Some((stream, permit)) = self.connections.admit(stream, peer.ip()) else {
                    (self.on_connection_rejected)();
                    return None;
                };
                _ = stream.set_nodelay(true);
                Some(AcceptedConnection { stream, peer, permit })
            }
            Err(error) => {
                // Most likely the process is out of file descriptors: a pause lets some close.
                warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                None
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    // Room for bursts of connections that wait to be accepted.
    const BACKLOG: u32 = 4096;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for old connections in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn protocols(config: &Config, tls: Option<Tls>) -> ProtocolConfig {
    const MAX_H2_STREAMS: u32 = 1000;
    // Browsers and proxies send at most 16 KiB; twice that leaves room for tickets in the URL.
    const MAX_HEADER_BYTES: u32 = 32 * 1024;
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_H2_STREAMS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let Config { header_timeout, write_timeout, .. } = *config;
    ProtocolConfig { http1, http2, tls, header_timeout, write_timeout }
}
