//! Reloads API keys and the shared ticket secret from Redis, and renews their TTLs there.

use std::time::Duration;

use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ApiKeys, StreamTickets};
use crate::{
    redis::{PubSubEvent, Subscriber},
    store::API_KEYS_CHANNEL,
};

/// Keys are reloaded at this interval in case that the notification of a change is lost. Half of the second within
/// which a revoked key must stop working.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Until the keys are loaded for the first time, because no key can be rejected before.
const STARTUP_POLL_INTERVAL: Duration = Duration::from_millis(5);
const LAST_USED_FLUSH_INTERVAL: Duration = Duration::from_secs(5);
const SECRET_REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// Runs until `shutdown`.
pub(crate) async fn run_refresher(
    keys: ApiKeys,
    tickets: StreamTickets,
    subscriber: Subscriber,
    shutdown: CancellationToken,
) {
    let work = async {
        let mut signals = subscriber.events();
        subscriber.subscribe(&[API_KEYS_CHANNEL.to_owned()]).await;
        let mut polls = interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last_flush, mut last_secret_refresh) = (Instant::now(), None::<Instant>);
        let mut is_healthy = true;
        loop {
            tokio::select! {
                signal = signals.recv() => match signal {
                    Ok(PubSubEvent::Message { channel, .. }) if *channel != *API_KEYS_CHANNEL => continue,
                    Ok(_) => (),
                    Err(RecvError::Lagged(_)) => signals = signals.resubscribe(),
                    Err(RecvError::Closed) => break,
                },
                _ = polls.tick() => (),
            }
            is_healthy = refresh(&keys, is_healthy).await;
            if !keys.is_loaded() {
                polls.reset_after(STARTUP_POLL_INTERVAL);
            }
            if last_flush.elapsed() >= LAST_USED_FLUSH_INTERVAL {
                // After a failure, the next flush includes these keys.
                _ = keys.flush_last_used().await;
                last_flush = Instant::now();
            }
            if last_secret_refresh.is_none_or(|last| last.elapsed() >= SECRET_REFRESH_INTERVAL)
                && tickets.refresh_shared_secret().await.is_ok()
            {
                last_secret_refresh = Some(Instant::now());
            }
        }
    };
    _ = shutdown.run_until_cancelled(Box::pin(work)).await;
    _ = keys.flush_last_used().await;
}

/// Reloads the keys. Returns whether that succeeded; a failure during startup does not count.
async fn refresh(keys: &ApiKeys, was_healthy: bool) -> bool {
    if !keys.is_loaded() && !keys.is_redis_up() {
        return was_healthy;
    }
    let refreshed = keys.refresh().await;
    match &refreshed {
        Ok(()) if !was_healthy => info!("API keys are loaded from Redis again"),
        Err(error) if was_healthy && keys.is_loaded() => {
            warn!(%error, "loading API keys from Redis failed; keeping the previous keys");
        }
        _ => (),
    }
    refreshed.is_ok() || !keys.is_loaded()
}
