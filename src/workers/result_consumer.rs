//! Applies result messages of tasks to their jobs.

use std::sync::atomic::Ordering;

use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    Workers,
    result_message::{TaskReport, TaskUpdate},
};
use crate::{
    celery::Assignment,
    error::{Error, Result},
    ids::{FileId, JobId, truncate_quoted},
    jobs::{FileResult, Status},
};

impl Workers {
    /// Applies a published or stored result message. Messages of other tasks and malformed messages are logged and
    /// skipped.
    pub(super) async fn observe(&self, task: &str, payload: &[u8]) {
        let Ok(task) = Uuid::try_parse(task) else {
            self.0.jobs.metrics().celery.foreign.inc();
            debug!(
                task_id = truncate_quoted(task),
                "ignored a result of a task that this service did not send"
            );
            return;
        };
        let assignment = match self.0.celery.assignment(task).await {
            Ok(Some(assignment)) => assignment,
            Ok(None) => {
                self.0.jobs.metrics().celery.foreign.inc();
                debug!(task_id = %task, "ignored a result of a task that this service did not send");
                return;
            }
            Err(error) => {
                warn!(%error, task_id = %task, "could not look up a task; its stored result will be read later");
                return;
            }
        };
        let update = match TaskUpdate::parse(payload) {
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
            warn!(%error, task_id = %task, job_id = %assignment.job, "could not apply a worker's result");
        }
    }

    /// Applies the stored results of all unfinished tasks, in case messages were missed. After a failure the next tick
    /// repeats it.
    pub(super) async fn reconcile_stored_results(&self) {
        let result = self.read_stored_results().await;
        self.0.needs_reconciliation.store(result.is_err(), Ordering::Relaxed);
        if let Err(error) = result {
            debug!(%error, "could not read the stored results; retrying at the next tick");
        }
    }

    async fn read_stored_results(&self) -> Result<()> {
        const MAX_TASKS: usize = 100_000;
        const BATCH_SIZE: usize = 200;
        let tasks = self.0.celery.active(0, MAX_TASKS).await?;
        for batch in tasks.chunks(BATCH_SIZE) {
            for (task, payload) in self.0.celery.stored_results(batch).await? {
                self.observe(&task.to_string(), &payload).await;
            }
        }
        Ok(())
    }

    async fn apply(&self, task: Uuid, assignment: Assignment, update: TaskUpdate) -> Result<()> {
        self.0.celery.record_heartbeat(task).await?;
        match update {
            TaskUpdate::Heartbeat => Ok(()),
            TaskUpdate::Started => {
                ignore_terminal(self.0.jobs.transition(assignment.job, Status::Processing).await)
            }
            TaskUpdate::Progress(report) => self.apply_report(assignment, report).await,
            TaskUpdate::Succeeded(report) => {
                let error = report.error.clone();
                self.apply_report(assignment, report).await?;
                match error {
                    Some(error) => self.end(assignment, Status::Failed, &error).await,
                    None => self.end(assignment, Status::Completed, "").await,
                }
            }
            TaskUpdate::Failed { error, report } => {
                self.apply_report(assignment, report).await?;
                self.end(assignment, Status::Failed, &error).await
            }
            TaskUpdate::Revoked => self.apply_revocation(assignment).await,
        }
    }

    async fn apply_report(&self, assignment: Assignment, report: TaskReport) -> Result<()> {
        let job = assignment.job;
        for (file, result) in report.results {
            let result = result
                .and_then(|result| self.0.jobs.validate_result(&result).map(|()| result))
                .unwrap_or_else(|reason| {
                    warn!(job_id = %job, file_id = %file, reason, "a worker's result of a file is not valid");
                    FileResult::failed(&format!("the worker's result is not valid: {reason}"))
                });
            ignore_terminal(self.0.jobs.finish_file(job, file, &result).await)?;
        }
        if !report.file_progress.is_empty() {
            ignore_terminal(self.0.progress.report(job, &report.file_progress).await)?;
        }
        match (report.overall, assignment.file) {
            (Some((percent, message)), Some(file)) => {
                ignore_terminal(self.0.progress.report_file(job, file, percent, message).await)
            }
            (Some((percent, message)), None) => {
                ignore_terminal(self.0.progress.report_overall(job, percent, message).await)
            }
            (None, _) => Ok(()),
        }
    }

    /// Ends the task's file, or its job if it has no file.
    async fn end(&self, assignment: Assignment, to: Status, error: &str) -> Result<()> {
        if let Some(file) = assignment.file {
            return self.end_file(assignment.job, file, to, error).await;
        }
        // A job that is being cancelled becomes cancelled even if the worker finished before it received the
        // revocation.
        let to = if self.is_cancelling(assignment.job).await? { Status::Cancelled } else { to };
        ignore_terminal(self.0.jobs.transition_with_error(assignment.job, to, error).await)
    }

    async fn end_file(&self, job: JobId, file: FileId, to: Status, error: &str) -> Result<()> {
        let result = if to == Status::Completed {
            FileResult::without_model()
        } else {
            FileResult::failed(error)
        };
        ignore_terminal(self.0.jobs.finish_file(job, file, &result).await)
    }

    /// Cancels the job. A task of one file whose job is not being cancelled was revoked by another program: it fails
    /// only the file.
    async fn apply_revocation(&self, assignment: Assignment) -> Result<()> {
        let job = assignment.job;
        let is_cancelling = self.is_cancelling(job).await?;
        match assignment.file {
            Some(file) if !is_cancelling => {
                self.end_file(job, file, Status::Failed, "the task was revoked").await
            }
            _ => ignore_terminal(self.0.jobs.transition(job, Status::Cancelled).await),
        }
    }

    async fn is_cancelling(&self, job: JobId) -> Result<bool> {
        let job = self.0.jobs.find(job).await?;
        Ok(job.is_some_and(|job| job.status == Status::Cancelling))
    }

    /// Fails a task's job or file.
    pub(super) async fn fail(&self, task: Uuid, error: &str) -> Result<()> {
        match self.0.celery.assignment(task).await? {
            Some(assignment) => self.end(assignment, Status::Failed, error).await,
            None => self.0.celery.untrack(task).await,
        }
    }
}

/// Ignores the errors of updates to jobs that have ended or no longer exist: late messages are expected.
fn ignore_terminal<T>(result: Result<T>) -> Result<()> {
    match result {
        Ok(_)
        | Err(
            Error::JobNotFound(_)
            | Error::FileNotFound { .. }
            | Error::InvalidTransition { .. }
            | Error::StaleAttempt { .. },
        ) => Ok(()),
        Err(error) => Err(error),
    }
}
