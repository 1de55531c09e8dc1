//! `/api/v1/admin/queues`: the Celery queue and its workers.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        extract::{Json, auth::RequireAdmin},
        problem::Problem,
        state::AppState,
    },
    celery::QueueReport,
    workers::{ResultMessages, Workers, heartbeats::Worker},
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(queues))
}

#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Queues)]
struct QueuesResponse {
    /// Whether jobs are sent to Celery.
    enabled: bool,
    queues: Vec<QueueReport>,
    workers_alive: usize,
    workers: Vec<Worker>,
    /// Ids of tasks without a recent heartbeat.
    #[schema(example = json!([]))]
    stalled_tasks: Vec<String>,
    /// Result messages that this process received while it was the leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_messages: Option<ResultMessages>,
}

/// Read the state of the queue and its workers
#[utoipa::path(get, path = "/api/v1/admin/queues", tag = "admin", security(("key" = ["admin"])),
    responses((status = 200, body = QueuesResponse)))]
async fn queues(
    State(workers): State<Option<Workers>>,
    _: RequireAdmin,
) -> Result<Json<QueuesResponse>, Problem> {
    let Some(workers) = workers else { return Ok(Json(QueuesResponse::default())) };
    let report = workers.queue_report().await?;
    let alive = workers.alive();
    Ok(Json(QueuesResponse {
        enabled: true,
        queues: vec![report],
        workers_alive: alive.len(),
        workers: alive,
        stalled_tasks: workers.stalled().await?,
        result_messages: Some(workers.result_messages()),
    }))
}
