//! Links for `EventSource`, which can send no key: to one job's stream, or to one of many jobs.

use axum::extract::State;
use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::jobs_response::stream_link;
use crate::{
    api::{
        extract::{Json, Path, auth::Client},
        problem::Problem,
        state::AppState,
    },
    auth::Tickets,
    error::{Error, Result},
    ids::{InvalidId, JobId},
    jobs::Jobs,
};

/// As many as one stream takes.
const MAX_JOBS: usize = 100;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(ticket)).routes(routes!(many))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ticket)]
struct TicketBody {
    #[schema(example = "MTc5NTQwNTcyMg.5mYw")]
    ticket: String,
    /// The job's stream, with the ticket.
    #[schema(
        example = "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/progress/stream?ticket=MTc5NTQwNTcyMg.5mYw"
    )]
    stream: String,
}

/// Make a fresh stream ticket
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/ticket", tag = "progress", security(("key" = ["client"])),
    responses((status = 200, body = TicketBody)))]
async fn ticket(
    State(jobs): State<Jobs>,
    State(tickets): State<Tickets>,
    Client(caller): Client,
    Path(id): Path<JobId>,
) -> Result<Json<TicketBody>, Problem> {
    let job = jobs.get_for(&caller, id).await?;
    let ticket = tickets.issue(job.id).await?.as_str().to_owned();
    Ok(Json(TicketBody { stream: stream_link(id, &ticket), ticket }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JobsToFollow)]
struct ManyBody {
    #[schema(min_items = 1, max_items = 100, value_type = Vec<JobId>)]
    jobs: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamLink)]
struct LinkBody {
    /// Those of the jobs that there are, in the order of the stream's ids.
    jobs: Vec<JobId>,
    /// Their stream, with a ticket for each; absent if none of them exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "/api/v1/progress/stream?jobs=1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed&ticket=MTc5NTQwNTcyMg.5mYw"
    )]
    stream: Option<String>,
}

/// Make a link to the stream of up to 100 jobs
///
/// Jobs that do not exist, or are somebody else's, are left out: a page that shows a list need not know which were
/// deleted meanwhile.
#[utoipa::path(post, path = "/api/v1/progress/ticket", tag = "progress", security(("key" = ["client"])),
    request_body = ManyBody,
    responses((status = 200, body = LinkBody), (status = 400, description = "INVALID_JOB_ID")))]
async fn many(
    State(jobs): State<Jobs>,
    State(tickets): State<Tickets>,
    Client(caller): Client,
    Json(asked): Json<ManyBody>,
) -> Result<Json<LinkBody>, Problem> {
    let n_asked = asked.jobs.len();
    if !(1..=MAX_JOBS).contains(&n_asked) {
        return Err(Problem::invalid(format!("jobs: {n_asked} are not between 1 and {MAX_JOBS}")));
    }
    let asked: Vec<JobId> =
        asked.jobs.iter().map(String::as_str).map(str::parse).collect::<Result<_, InvalidId>>()?;
    let mut known = Vec::with_capacity(n_asked);
    for found in join_all(asked.iter().map(|it| jobs.get_for(&caller, *it))).await {
        match found {
            Ok(job) => known.push(job.id),
            Err(Error::JobNotFound(_)) => (),
            Err(error) => return Err(error.into()),
        }
    }
    let issued = try_join_all(known.iter().map(|it| tickets.issue(*it))).await?;
    let stream = (!known.is_empty()).then(|| {
        let ids: Vec<String> = known.iter().map(JobId::to_string).collect();
        let issued: Vec<String> = issued.iter().map(|it| it.as_str().to_owned()).collect();
        format!("/api/v1/progress/stream?jobs={}&ticket={}", ids.join(","), issued.join(","))
    });
    Ok(Json(LinkBody { jobs: known, stream }))
}
