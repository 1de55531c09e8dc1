//! Stream tickets and links for `EventSource`, which cannot send a key: for one job, or for many jobs on one
//! connection.

use axum::extract::State;
use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::job_response::stream_link;
use crate::{
    api::{
        extract::{Json, Path, auth::RequireClient},
        problem::Problem,
        state::AppState,
    },
    auth::StreamTickets,
    error::{Error, Result},
    ids::{InvalidId, JobId},
    jobs::Jobs,
};

/// The limit of jobs per stream.
const MAX_JOBS: usize = 100;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create_ticket)).routes(routes!(create_multi_stream_link))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ticket)]
struct TicketResponse {
    #[schema(example = "MTc5NTQwNTcyMg.5mYw")]
    ticket: String,
    /// Path of the job's stream, including the ticket.
    #[schema(
        example = "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/progress/stream?ticket=MTc5NTQwNTcyMg.5mYw"
    )]
    stream: String,
}

/// Create a stream ticket
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/ticket", operation_id = "ticket", tag = "progress",
    security(("key" = ["client"])), responses((status = 200, body = TicketResponse)))]
async fn create_ticket(
    State(jobs): State<Jobs>,
    State(tickets): State<StreamTickets>,
    RequireClient(caller): RequireClient,
    Path(id): Path<JobId>,
) -> Result<Json<TicketResponse>, Problem> {
    let job = jobs.get_visible_to(&caller, id).await?;
    let ticket = tickets.issue(job.id).await?.as_str().to_owned();
    Ok(Json(TicketResponse { stream: stream_link(id, &ticket), ticket }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JobsToFollow)]
struct MultiStreamRequest {
    #[schema(min_items = 1, max_items = 100, value_type = Vec<JobId>)]
    jobs: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct StreamLink {
    /// The jobs that exist, in the order of the ids in `stream`.
    jobs: Vec<JobId>,
    /// Path of the stream of these jobs, with a ticket for each; absent if no job exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "/api/v1/progress/stream?jobs=1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed&ticket=MTc5NTQwNTcyMg.5mYw"
    )]
    stream: Option<String>,
}

/// Create a link to the stream of up to 100 jobs
///
/// Jobs that do not exist or belong to another client are omitted, so a page can pass a list in which some jobs were
/// deleted meanwhile.
#[utoipa::path(post, path = "/api/v1/progress/ticket", operation_id = "many", tag = "progress",
    security(("key" = ["client"])), request_body = MultiStreamRequest,
    responses((status = 200, body = StreamLink), (status = 400, description = "INVALID_JOB_ID")))]
async fn create_multi_stream_link(
    State(jobs): State<Jobs>,
    State(tickets): State<StreamTickets>,
    RequireClient(caller): RequireClient,
    Json(request): Json<MultiStreamRequest>,
) -> Result<Json<StreamLink>, Problem> {
    let count = request.jobs.len();
    if !(1..=MAX_JOBS).contains(&count) {
        return Err(Problem::invalid(format!("jobs: {count} is not between 1 and {MAX_JOBS}")));
    }
    let requested: Vec<JobId> = request
        .jobs
        .iter()
        .map(String::as_str)
        .map(str::parse)
        .collect::<Result<_, InvalidId>>()?;
    let mut existing = Vec::with_capacity(count);
    for lookup in join_all(requested.iter().map(|id| jobs.get_visible_to(&caller, *id))).await {
        match lookup {
            Ok(job) => existing.push(job.id),
            Err(Error::JobNotFound(_)) => (),
            Err(error) => return Err(error.into()),
        }
    }
    let issued = try_join_all(existing.iter().map(|id| tickets.issue(*id))).await?;
    let stream = (!existing.is_empty()).then(|| {
        let ids: Vec<String> = existing.iter().map(JobId::to_string).collect();
        let issued: Vec<String> = issued.iter().map(|ticket| ticket.as_str().to_owned()).collect();
        format!("/api/v1/progress/stream?jobs={}&ticket={}", ids.join(","), issued.join(","))
    });
    Ok(Json(StreamLink { jobs: existing, stream }))
}
