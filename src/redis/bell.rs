//! Waiting for a word from elsewhere: a bell rings when something is said on its channels, or may have been.
//!
//! One task hears for all bells of the process, so that a waiter is not woken by what does not concern it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{
    Notify,
    broadcast::error::RecvError,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};
use tokio_util::sync::CancellationToken;

use super::{Signal, Subscriber};
use crate::tasks::Tasks;

/// All bells of the process. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bells(Arc<Inner>);

struct Inner {
    hung: Mutex<HashMap<String, Vec<Arc<Notify>>>>,
    /// As long as there are bells, each of which its owner has bounded: two orders a bell.
    orders: UnboundedSender<Order>,
}

/// What the hearing task is asked to do. It alone subscribes, so that a waiter that is dropped half way leaves the
/// counts of subscriptions right.
enum Order {
    Subscribe(Vec<String>, oneshot::Sender<()>),
    Unsubscribe(Vec<String>),
}

/// Rings for one waiter at a time; a ring that nobody waits for is kept for who waits next.
pub(crate) struct Bell {
    bells: Bells,
    channels: Vec<String>,
    ring: Arc<Notify>,
}

impl Bells {
    pub(super) fn start(subscriber: Subscriber, tasks: &Tasks) -> Self {
        let (orders, received) = unbounded_channel();
        let bells = Self(Arc::new(Inner { hung: Mutex::default(), orders }));
        tasks.spawn("bells", bells.clone().hear(subscriber, received, tasks.shutdown()));
        bells
    }

    /// Returns when the channels are heard; while Redis is away at once, and then the bell rings when it is back.
    pub(super) async fn hang(&self, channels: Vec<String>) -> Bell {
        let bell = Bell { bells: self.clone(), channels, ring: Arc::default() };
        for channel in &bell.channels {
            self.hung().entry(channel.clone()).or_default().push(bell.ring.clone());
        }
        let (done, is_done) = oneshot::channel();
        if self.0.orders.send(Order::Subscribe(bell.channels.clone(), done)).is_ok() {
            _ = is_done.await;
        }
        bell
    }

    fn hung(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Notify>>>> {
        self.0.hung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn hear(
        self,
        subscriber: Subscriber,
        mut orders: UnboundedReceiver<Order>,
        shutdown: CancellationToken,
    ) {
        let mut signals = subscriber.signals();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                signal = signals.recv() => match signal {
                    Ok(Signal::Message { channel, .. }) => self.ring(&channel),
                    Ok(Signal::Gap) => self.ring_all(),
                    Err(RecvError::Lagged(_)) => {
                        signals = signals.resubscribe();
                        self.ring_all();
                    }
                    Err(RecvError::Closed) => return,
                },
                order = orders.recv() => match order {
                    Some(Order::Subscribe(channels, done)) => {
                        subscriber.subscribe(&channels).await;
                        _ = done.send(());
                    }
                    Some(Order::Unsubscribe(channels)) => subscriber.unsubscribe(&channels).await,
                    None => return,
                },
            }
        }
    }

    fn ring(&self, channel: &str) {
        for ring in self.hung().get(channel).into_iter().flatten() {
            ring.notify_one();
        }
    }

    fn ring_all(&self) {
        for ring in self.hung().values().flatten() {
            ring.notify_one();
        }
    }
}

impl Bell {
    pub(crate) async fn rung(&self) {
        self.ring.notified().await;
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let mut hung = self.bells.hung();
        for channel in &self.channels {
            if let Some(rings) = hung.get_mut(channel) {
                rings.retain(|it| !Arc::ptr_eq(it, &self.ring));
                if rings.is_empty() {
                    hung.remove(channel);
                }
            }
        }
        drop(hung);
        // Nobody hears any more only when the service ends.
        _ = self.bells.0.orders.send(Order::Unsubscribe(std::mem::take(&mut self.channels)));
    }
}
