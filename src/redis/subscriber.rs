//! A subscribing connection: subscriptions are counted, and restored after an outage.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use fred::{
    clients::SubscriberClient,
    error::Error as FredError,
    interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _},
    types::{KeyspaceEvent, Message, Value, config::Config as FredConfig},
};
use parking_lot::Mutex;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::timeout,
};

use super::{
    config::Config,
    endpoint::Endpoint,
    supervised_connection::{ConnectionKind, SupervisedConnection},
};
use crate::{observability::metrics::Counter, tasks::TaskSupervisor};

/// Channels do not belong to a database.
const ANY_DATABASE: u8 = 0;

/// An event for the receivers of a [`Subscriber`].
#[derive(Clone, Debug)]
pub(crate) enum PubSubEvent {
    /// A message on a subscribed channel.
    Message { channel: Arc<str>, payload: Bytes },
    /// Messages may have been missed: the connection was lost, or the receiver was too slow.
    Lagged,
}

/// Handle to the subscribing connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Subscriber(Arc<SupervisedConnection<Subscriptions>>);

/// The subscriptions of the connection, and the receivers of its messages.
struct Subscriptions {
    /// Never unsubscribed.
    patterns: Vec<String>,
    /// Channels with the number of their subscribers.
    channels: Mutex<HashMap<String, usize>>,
    /// Held while a command is sent, so that the server gets commands in the order of the counts.
    sending: tokio::sync::Mutex<()>,
    command_timeout: Duration,
    events: broadcast::Sender<PubSubEvent>,
    lag_count: Counter,
}

impl Subscriber {
    /// Connects in the background and subscribes to `patterns`.
    ///
    /// # Errors
    ///
    /// If fred rejects the settings.
    pub(crate) fn start(
        config: &Config,
        endpoint: &Endpoint,
        patterns: Vec<String>,
        tasks: &TaskSupervisor,
        lag_count: Counter,
    ) -> anyhow::Result<Self> {
        const MAX_EVENTS: usize = 8192;
        let subscriptions = Subscriptions {
            patterns,
            channels: Mutex::default(),
            sending: tokio::sync::Mutex::default(),
            command_timeout: config.probe_timeout,
            events: broadcast::channel(MAX_EVENTS).0,
            lag_count,
        };
        SupervisedConnection::start(subscriptions, config, endpoint, tasks, None).map(Self)
    }

    /// Whether messages are received.
    pub(crate) fn is_up(&self) -> bool {
        self.0.client_if_up().is_some()
    }

    /// All events from now on, of every subscription.
    pub(crate) fn events(&self) -> broadcast::Receiver<PubSubEvent> {
        self.0.kind().events.subscribe()
    }

    /// Adds one subscriber to each of `channels`. While Redis is down they are only recorded; [`PubSubEvent::Lagged`]
    /// follows when they are subscribed.
    pub(crate) async fn subscribe(&self, channels: &[String]) {
        let subscriptions = self.0.kind();
        let _turn = subscriptions.sending.lock().await;
        let added = subscriptions.add(channels);
        if let (false, Some(client)) = (added.is_empty(), self.0.client_if_up()) {
            _ = timeout(subscriptions.command_timeout, client.subscribe(added)).await;
        }
    }

    /// Removes one subscriber from each of `channels`.
    pub(crate) async fn unsubscribe(&self, channels: &[String]) {
        let subscriptions = self.0.kind();
        let _turn = subscriptions.sending.lock().await;
        let removed = subscriptions.remove(channels);
        if let (false, Some(client)) = (removed.is_empty(), self.0.client_if_up()) {
            _ = timeout(subscriptions.command_timeout, client.unsubscribe(removed)).await;
        }
    }
}

impl Subscriptions {
    /// Returns the channels that had no subscriber before.
    fn add(&self, channels: &[String]) -> Vec<String> {
        let mut counts = self.channels.lock();
        let mut added = Vec::new();
        for channel in channels {
            let count = counts.entry(channel.clone()).or_default();
            *count += 1;
            if *count == 1 {
                added.push(channel.clone());
            }
        }
        added
    }

