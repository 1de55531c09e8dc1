//! The listener: HTTP/1.1 and HTTP/2 (h2c too) on one port, bounded in number, head and time.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    Config,
    connection::{self, Accepted, Protocols},
};
use crate::tasks::Tasks;

/// A bound port, not yet served.
pub(crate) struct Server {
    listener: TcpListener,
    protocols: Protocols,
    places: Arc<Semaphore>,
}

impl Server {
    /// # Errors
    ///
    /// If the address cannot be had.
    pub(crate) async fn bind(config: &Config) -> io::Result<Self> {
        let places = Arc::new(Semaphore::new(config.max_connections));
        let listener = TcpListener::bind(config.listen).await?;
        Ok(Self { listener, protocols: protocols(config), places })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then lets requests finish for at most `grace`. Says whether all did.
    pub(crate) async fn run(
        self,
        router: Router,
        tasks: &Tasks,
        stop: CancellationToken,
        grace: Duration,
    ) -> bool {
        let connections = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(self.accept()).await {
            let Some(accepted) = accepted else { continue };
            let serving =
                connection::serve(accepted, router.clone(), self.protocols.clone(), stop.clone());
            tasks.spawn_unguarded("connection", connections.track_future(serving));
        }
        drop(self.listener);
        connections.close();
        tokio::time::timeout(grace, connections.wait()).await.is_ok()
    }

    async fn accept(&self) -> Option<Accepted> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, peer)) => {
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

fn protocols(config: &Config) -> Protocols {
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
    Protocols { http1, http2, header_timeout: config.header_timeout }
}
