//! Connections without supervision: their owner replaces them after a failure, because a new connection costs less than
//! a repair.

use std::{pin::Pin, time::Duration};

use fred::{
    error::{Error as FredError, ErrorKind},
    interfaces::ClientLike,
    types::ConnectHandle,
};
use tokio::time::timeout;

/// A client whose connection closes when this value is dropped.
pub(super) struct OneShotConnection<C> {
    client: C,
    handle: ConnectHandle,
}

impl<C: ClientLike> OneShotConnection<C> {
    /// Starts to connect in the background.
    pub(super) fn open(client: C) -> Self {
        Self { handle: client.connect(), client }
    }

    pub(super) fn client(&self) -> &C {
        &self.client
    }
}

impl<C> Drop for OneShotConnection<C> {
    fn drop(&mut self) {
        // Dropping the client alone would leak the connection.
        self.handle.abort();
    }
}

/// Runs `call` for at most `limit`; fred's own timeout does not cover every command.
pub(super) fn within<'a, T: 'a>(
    limit: Duration,
    call: impl Future<Output = Result<T, FredError>> + Send + 'a,
) -> impl Future<Output = Result<T, FredError>> + Send + 'a {
    // On the heap and without its type: fred's futures are large, and the callers' futures would contain them.
    let call: Pin<Box<dyn Future<Output = Result<T, FredError>> + Send + 'a>> = Box::pin(call);
    async move {
        match timeout(limit, call).await {
            Ok(reply) => reply,
            Err(_) => Err(FredError::new(ErrorKind::Timeout, "no reply in time")),
        }
    }
}
