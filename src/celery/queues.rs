//! What operators ask of the queue: how deep, how old, how much in flight.

use fred::{
    interfaces::{HashesInterface as _, ListInterface as _, SortedSetsInterface as _},
    types::Value,
};
use futures_util::future::try_join_all;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    protocol::{self, queue_keys},
    store::corrupt,
};
use crate::{error::Result, ids::JobId, redis::Pool};

/// A queue as it stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queue)]
pub(crate) struct QueueReport {
    #[schema(example = "batch_processing")]
    pub(crate) queue: String,
    /// Messages in all its priority lists.
    depth: u64,
    /// By priority step.
    pub(crate) depth_by_priority: [u64; 4],
    /// Seconds since the job that waits longest was created or retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) oldest_age_seconds: Option<u64>,
    /// Messages of all queues that workers have taken and not acknowledged.
    pub(crate) in_flight: u64,
    /// Seconds since the oldest of these was delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_in_flight_seconds: Option<u64>,
    /// The jobs of the messages that are served next, one a priority.
    #[serde(skip)]
    pub(crate) next_jobs: Vec<JobId>,
}

pub(super) async fn report(broker: &Pool, queue: &str) -> Result<QueueReport> {
    let keys = &queue_keys(queue);
    let now = broker.now_ms().await? / 1000;
    let (depths, next, in_flight, oldest): (Vec<u64>, Vec<Value>, u64, Value) = broker
        .call_idempotent(|client| async move {
            let lengths = keys.iter().map(|it| client.llen::<u64, _>(it));
            // Workers take from the right.
            let next = keys.iter().map(|it| client.lindex::<Value, _>(it, -1));
            Ok((
                try_join_all(lengths).await?,
                try_join_all(next).await?,
                client.hlen("unacked").await?,
                client.zrange("unacked_index", 0, 0, None, false, None, true).await?,
            ))
        })
        .await?;
    let oldest: Vec<(String, f64)> =
        oldest.convert().map_err(|error| corrupt("unacked_index", &error))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a Unix time is positive and small"
    )]
    let delivered = oldest.first().map(|it| it.1 as u64);
    let mut depth_by_priority = [0; 4];
    depth_by_priority.iter_mut().zip(&depths).for_each(|(it, depth)| *it = *depth);
    Ok(QueueReport {
        queue: queue.to_owned(),
        depth: depths.iter().sum(),
        depth_by_priority,
        oldest_age_seconds: None,
        in_flight,
        oldest_in_flight_seconds: delivered.map(|it| now.saturating_sub(it)),
        next_jobs: next.iter().filter_map(|it| protocol::job_of(it.as_bytes()?)).collect(),
    })
}
