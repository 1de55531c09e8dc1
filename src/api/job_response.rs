//! The response body of a job.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    auth::StreamTickets,
    error::Result,
    ids::JobId,
    jobs::{Job, JobFile, Status},
};

/// A job. Fields without a value are omitted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct JobResponse {
    job_id: JobId,
    status: Status,
    /// Percent.
    #[schema(maximum = 100, example = 40)]
    progress: u8,
    total_files: u32,
    completed_files: u32,
    failed_files: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<Map<String, Value>>,
    files: Vec<JobFile>,
    attempt: u32,
    /// Number of tasks ahead of the job's tasks, while it waits in a Celery queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue_position: Option<u64>,
    pub(super) links: JobLinks,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "self": "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
    "progress": "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/progress",
    "stream": "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/progress/stream?ticket=MTc5NTQwNTcyMg.5mYw",
    "cancel": "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/cancel",
}))]
pub(super) struct JobLinks {
    #[serde(rename = "self")]
    pub(super) self_: String,
    progress: String,
    /// The event stream, with a ticket, so that `EventSource` needs no header.
    stream: String,
    cancel: String,
}

impl JobResponse {
    pub(super) async fn new(job: Job, tickets: &StreamTickets) -> Result<Self> {
        let ticket = tickets.issue(job.id).await?;
        let self_ = format!("/api/v1/jobs/{}", job.id);
        Ok(Self {
            links: JobLinks {
                progress: format!("{self_}/progress"),
                stream: stream_link(job.id, ticket.as_str()),
                cancel: format!("{self_}/cancel"),
                self_,
            },
            job_id: job.id,
            status: job.status,
            progress: job.progress,
            total_files: job.total_files,
            completed_files: job.completed_files,
            failed_files: job.failed_files,
            created_at: job.created_at,
            updated_at: job.updated_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            error: job.error,
            params: job.params,
            files: job.files,
            attempt: job.attempt,
            queue_position: None,
        })
    }
}

pub(super) fn stream_link(job: JobId, ticket: &str) -> String {
    format!("/api/v1/jobs/{job}/progress/stream?ticket={ticket}")
}