    /// Returns the channels that have no subscriber any more.
    fn remove(&self, channels: &[String]) -> Vec<String> {
        let mut counts = self.channels.lock();
        let mut removed = Vec::new();
        for channel in channels {
            let count = counts.get(channel).map_or(0, |count| count.saturating_sub(1));
            if count == 0 {
                counts.remove(channel);
                removed.push(channel.clone());
            } else {
                counts.insert(channel.clone(), count);
            }
        }
        removed
    }

    fn forward(&self, message: &Message) {
        let payload = message.value.as_bytes().map(Bytes::copy_from_slice).unwrap_or_default();
        self.send(PubSubEvent::Message { channel: Arc::from(&*message.channel), payload });
    }

    fn forward_keyspace_event(&self, event: &KeyspaceEvent) {
        let channel = format!("__keyspace@{}__:{}", event.db, event.key.as_str_lossy());
        self.send(PubSubEvent::Message { channel: Arc::from(channel), payload: Bytes::new() });
    }

    fn send(&self, event: PubSubEvent) {
        if matches!(event, PubSubEvent::Lagged) {
            self.lag_count.inc();
        }
        // There may be no receiver.
        _ = self.events.send(event);
    }
}

/// The channels on which fred reports messages of a subscribing client; it separates keyspace events from others.
struct Inbox {
    messages: broadcast::Receiver<Message>,
    keyspace_events: broadcast::Receiver<KeyspaceEvent>,
}

impl ConnectionKind for Subscriptions {
    type Client = SubscriberClient;
    type Inbox = Inbox;

    fn name(&self) -> &'static str {
        "subscriptions"
    }

    fn build(&self, config: &Config, server: &FredConfig) -> Result<SubscriberClient, FredError> {
        config.subscriber_builder(server, ANY_DATABASE).build_subscriber_client()
    }

    fn open_inbox(&self, client: &SubscriberClient) -> Inbox {
        Inbox { messages: client.message_rx(), keyspace_events: client.keyspace_event_rx() }
    }

    async fn receive(&self, inbox: &mut Inbox) {
        tokio::select! {
            message = inbox.messages.recv() => match message {
                Ok(message) => self.forward(&message),
                Err(RecvError::Lagged(_)) => self.send(PubSubEvent::Lagged),
                Err(RecvError::Closed) => std::future::pending().await,
            },
            event = inbox.keyspace_events.recv() => match event {
                Ok(event) => self.forward_keyspace_event(&event),
                Err(RecvError::Lagged(_)) => self.send(PubSubEvent::Lagged),
                Err(RecvError::Closed) => std::future::pending().await,
            },
        }
    }

    async fn ping(&self, client: &SubscriberClient, _: Duration) -> Result<Value, FredError> {
        client.ping(None).await
    }

    async fn prepare(&self, client: &SubscriberClient) {
        let channels: Vec<String> = self.channels.lock().keys().cloned().collect();
        let limit = self.command_timeout.max(Duration::from_secs(1));
        if !channels.is_empty() {
            _ = timeout(limit, client.subscribe(channels)).await;
        }
        if !self.patterns.is_empty() {
            _ = timeout(limit, client.psubscribe(self.patterns.clone())).await;
        }
        self.send(PubSubEvent::Lagged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_subscribed_once_and_until_their_last_subscriber_leaves() {
        let subscriptions = Subscriptions {
            patterns: Vec::new(),
            channels: Mutex::default(),
            sending: tokio::sync::Mutex::default(),
            command_timeout: Duration::ZERO,
            events: broadcast::channel(1).0,
            lag_count: Counter::default(),
        };
        let channels = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(subscriptions.add(&channels(&["a", "b"])), ["a", "b"]);
        assert_eq!(subscriptions.add(&channels(&["b", "c"])), ["c"]);
        assert_eq!(subscriptions.remove(&channels(&["a", "b"])), ["a"]);
        assert_eq!(subscriptions.remove(&channels(&["b"])), ["b"]);
        assert_eq!(subscriptions.channels.lock().len(), 1);
    }
}
