//! A connection that is not waited for without end: to begin, and to take what it is sent.
//!
//! hyper bounds the time that a request head takes, but not until it knows which protocol is spoken, and not how long
//! a client may leave an answer lying.

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

/// What is read before hyper knows the protocol: the length of HTTP/2's preface. No request of HTTP/1.1 is shorter.
const PREFACE_LEN: usize = 24;

pub(super) struct Patient<S> {
    inner: S,
    /// What is missing of the first bytes, and by when they must have come.
    beginning: Option<(usize, Pin<Box<Sleep>>)>,
    write_timeout: Duration,
    /// Until when the client has to take something, while it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(inner: S, first_bytes_within: Duration, write_timeout: Duration) -> Self {
        let beginning = Some((PREFACE_LEN, Box::pin(sleep(first_bytes_within))));
        Self { inner, beginning, write_timeout, stalled: None }
    }

    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    /// Passes `written` on, unless nothing was written for too long.
    fn unless_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let Some((missing, deadline)) = &mut self.beginning else { return read };
        let n_read = buffer.filled().len() - before;
        if n_read >= *missing {
            self.beginning = None;
            return read;
        }
        *missing -= n_read;
        if read.is_ready() && deadline.deadline() > Instant::now() {
            return read;
        }
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client says nothing")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.unless_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.unless_stalled(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(context);
        self.unless_stalled(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const LONG: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn who_begins_slowly_is_not_waited_for() {
        let (mut client, server) = duplex(1000);
        let mut server = Patient::new(server, LONG, LONG);
        client.write_all(b"PRI * HTTP/2.0").await.unwrap();
        let mut buffer = [0; 100];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 14);
        let started = Instant::now();
        let error = server.read(&mut buffer).await.unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && started.elapsed() >= LONG * 9 / 10);
    }

    #[tokio::test]
    async fn who_has_begun_may_be_silent() {
        let (mut client, server) = duplex(1000);
        let mut server = Patient::new(server, LONG, LONG);
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut buffer = [0; 100];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 27);
        let waited = tokio::time::timeout(4 * LONG, server.read(&mut buffer)).await;
        assert!(waited.is_err(), "it is still waited for");
    }

    #[tokio::test]
    async fn who_takes_nothing_is_not_waited_for_and_who_takes_little_is() {
        let (mut client, server) = duplex(10);
        let mut server = Patient::new(server, LONG, LONG);
        server.write_all(&[0; 10]).await.unwrap();
        let mut byte = [0];
        // Longer than the timeout, all in all.
        for _ in 0..5 {
            let taking = async {
                sleep(LONG / 4).await;
                client.read_exact(&mut byte).await.unwrap();
            };
            // In this order, so that a machine that is late for both is late for neither.
            let ((), written) = futures_util::future::join(taking, server.write(&[1])).await;
            assert_eq!(written.unwrap(), 1);
        }
        let started = Instant::now();
        let error = server.write(&[1]).await.unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && started.elapsed() >= LONG * 9 / 10);
    }
}
