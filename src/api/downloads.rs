//! `/api/v1/download/{job_id}/all`: all results of a job, which the deployed front-end fetches once, right after
//! `task_completed`.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        extract::{Json, Path, auth::RequireReader},
        problem::Problem,
        state::AppState,
    },
    ids::JobId,
    jobs::Jobs,
};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_downloads))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Downloads)]
struct DownloadsResponse {
    job_id: JobId,
    files: Vec<Download>,
    /// URLs in the order of `files`.
    #[schema(example = json!(["https://models.example/chair.glb"]))]
    download_urls: Vec<String>,
    total_files: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct Download {
    #[schema(example = "chair.glb")]
    filename: String,
    /// Size in bytes.
    #[schema(example = 81_920)]
    size: u64,
    #[schema(example = "model/gltf-binary")]
    mime_type: String,
    #[schema(required)]
    created_time: Option<DateTime<Utc>>,
    /// Null without an image, because the front-end compares with null.
    #[schema(required, value_type = Option<Object>, example = json!({"url": "https://models.example/chair.png"}))]
    rendered_image: Option<Value>,
}

/// List a finished job's models
///
/// The list is complete before any stream reports the end of the job.
#[utoipa::path(get, path = "/api/v1/download/{job_id}/all", operation_id = "all", tag = "files",
    security(("key" = ["client", "worker"])), responses((status = 200, body = DownloadsResponse)))]
async fn list_downloads(
    State(jobs): State<Jobs>,
    RequireReader(caller): RequireReader,
    Path(job_id): Path<JobId>,
) -> Result<Json<DownloadsResponse>, Problem> {
    let job = jobs.get_visible_to(&caller, job_id).await?;
    let results = jobs.results(job_id).await?;
    let created_time = job.ended_at.or(job.updated_at);
    let (mut files, mut download_urls) = (Vec::new(), Vec::new());
    for model in results.iter().filter_map(|result| result.get("result")) {
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
    Ok(Json(DownloadsResponse { job_id, total_files: files.len(), files, download_urls }))
}
