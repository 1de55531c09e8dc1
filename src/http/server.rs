//! The listener: HTTP/1.1 and HTTP/2 on one port, plain or with TLS, bounded in number, head and time.

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
    connection::{self, Accepted, HttpService, Protocols},
    connection_limit::Connections,
};
use crate::tasks::Tasks;

/// A bound port, not yet served.
pub(crate) struct Server {
    listener: TcpListener,
    protocols: Protocols,
    connections: Connections,
    on_refusal: Box<dyn Fn() + Send + Sync>,
}

impl Server {
    /// `proxies` are not limited in their connections, since many callers are behind each.
    ///
    /// # Errors
    ///
    /// If the address cannot be had, or the certificate is none.
    pub(crate) fn bind(config: &Config, proxies: Vec<IpNet>) -> Result<Self> {
        let listener = listen(config.listen)
            .with_context(|| format!("cannot listen on {} (server.listen)", config.listen))?;
        let connections = Connections::new(config, proxies);
        let protocols = protocols(config, Tls::new(config)?);
        Ok(Self { listener, protocols, connections, on_refusal: Box::new(|| ()) })
    }

    /// Calls `tell` for each connection that finds no place.
    pub(crate) fn on_refusal(self, tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self { on_refusal: Box::new(tell), ..self }
    }

    /// The certificate in use, if there is one.
    pub(crate) fn tls(&self) -> Option<Tls> {
        self.protocols.tls.clone()
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then lets requests finish for at most `grace`. Says whether all did.
    pub(crate) async fn run<A: HttpService>(
        self,
        app: A,
        tasks: &Tasks,
        stop: CancellationToken,
        grace: Duration,
    ) -> bool {
        let connections = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(self.accept()).await {
            let Some(accepted) = accepted else { continue };
            let serving =
                connection::serve(accepted, app.clone(), self.protocols.clone(), stop.clone());
            tasks.spawn_unguarded("connection", connections.track_future(serving));
        }
        drop(self.listener);
        connections.close();
        tokio::time::timeout(grace, connections.wait()).await.is_ok()
    }

    async fn accept(&self) -> Option<Accepted> {
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                let Some((stream, place)) = self.connections.enter(stream, peer.ip()) else {
                    (self.on_refusal)();
                    return None;
                };
                _ = stream.set_nodelay(true);
                Some(Accepted { stream, peer, place })
            }
            Err(error) => {
                // Out of file descriptors, most likely: waiting a little lets some close.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                None
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    // Of connections that the system keeps until they are accepted: room for many that come at once.
    const BACKLOG: u32 = 4096;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for what is left of old connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn protocols(config: &Config, tls: Option<Tls>) -> Protocols {
    const MAX_H2_STREAMS: u32 = 1000;
    let header_limit =
        usize::try_from(config.header_limit.as_u64()).unwrap_or(usize::MAX).max(8192);
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(header_limit);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(header_limit).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_H2_STREAMS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let Config { header_timeout, write_timeout, .. } = *config;
    Protocols { http1, http2, tls, header_timeout, write_timeout }
}
