//! One connection attempt of a client, and the delay before the next client is made if it fails.

use std::time::Duration;

use fred::types::ConnectHandle;
use tokio::time::{Instant, sleep_until};

use super::config::{RECONNECT_MAX_DELAY, RECONNECT_MIN_DELAY};

/// fred's task behind one client, which lives from the first attempt to connect until the client is abandoned.
pub(super) struct ConnectAttempt {
    handle: ConnectHandle,
    retry_at: Instant,
}

impl ConnectAttempt {
    /// `outage` is how long the server has not answered.
    pub(super) fn new(handle: ConnectHandle, outage: Duration) -> Self {
        let delay = backoff(RECONNECT_MIN_DELAY, RECONNECT_MAX_DELAY, outage);
        Self { handle, retry_at: Instant::now() + delay }
    }

    /// Whether fred has abandoned the client and the delay before the next attempt is over.
    pub(super) fn should_retry(&self) -> bool {
        self.handle.is_finished() && self.retry_at <= Instant::now()
    }

    /// Waits until [`ConnectAttempt::should_retry`].
    pub(super) async fn finished(&mut self) {
        if !self.handle.is_finished() {
            // The reason does not matter: there is no connection.
            _ = (&mut self.handle).await;
        }
        sleep_until(self.retry_at).await;
    }

    /// Closes the connection as well.
    pub(super) fn abort(&self) {
        self.handle.abort();
    }
}

/// Short at first, because most servers return within moments; longer as the outage lasts. Jitter spreads the attempts
/// of many processes.
fn backoff(min: Duration, max: Duration, outage: Duration) -> Duration {
    let longest = (outage / 16).max(min).min(max);
    longest.mul_f64(f64::midpoint(1.0, fastrand::f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_with_the_outage_and_have_jitter() {
        let ms = Duration::from_millis;
        let delays = |outage| (0..100).map(move |_| backoff(ms(40), ms(500), outage));
        for (outage, min, max) in
            [(0, 20, 40), (1000, 31, 63), (3200, 100, 200), (60_000, 250, 500)]
        {
            assert!(
                delays(ms(outage)).all(|delay| (ms(min)..=ms(max)).contains(&delay)),
                "{outage}"
            );
            let (shortest, longest) = (delays(ms(outage)).min(), delays(ms(outage)).max());
            assert!(longest > shortest.map(|delay| delay + ms(max - min) / 2), "{outage}");
        }
    }
}
