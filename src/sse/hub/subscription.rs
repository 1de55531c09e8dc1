//! A watcher's subscription to a channel.

use std::sync::{Arc, atomic::Ordering};

use super::channel::{Channel, Cursor, Delivery};
use crate::{ids::StreamId, sse::frame::Frame};

/// A watcher's position in a channel. Dropping it unsubscribes.
pub(crate) struct Subscription {
    pub(crate) channel: Arc<Channel>,
    pub(crate) cursor: Cursor,
}

impl Subscription {
    /// Expects that the caller has already increased `subscriber_count` of `channel`.
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self { cursor: Cursor::INVALID, channel }
    }

    /// See [`Channel::deliver`].
    pub(crate) fn deliver(&mut self, may_concat: bool) -> Delivery {
        self.channel.deliver(&mut self.cursor, may_concat)
    }

    /// Moves the cursor past frames that were read from the stream.
    pub(crate) fn advance_to(&mut self, id: StreamId) {
        self.cursor.seen_id = self.cursor.seen_id.max(id);
    }

    pub(crate) fn resync(&mut self) -> Vec<Frame> {
        self.channel.resync(&mut self.cursor)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.channel.subscriber_count.fetch_sub(1, Ordering::Relaxed);
    }
}
