//! The only way to spawn: named tasks that are counted, drained, and noticed when they die.

use std::{future::Future, io, thread, time::Duration};

use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, info_span};

/// The service's long-lived tasks. If one ends, even by a panic, all are asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    /// Of the whole service.
    all: CancellationToken,
    /// Of these tasks: the same, or a part.
    shutdown: CancellationToken,
}

impl Default for Tasks {
    fn default() -> Self {
        let all = CancellationToken::new();
        Self { tracker: TaskTracker::new(), shutdown: all.clone(), all }
    }
}

impl Tasks {
    /// Cancelled when the service should stop; long-lived work must watch it.
    pub(crate) fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Tasks that can be stopped while the others go on.
    pub(crate) fn part(&self) -> Self {
        Self {
            tracker: self.tracker.clone(),
            all: self.all.clone(),
            shutdown: self.shutdown.child_token(),
        }
    }

    /// Asks these tasks to stop, and waits for none.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Runs `task` until it ends of itself, which it must soon after [`Tasks::shutdown`].
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (stop_all, own) = (self.all.clone().drop_guard(), self.shutdown.clone());
        self.spawn_unguarded(name, async move {
            task.await;
            if own.is_cancelled() {
                stop_all.disarm();
            }
        });
    }

    /// Runs `work` on a thread of its own, in which tasks can be spawned. A panic stops the service; it may end before.
    ///
    /// # Errors
    ///
    /// If the system has no more threads.
    pub(crate) fn spawn_thread(
        &self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let (running, ended) = oneshot::channel();
        let runtime = Handle::current();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _runtime = runtime.enter();
            work();
            // A panic drops it instead. Without anybody to hear it the service has stopped.
            _ = running.send(());
        })?;
        let shutdown = self.shutdown();
        self.spawn(name, async move {
            if ended.await.is_ok() {
                shutdown.cancelled().await;
            }
        });
        Ok(())
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
        self.all.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}
