//! What the deployed front-end fetches once, right after `task_completed`: all results of a job.

use axum::{Router, extract::State, routing::get};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::Jobs;
use crate::{
    auth::Reader,
    http::{Json, Path, Problem},
    ids::JobId,
    state::AppState,
};

pub(super) fn router() -> Router<AppState> {
    Router::new().route("/api/v1/download/{job_id}/all", get(all))
}

#[derive(Debug, Serialize)]
struct Downloads {
    job_id: JobId,
    files: Vec<Download>,
    /// In the order of `files`.
    download_urls: Vec<String>,
    total_files: usize,
}

#[derive(Debug, Serialize)]
struct Download {
    filename: String,
    /// Bytes.
    size: u64,
    mime_type: String,
    created_time: Option<DateTime<Utc>>,
    /// Null where there is none: the front-end tests for it.
    rendered_image: Option<Value>,
}

async fn all(
    State(jobs): State<Jobs>,
    Reader(caller): Reader,
    Path(job_id): Path<JobId>,
) -> Result<Json<Downloads>, Problem> {
    let job = jobs.get_for(&caller, job_id).await?;
    let results = jobs.results(job_id).await?;
    let created_time = job.ended_at.or(job.updated_at);
    let (mut files, mut download_urls) = (Vec::new(), Vec::new());
    for model in results.iter().filter_map(|it| it.get("result")) {
        let text =
            |name: &str| model.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        download_urls.push(text("url"));
        files.push(Download {
            filename: text("filename"),
            size: model.get("size").and_then(Value::as_u64).unwrap_or(0),
            mime_type: text("mime_type"),
            created_time,
            rendered_image: model.get("rendered_image").cloned(),
        });
    }
    Ok(Json(Downloads { job_id, total_files: files.len(), files, download_urls }))
}
