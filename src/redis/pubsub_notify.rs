//! Waiters for messages on channels: a `Notify` that publish/subscribe triggers.
//!
//! One task receives for all waiters of the process, so that a message wakes only the waiters of its channel.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{
    Notify,
    broadcast::error::RecvError,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};
use tokio_util::sync::CancellationToken;

use super::subscriber::{PubSubEvent, Subscriber};
use crate::tasks::TaskSupervisor;

/// All waiters of the process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PubSubNotifier(Arc<Inner>);

struct Inner {
    /// By channel.
    waiters: Mutex<HashMap<String, Vec<Arc<Notify>>>>,
    /// Bounded by the number of waiters, which their owners limit: two commands for each.
    commands: UnboundedSender<Command>,
}

/// Commands to the receiving task. Only that task subscribes, so that a caller that is cancelled half way leaves the
/// counts of subscriptions right.
enum Command {
    Subscribe(Vec<String>, oneshot::Sender<()>),
    Unsubscribe(Vec<String>),
}

/// Is notified of messages on its channels. It wakes one task at a time; a notification without a waiting task is kept
/// for the next one.
pub(crate) struct ChannelWaiter {
    notifier: PubSubNotifier,
    channels: Vec<String>,
    notify: Arc<Notify>,
}

impl PubSubNotifier {
    pub(crate) fn start(subscriber: Subscriber, tasks: &TaskSupervisor) -> Self {
        let (commands, received) = unbounded_channel();
        let notifier = Self(Arc::new(Inner { waiters: Mutex::default(), commands }));
        tasks.spawn_critical(
            "pubsub notifier",
            notifier.clone().run(subscriber, received, tasks.shutdown_token()),
        );
        notifier
    }

    /// Returns a waiter once the channels are subscribed. While Redis is down it returns at once, and the waiter is
    /// notified when Redis is back.
    pub(crate) async fn register(&self, channels: Vec<String>) -> ChannelWaiter {
        let waiter = ChannelWaiter { notifier: self.clone(), channels, notify: Arc::default() };
        for channel in &waiter.channels {
            let mut waiters = self.0.waiters.lock();
            waiters.entry(channel.clone()).or_default().push(waiter.notify.clone());
        }
        let (done, is_done) = oneshot::channel();
        if self.0.commands.send(Command::Subscribe(waiter.channels.clone(), done)).is_ok() {
            _ = is_done.await;
        }
        waiter
    }

    async fn run(
        self,
        subscriber: Subscriber,
        mut commands: UnboundedReceiver<Command>,
        shutdown: CancellationToken,
    ) {
        let mut events = subscriber.events();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.recv() => match event {
                    Ok(PubSubEvent::Message { channel, .. }) => self.notify(&channel),
                    Ok(PubSubEvent::Lagged) => self.notify_all(),
                    Err(RecvError::Lagged(_)) => {
                        events = events.resubscribe();
                        self.notify_all();
                    }
                    Err(RecvError::Closed) => return,
                },
                command = commands.recv() => match command {
                    Some(Command::Subscribe(channels, done)) => {
                        subscriber.subscribe(&channels).await;
                        _ = done.send(());
                    }
                    Some(Command::Unsubscribe(channels)) => subscriber.unsubscribe(&channels).await,
                    None => return,
                },
            }
        }
    }

    fn notify(&self, channel: &str) {
        for notify in self.0.waiters.lock().get(channel).into_iter().flatten() {
            notify.notify_one();
        }
    }

    fn notify_all(&self) {
        for notify in self.0.waiters.lock().values().flatten() {
            notify.notify_one();
        }
    }
}

impl ChannelWaiter {
    /// Waits for a message, or for a moment after which messages may have been missed.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }
}

impl Drop for ChannelWaiter {
    fn drop(&mut self) {
        let mut waiters = self.notifier.0.waiters.lock();
        for channel in &self.channels {
            if let Some(of_channel) = waiters.get_mut(channel) {
                of_channel.retain(|notify| !Arc::ptr_eq(notify, &self.notify));
                if of_channel.is_empty() {
                    waiters.remove(channel);
                }
            }
        }
        drop(waiters);
        // The receiver is gone only when the service stops.
        let channels = std::mem::take(&mut self.channels);
        _ = self.notifier.0.commands.send(Command::Unsubscribe(channels));
    }
}
