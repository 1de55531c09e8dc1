//! The task behind a client, from its one attempt to connect on, and when to make another if that failed.

use fred::types::ConnectHandle;
use tokio::time::{Instant, sleep_until};

/// Of one client.
pub(super) struct Attempt {
    handle: ConnectHandle,
    next: Instant,
}

impl Attempt {
    /// If it fails, the next may be made at `next`.
    pub(super) fn new(handle: ConnectHandle, next: Instant) -> Self {
        Self { handle, next }
    }

    /// Whether fred has given the client up, and it is time for another.
    pub(super) fn is_over(&self) -> bool {
        self.handle.is_finished() && self.next <= Instant::now()
    }

    /// Waits until [`Attempt::is_over`].
    pub(super) async fn over(&mut self) {
        if !self.handle.is_finished() {
            // Why does not matter: there is no connection.
            _ = (&mut self.handle).await;
        }
        sleep_until(self.next).await;
    }

    /// Ends the connection, too.
    pub(super) fn abort(&self) {
        self.handle.abort();
    }
}
