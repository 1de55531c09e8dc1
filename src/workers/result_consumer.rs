//! Makes what a task's result message says progress of its job.

use std::sync::atomic::Ordering;

use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    Workers,
    result_message::{Said, Update},
};
use crate::{
    celery::Assignment,
    error::{Error, Result},
    ids::{FileId, quoted},
    jobs::{FileResult, Status},
};

impl Workers {
    /// Takes in a result message as it was published or stored. One that makes no sense is logged and passed over.
    pub(super) async fn observe(&self, task: &str, payload: &[u8]) {
        let Ok(task) = Uuid::try_parse(task) else {
            self.0.jobs.metrics().celery.foreign.inc();
            debug!(task_id = quoted(task), "a result of a task that is not ours");
            return;
        };
        let assignment = match self.0.celery.assignment(task).await {
            Ok(Some(assignment)) => assignment,
            Ok(None) => {
                self.0.jobs.metrics().celery.foreign.inc();
                debug!(task_id = %task, "a result of a task that is not ours");
                return;
            }
            Err(error) => {
                warn!(%error, task_id = %task, "could not look up a task; its stored result is read later");
                return;
            }
        };
        let update = match Update::parse(payload) {
            Ok(update) => {
                self.0.jobs.metrics().celery.observed.inc();
                update
            }
            Err(reason) => {
                self.0.jobs.metrics().celery.malformed.inc();
                warn!(task_id = %task, job_id = %assignment.job, reason, "a worker's result message is malformed");
                return;
            }
        };
        if let Err(error) = self.apply(task, assignment, update).await {
            warn!(%error, task_id = %task, job_id = %assignment.job, "could not take in a worker's result");
        }
    }

    /// Reads the stored results of all tasks that have not ended: some may have been missed. What cannot be read now
    /// is read at the next tick.
    pub(super) async fn catch_up(&self) {
        let read = self.read_stored_results().await;
        self.0.is_behind.store(read.is_err(), Ordering::Relaxed);
        if let Err(error) = read {
            debug!(%error, "could not read stored results");
        }
    }

    async fn read_stored_results(&self) -> Result<()> {
        const MAX_TASKS: usize = 100_000;
        const AT_ONCE: usize = 200;
        let tasks = self.0.celery.active(0, MAX_TASKS).await?;
        for chunk in tasks.chunks(AT_ONCE) {
            for (task, payload) in self.0.celery.stored_results(chunk).await? {
                self.observe(&task.to_string(), &payload).await;
            }
        }
        Ok(())
    }

    async fn apply(&self, task: Uuid, of: Assignment, update: Update) -> Result<()> {
        self.0.celery.touch(task).await?;
        match update {
            Update::Alive => Ok(()),
            Update::Started => forgiving(self.0.jobs.transition(of.job, Status::Processing).await),
            Update::Progress(said) => self.take_in(of, said).await,
            Update::Succeeded(said) => {
                let error = said.error.clone();
                self.take_in(of, said).await?;
                match error {
                    Some(error) => self.end(of, Status::Failed, &error).await,
                    None => self.end(of, Status::Completed, "").await,
                }
            }
            Update::Failed { error, said } => {
                self.take_in(of, said).await?;
                self.end(of, Status::Failed, &error).await
            }
            Update::Revoked => self.revoked(of).await,
        }
    }

    async fn take_in(&self, of: Assignment, said: Said) -> Result<()> {
        for (file, result) in said.results {
            let result = result.and_then(|it| self.0.jobs.check_result(&it).map(|()| it));
            let result = result.unwrap_or_else(|reason| {
                warn!(job_id = %of.job, file_id = %file, reason, "a worker's result of a file is not valid");
                FileResult::failed(&format!("the worker's result is not valid: {reason}"))
            });
            forgiving(self.0.jobs.finish_file(of.job, file, &result).await)?;
        }
        if !said.reports.is_empty() {
            forgiving(self.0.progress.report(of.job, &said.reports).await)?;
        }
        match (said.overall, of.file) {
            (Some((percent, message)), Some(file)) => {
                forgiving(self.0.progress.report_file(of.job, file, percent, message).await)
            }
            (Some((percent, message)), None) => {
                forgiving(self.0.progress.report_overall(of.job, percent, message).await)
            }
            (None, _) => Ok(()),
        }
    }

    /// Ends what the task was for: its job, or its file.
    async fn end(&self, of: Assignment, to: Status, error: &str) -> Result<()> {
        if let Some(file) = of.file {
            return self.end_file(of, file, to, error).await;
        }
        // Work that was done before its worker heard of the cancellation is cancelled all the same.
        let is_cancelling =
            self.0.jobs.find(of.job).await?.is_some_and(|it| it.status == Status::Cancelling);
        let to = if is_cancelling { Status::Cancelled } else { to };
        forgiving(self.0.jobs.transition_because(of.job, to, error).await)
    }

    async fn end_file(&self, of: Assignment, file: FileId, to: Status, error: &str) -> Result<()> {
        let result = if to == Status::Completed {
            FileResult::without_model()
        } else {
            FileResult::failed(error)
        };
        forgiving(self.0.jobs.finish_file(of.job, file, &result).await)
    }

    async fn revoked(&self, of: Assignment) -> Result<()> {
        let is_cancelling =
            self.0.jobs.find(of.job).await?.is_some_and(|it| it.status == Status::Cancelling);
        match of.file {
            Some(file) if !is_cancelling => {
                self.end_file(of, file, Status::Failed, "the task was revoked").await
            }
            _ => forgiving(self.0.jobs.transition(of.job, Status::Cancelled).await),
        }
    }

    /// Gives up on a task.
    pub(super) async fn fail(&self, task: Uuid, error: &str) -> Result<()> {
        match self.0.celery.assignment(task).await? {
            Some(of) => self.end(of, Status::Failed, error).await,
            None => self.0.celery.forget(task).await,
        }
    }
}

/// A job that is over or gone takes no more word of it, which is no fault.
fn forgiving<T>(result: Result<T>) -> Result<()> {
    match result {
        Ok(_)
        | Err(
            Error::JobNotFound(_)
            | Error::FileNotFound { .. }
            | Error::WrongStatus { .. }
            | Error::StaleAttempt { .. },
        ) => Ok(()),
        Err(error) => Err(error),
    }
}
