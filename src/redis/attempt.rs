//! The task behind a client, from its one attempt to connect on, and when to make another if that failed.

use std::time::Duration;

use fred::types::ConnectHandle;
use tokio::time::{Instant, sleep_until};

use super::Config;

/// Of one client.
pub(super) struct Attempt {
    handle: ConnectHandle,
    next: Instant,
}

impl Attempt {
    /// To a server that has not answered for `down`.
    pub(super) fn new(handle: ConnectHandle, config: &Config, down: Duration) -> Self {
        let pause = pause(config.reconnect_min_delay, config.reconnect_max_delay, down);
        Self { handle, next: Instant::now() + pause }
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

/// Soon at first, since most servers come back within moments, then ever later, and never many processes at once.
fn pause(least: Duration, most: Duration, down: Duration) -> Duration {
    let longest = (down / 16).max(least).min(most);
    longest.mul_f64(f64::midpoint(1.0, fastrand::f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_grow_rarer_with_the_outage_and_never_keep_time() {
        let ms = Duration::from_millis;
        let pauses = |down| (0..100).map(move |_| pause(ms(40), ms(500), down));
        for (down, least, most) in
            [(0, 20, 40), (1000, 31, 63), (3200, 100, 200), (60_000, 250, 500)]
        {
            assert!(pauses(ms(down)).all(|it| (ms(least)..=ms(most)).contains(&it)), "{down}");
            let (first, last) = (pauses(ms(down)).min(), pauses(ms(down)).max());
            assert!(last > first.map(|it| it + ms(most - least) / 2), "{down}");
        }
    }
}
