//! The listener: HTTP/1.1 and HTTP/2 (h2c too) on one port, bounded in number, head and time.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::Config;
use crate::tasks::Tasks;

/// A bound port, not yet served.
pub(crate) struct Server {
    listener: TcpListener,
    protocol: auto::Builder<TokioExecutor>,
    places: Arc<Semaphore>,
}

impl Server {
    /// # Errors
    ///
    /// If the address cannot be had.
    pub(crate) async fn bind(config: &Config) -> io::Result<Self> {
        const MAX_H2_STREAMS: u32 = 1000;
        let header_limit =
            usize::try_from(config.header_limit.as_u64()).unwrap_or(usize::MAX).max(8192);
        let mut protocol = auto::Builder::new(TokioExecutor::new());
        protocol
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_buf_size(header_limit);
        protocol
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(header_limit).unwrap_or(u32::MAX))
            .max_concurrent_streams(MAX_H2_STREAMS)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        let places = Arc::new(Semaphore::new(config.max_connections));
        Ok(Self { listener: TcpListener::bind(config.listen).await?, protocol, places })
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
        let graceful = GracefulShutdown::new();
        while let Some(stream) = stop.run_until_cancelled(self.accept()).await {
            let Some((stream, peer, place)) = stream else { continue };
            let app = router.clone();
            let service = tower::service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(ConnectInfo(peer));
                app.clone().oneshot(request.map(Body::new))
            });
            let connection = self
                .protocol
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            let connection = graceful.watch(connection.into_owned());
            tasks.spawn_unguarded("connection", async move {
                let _place = place;
                if let Err(error) = connection.await {
                    debug!(%error, "connection ended");
                }
            });
        }
        drop(self.listener);
        tokio::time::timeout(grace, graceful.shutdown()).await.is_ok()
    }

    async fn accept(&self) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                _ = stream.set_nodelay(true);
                Some((stream, peer, place))
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
