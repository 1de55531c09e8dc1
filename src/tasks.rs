//! Task supervision: the only module that spawns. Tasks have names, are awaited at shutdown, and a critical task that
//! ends early stops the service.

use std::{future::Future, io, thread, time::Duration};

use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, info_span};

/// A group of tasks. When a critical task ends early, even by a panic, all tasks are cancelled. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TaskSupervisor {
    tracker: TaskTracker,
    /// Cancels all tasks of the service.
    all: CancellationToken,
    /// Cancels the tasks of this group: a child of `all`, or `all` itself.
    shutdown: CancellationToken,
}

impl Default for TaskSupervisor {
    fn default() -> Self {
        let all = CancellationToken::new();
        Self { tracker: TaskTracker::new(), shutdown: all.clone(), all }
    }
}

impl TaskSupervisor {
    /// Cancelled when the group should stop; long-lived tasks must watch it.
    pub(crate) fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// A child group, which can be stopped by itself.
    pub(crate) fn child(&self) -> Self {
        Self {
            tracker: self.tracker.clone(),
            all: self.all.clone(),
            shutdown: self.shutdown.child_token(),
        }
    }

    /// Cancels this group without waiting for its tasks.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Spawns a critical task: if it ends before [`TaskSupervisor::shutdown_token`] is cancelled, the service stops.
    pub(crate) fn spawn_critical(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (stop_all, own) = (self.all.clone().drop_guard(), self.shutdown.clone());
        self.spawn(name, async move {
            task.await;
            if own.is_cancelled() {
                stop_all.disarm();
            }
        });
    }

    /// Runs `work` on its own thread, on which tasks can be spawned. A panic stops the service; returning early does not.
    ///
    /// # Errors
    ///
    /// If the system cannot create a thread.
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
            // A panic drops the sender instead. A failed send means that the service has already stopped.
            _ = running.send(());
        })?;
        let shutdown = self.shutdown_token();
        self.spawn_critical(name, async move {
            if ended.await.is_ok() {
                shutdown.cancelled().await;
            }
        });
        Ok(())
    }

    /// Spawns a task that may end at any time, such as one connection.
    #[expect(clippy::disallowed_methods, reason = "the only function that spawns")]
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        tokio::spawn(self.tracker.track_future(task.instrument(info_span!("task", name))));
    }

    /// Cancels every task of the service and waits up to `grace`. Returns whether all of them ended in time.
    pub(crate) async fn shutdown(&self, grace: Duration) -> bool {
        self.all.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}
