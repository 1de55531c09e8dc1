//! `/api/v1/admin/queues`: the queue and its workers, for operators.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        extract::{Json, auth::Admin},
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
struct Queues {
    /// Whether jobs are handed to Celery at all.
    enabled: bool,
    queues: Vec<QueueReport>,
    workers_alive: usize,
    workers: Vec<Worker>,
    /// Tasks that have shown no sign of life for long.
    #[schema(example = json!([]))]
    stalled_tasks: Vec<String>,
    /// Result messages that this process has heard while it looked after Celery.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_messages: Option<ResultMessages>,
}

/// Read how the queue and its workers are
#[utoipa::path(get, path = "/api/v1/admin/queues", tag = "admin", security(("key" = ["admin"])),
    responses((status = 200, body = Queues)))]
async fn queues(State(workers): State<Option<Workers>>, _: Admin) -> Result<Json<Queues>, Problem> {
    let Some(workers) = workers else { return Ok(Json(Queues::default())) };
    let report = workers.queue_report().await?;
    let alive = workers.alive();
    Ok(Json(Queues {
        enabled: true,
        queues: vec![report],
        workers_alive: alive.len(),
        workers: alive,
        stalled_tasks: workers.stalled().await?,
        result_messages: Some(workers.result_messages()),
    }))
}
