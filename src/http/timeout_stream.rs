//! A stream wrapper that times out when the client sends no first bytes or stops reading.
//!
//! hyper limits the time of a request head, but only once it knows the protocol, and it does not limit how long a
//! client may leave a response unread.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// The length of the HTTP/2 preface: bytes read before hyper knows the protocol. No HTTP/1.1 request is shorter.
const PREFACE_LEN: usize = 24;

pub(super) struct TimeoutStream<S> {
    inner: S,
    /// The number of first bytes still missing, and the deadline for them.
    first_bytes: Option<(usize, Pin<Box<Sleep>>)>,
    write_timeout: Duration,
    /// The deadline for the next write, while the client reads nothing.
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> TimeoutStream<S> {
    pub(super) fn new(inner: S, first_bytes_timeout: Duration, write_timeout: Duration) -> Self {
        let first_bytes = Some((PREFACE_LEN, Box::pin(sleep(first_bytes_timeout))));
        Self { inner, first_bytes, write_timeout, write_deadline: None }
    }

    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    /// Returns the result of a write, or an error once nothing could be written for `write_timeout`.
    fn poll_write_timeout<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        let timeout = self.write_timeout;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let Some((missing, deadline)) = &mut self.first_bytes else { return read };
        let read_count = buffer.filled().len() - before;
        if read_count >= *missing {
            self.first_bytes = None;
            return read;
        }
        *missing -= read_count;
        if read.is_ready() && deadline.deadline() > Instant::now() {
            return read;
        }
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client sent no first bytes")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.poll_write_timeout(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.poll_write_timeout(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.poll_write_timeout(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(context);
        self.poll_write_timeout(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_client_without_first_bytes_times_out() {
        let (mut client, server) = duplex(1000);
        let mut server = TimeoutStream::new(server, TIMEOUT, TIMEOUT);
        client.write_all(b"PRI * HTTP/2.0").await.unwrap();
        let mut buffer = [0; 100];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 14);
        let started = Instant::now();
        let error = server.read(&mut buffer).await.unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && started.elapsed() >= TIMEOUT * 9 / 10);
    }

    #[tokio::test]
    async fn a_client_that_sent_first_bytes_may_be_idle() {
        let (mut client, server) = duplex(1000);
        let mut server = TimeoutStream::new(server, TIMEOUT, TIMEOUT);
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut buffer = [0; 100];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 27);
        let waited = tokio::time::timeout(4 * TIMEOUT, server.read(&mut buffer)).await;
        assert!(waited.is_err(), "the connection stays open");
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_times_out_and_a_slow_one_does_not() {
        let (mut client, server) = duplex(10);
        let mut server = TimeoutStream::new(server, TIMEOUT, TIMEOUT);
        server.write_all(&[0; 10]).await.unwrap();
        let mut byte = [0];
        // Together longer than the timeout.
        for _ in 0..5 {
            let taking = async {
                sleep(TIMEOUT / 4).await;
                client.read_exact(&mut byte).await.unwrap();
            };
            // In this order, so that a slow machine delays both sides alike.
            let ((), written) = futures_util::future::join(taking, server.write(&[1])).await;
            assert_eq!(written.unwrap(), 1);
        }
        let started = Instant::now();
        let error = server.write(&[1]).await.unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && started.elapsed() >= TIMEOUT * 9 / 10);
    }
}
