//! Serves one connection: detects HTTP/1 or HTTP/2 by the first bytes, and hands over sockets.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, pending, poll_fn},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use hyper::{
    Method, Request, Response, Version,
    body::{Body, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};
use tracing::debug;

use super::{
    Tls,
    connection_limit::ConnectionPermit,
    socket_handoff::{RawConnection, SocketHandoff, encode_response_head},
    timeout_stream::TimeoutStream,
};

/// The address of the connection that a request arrived on: an extension of every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// A service that answers the requests of all connections.
pub(crate) trait HttpService:
    Service<
        Request<Incoming>,
        Response = Response<Self::ResponseBody>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
{
    type ResponseBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>
        + Send
        + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    type ResponseBody = B;
}

/// Protocol settings shared by all connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct ProtocolConfig {
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<TokioExecutor>,
    pub(super) tls: Option<Tls>,
    /// The longest wait for the first bytes of a connection.
    pub(super) header_timeout: Duration,
    /// The longest wait for a client that reads nothing.
    pub(super) write_timeout: Duration,
}

impl ProtocolConfig {
    fn with_timeouts<S>(&self, stream: S) -> TimeoutStream<S> {
        TimeoutStream::new(stream, self.header_timeout, self.write_timeout)
    }
}

/// An accepted connection.
pub(super) struct AcceptedConnection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: ConnectionPermit,
}

/// Serves a connection until it closes, or until its current request ends once `stop` is cancelled.
pub(super) async fn serve<A: HttpService>(
    accepted: AcceptedConnection,
    app: A,
    protocols: ProtocolConfig,
    stop: CancellationToken,
) {
    if let Some(tls) = &protocols.tls {
        return serve_tls(tls, accepted, app, &protocols, stop).await;
    }
    let protocol = stop.run_until_cancelled(tokio::time::timeout(
        protocols.header_timeout,
        is_http2(&accepted.stream),
    ));
    match protocol.await {
        Some(Ok(Ok(true))) => {
            let _permit = accepted.permit;
            serve_http2(accepted.stream, accepted.peer, app, &protocols, stop).await;
        }
        Some(Ok(Ok(false))) => serve_http1(accepted, app, &protocols, stop).await,
        Some(Ok(Err(error))) => debug!(%error, "connection closed before a request"),
        // The client sent nothing in time, or the service is stopping.
        Some(Err(_)) | None => (),
    }
}

/// Whether the connection begins with the HTTP/2 preface (RFC 9113, section 3.4). No supported method starts with `PRI`.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI";
    const POLL_INTERVAL: Duration = Duration::from_millis(5);
    let mut start = [0; PREFACE.len()];
    loop {
        let peeked = stream.peek(&mut start).await?;
        if peeked == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if peeked == PREFACE.len() || !PREFACE.starts_with(&start[..peeked]) {
            return Ok(start == *PREFACE);
        }
        // Peeked bytes do not wake the task again.
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Serves both protocols over TLS, selected by ALPN; sockets are not handed over.
async fn serve_tls<A: HttpService>(
    tls: &Tls,
    accepted: AcceptedConnection,
    app: A,
    protocols: &ProtocolConfig,
    stop: CancellationToken,
) {
    let AcceptedConnection { stream, peer, permit: _permit } = accepted;
    let handshake = tokio::time::timeout(protocols.header_timeout, tls.acceptor().accept(stream));
    let stream = match stop.run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(error))) => return debug!(%error, "TLS handshake failed"),
        Some(Err(_)) | None => return,
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return serve_http2(stream, peer, app, protocols, stop).await;
    }
    let service = service_fn(move |request| handle_request(app.clone(), peer, request));
    let stream = TokioIo::new(protocols.with_timeouts(stream));
    let mut connection = pin!(protocols.http1.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection closed with an error");
    }
}

async fn serve_http2<S, A: HttpService>(
    stream: S,
    peer: SocketAddr,
    app: A,
    protocols: &ProtocolConfig,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| handle_request(app.clone(), peer, request));
    let stream = TokioIo::new(protocols.with_timeouts(stream));
    let connection = protocols.http2.serve_connection(stream, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection closed with an error");
    }
}

async fn serve_http1<A: HttpService>(
    accepted: AcceptedConnection,
    app: A,
    protocols: &ProtocolConfig,
    stop: CancellationToken,
) {
    let peer = accepted.peer;
    let requested_handoff = Arc::new(Mutex::new(None));
    let socket = BacklogTrackingStream::new(accepted.stream);
    let has_backlog = socket.has_backlog.clone();
    let service = service_fn(|request: Request<Incoming>| {
        let may_hand_over =
            request.method() == Method::GET && request.version() == Version::HTTP_11;
        let (app, requested_handoff, has_backlog) =
            (app.clone(), requested_handoff.clone(), has_backlog.clone());
        async move {
            let response = handle_request(app, peer, request).await?;
            if may_hand_over
                && !has_backlog.load(Ordering::Relaxed)
                && let Some(takeover) = SocketHandoff::from_response(&response)
            {
                let head = encode_response_head(&response);
                *requested_handoff.lock() = Some((takeover, head));
                return pending().await;
            }
            Ok::<_, Infallible>(response)
        }
    });
    let stream = TokioIo::new(protocols.with_timeouts(socket));
    let mut connection = protocols.http1.serve_connection(stream, service);
    let mut stopped = pin!(stop.cancelled());
    let mut is_stopping = false;
    let outcome = poll_fn(|cx| {
        if !is_stopping && stopped.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Err(ended)),
            Poll::Pending => match requested_handoff.lock().take() {
                Some(handoff) => Poll::Ready(Ok(handoff)),
                None => Poll::Pending,
            },
        }
    });
    match outcome.await {
        Ok(handoff) => {
            let socket = connection.into_parts().io.into_inner().into_inner();
            complete_handoff(handoff, socket, accepted.permit);
        }
        Err(Err(error)) => debug!(%error, "connection closed with an error"),
        Err(Ok(())) => (),
    }
}

fn complete_handoff(
    (takeover, head): (SocketHandoff, Bytes),
    socket: BacklogTrackingStream,
    permit: ConnectionPermit,
) {
    match socket.stream.into_std() {
        Ok(socket) => takeover.complete(RawConnection { socket, head, permit }),
        Err(error) => debug!(%error, "socket hand-off failed"),
    }
}

async fn handle_request<A: HttpService>(
    app: A,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<A::ResponseBody>, Infallible> {
    request.extensions_mut().insert(PeerAddress(peer));
    app.oneshot(request).await
}

/// A stream that knows whether written bytes are still buffered in this process. Such a socket must not be handed
/// over, because hyper would keep the rest of the bytes.
struct BacklogTrackingStream {
    stream: TcpStream,
    has_backlog: Arc<AtomicBool>,
}

impl BacklogTrackingStream {
    fn new(stream: TcpStream) -> Self {
        Self { stream, has_backlog: Arc::default() }
    }

    fn track<T>(&self, written: Poll<T>) -> Poll<T> {
        self.has_backlog.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl AsyncRead for BacklogTrackingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BacklogTrackingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.track(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.track(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
