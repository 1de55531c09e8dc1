//! Queues of lock waiters in this process, first come, first served.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex as SyncMutex, MutexGuard as SyncMutexGuard};
use tokio::sync::{Mutex, MutexGuard};

use crate::{ids::LockName, redis::ChannelWaiter};

/// One queue per lock that has waiters.
#[derive(Default)]
pub(super) struct WaitQueues(SyncMutex<HashMap<LockName, Waiters>>);

struct Waiters {
    count: usize,
    queue: Arc<Queue>,
}

/// tokio's mutex is fair, so waiters get it in the order of their arrival. The first waiter creates the notifier, and
/// each passes it on to the next.
type Queue = Mutex<Option<ChannelWaiter>>;

/// A position in a queue. Dropping it leaves the queue.
pub(super) struct QueueTicket<'a> {
    queues: &'a WaitQueues,
    resource: LockName,
    queue: Arc<Queue>,
}

impl WaitQueues {
    pub(super) fn has_waiters(&self, resource: &LockName) -> bool {
        self.lock().contains_key(resource)
    }

    pub(super) fn enqueue(&self, resource: &LockName) -> QueueTicket<'_> {
        let mut queues = self.lock();
        let no_waiters = || Waiters { count: 0, queue: Arc::default() };
        let waiters = queues.entry(resource.clone()).or_insert_with(no_waiters);
        waiters.count += 1;
        QueueTicket { queues: self, resource: resource.clone(), queue: waiters.queue.clone() }
    }

    fn lock(&self) -> SyncMutexGuard<'_, HashMap<LockName, Waiters>> {
        self.0.lock()
    }
}

impl QueueTicket<'_> {
    /// Waits until all earlier waiters have left the queue.
    pub(super) async fn wait_turn(&self) -> MutexGuard<'_, Option<ChannelWaiter>> {
        self.queue.lock().await
    }
}

impl Drop for QueueTicket<'_> {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        if let Some(waiters) = queues.get_mut(&self.resource) {
            waiters.count -= 1;
            if waiters.count == 0 {
                queues.remove(&self.resource);
            }
        }
    }
}
