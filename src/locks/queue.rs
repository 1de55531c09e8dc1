//! Who waits for which lock in this process, in their order.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex as SyncMutex, MutexGuard as SyncMutexGuard};
use tokio::sync::{Mutex, MutexGuard};

use crate::{ids::Resource, redis::ChannelWaiter};

/// A queue for each lock that somebody waits for.
#[derive(Default)]
pub(super) struct Queues(SyncMutex<HashMap<Resource, Waiting>>);

struct Waiting {
    n: usize,
    queue: Arc<Queue>,
}

/// tokio's mutex lets waiters in first come, first served. The bell is hung by the first and left to the next.
type Queue = Mutex<Option<ChannelWaiter>>;

/// A place in a queue; dropping it gives it up.
pub(super) struct Place<'a> {
    queues: &'a Queues,
    resource: Resource,
    queue: Arc<Queue>,
}

impl Queues {
    pub(super) fn has_waiters(&self, resource: &Resource) -> bool {
        self.waiting().contains_key(resource)
    }

    pub(super) fn join(&self, resource: &Resource) -> Place<'_> {
        let mut waiting = self.waiting();
        let fresh = || Waiting { n: 0, queue: Arc::default() };
        let entry = waiting.entry(resource.clone()).or_insert_with(fresh);
        entry.n += 1;
        Place { queues: self, resource: resource.clone(), queue: entry.queue.clone() }
    }

    fn waiting(&self) -> SyncMutexGuard<'_, HashMap<Resource, Waiting>> {
        self.0.lock()
    }
}

impl Place<'_> {
    /// Waits until everybody before has been served or has gone.
    pub(super) async fn turn(&self) -> MutexGuard<'_, Option<ChannelWaiter>> {
        self.queue.lock().await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queues.waiting();
        if let Some(entry) = waiting.get_mut(&self.resource) {
            entry.n -= 1;
            if entry.n == 0 {
                waiting.remove(&self.resource);
            }
        }
    }
}
