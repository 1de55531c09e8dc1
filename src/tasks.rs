//! The only way to spawn: named tasks that are counted, drained, and noticed when they die.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, info_span};

/// The service's long-lived tasks. If one ends, even by a panic, all are asked to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Tasks {
    /// Cancelled when the service should stop; long-lived work must watch it.
    pub(crate) fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Runs `task` until it ends of itself, which it must soon after [`Tasks::shutdown`].
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop_all = self.shutdown.clone().drop_guard();
        self.spawn_unguarded(name, async move {
            let _stop_all = stop_all;
            task.await;
        });
    }

    /// Runs work that may end at any time, such as one connection, without ending the service with it.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub(crate) fn spawn_unguarded(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        tokio::spawn(self.tracker.track_future(task.instrument(info_span!("task", name))));
    }

    /// Asks every task to stop and waits up to `grace`; says whether all of them did.
    pub(crate) async fn drain(&self, grace: Duration) -> bool {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}
