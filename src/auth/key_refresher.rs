//! Keeps what this process knows of keys and secrets up with Redis, and keeps them from expiring there.

use std::time::Duration;

use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ApiKeys, Tickets};
use crate::{
    redis::{PubSubEvent, Subscriber},
    store::API_KEYS_CHANNEL,
};

/// A change that was not heard of is seen after this long: half of the second within which a revoked key has to stop.
const LOOK: Duration = Duration::from_millis(500);
/// Until keys were read once, nobody can be told that a key is wrong.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const NOTE_USED: Duration = Duration::from_secs(5);
const RENEW_SECRET: Duration = Duration::from_secs(30);

/// Runs until `shutdown`.
pub(crate) async fn watch(
    keys: ApiKeys,
    tickets: Tickets,
    subscriber: Subscriber,
    shutdown: CancellationToken,
) {
    let work = async {
        let mut signals = subscriber.events();
        subscriber.subscribe(&[API_KEYS_CHANNEL.to_owned()]).await;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut noted, mut renewed) = (Instant::now(), None::<Instant>);
        let mut is_well = true;
        loop {
            tokio::select! {
                signal = signals.recv() => match signal {
                    Ok(PubSubEvent::Message { channel, .. }) if *channel != *API_KEYS_CHANNEL => continue,
                    Ok(_) => (),
                    Err(RecvError::Lagged(_)) => signals = signals.resubscribe(),
                    Err(RecvError::Closed) => break,
                },
                _ = looks.tick() => (),
            }
            is_well = look(&keys, is_well).await;
            if !keys.are_known() {
                looks.reset_after(FIRST_LOOK);
            }
            if noted.elapsed() >= NOTE_USED {
                // What could not be noted is noted the next time.
                _ = keys.note_used().await;
                noted = Instant::now();
            }
            if renewed.is_none_or(|it| it.elapsed() >= RENEW_SECRET)
                && tickets.renew().await.is_ok()
            {
                renewed = Some(Instant::now());
            }
        }
    };
    _ = shutdown.run_until_cancelled(Box::pin(work)).await;
    _ = keys.note_used().await;
}

/// Reads the keys; returns whether that went well.
async fn look(keys: &ApiKeys, was_well: bool) -> bool {
    if !keys.are_known() && !keys.can_ask() {
        // A start is no outage.
        return was_well;
    }
    let read = keys.refresh().await;
    match &read {
        Ok(()) if !was_well => info!("keys are read from Redis again"),
        Err(error) if was_well && keys.are_known() => {
            warn!(%error, "keys cannot be read from Redis; the last known ones go on");
        }
        _ => (),
    }
    read.is_ok() || !keys.are_known()
}
