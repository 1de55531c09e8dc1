//! One watcher's part in a channel.

use std::sync::{Arc, atomic::Ordering};

use super::channel::{Channel, Cursor, Delivery};
use crate::{ids::StreamId, sse::frame::Frame};

/// A watcher's place in a channel. Dropping it leaves.
pub(crate) struct Subscription {
    pub(crate) channel: Arc<Channel>,
    pub(crate) cursor: Cursor,
}

impl Subscription {
    /// Of a channel whose subscribers were counted up for it.
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self { cursor: Cursor::INVALID, channel }
    }

    /// See [`Channel::deliver`].
    pub(crate) fn deliver(&mut self, may_join: bool) -> Delivery {
        self.channel.deliver(&mut self.cursor, may_join)
    }

    /// Goes on after frames that were delivered from the stream.
    pub(crate) fn seen(&mut self, id: StreamId) {
        self.cursor.seen = self.cursor.seen.max(id);
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
