//! State of the queue for operators: depth, age and messages in flight.

use futures_util::future::try_join_all;
use serde::Serialize;
use utoipa::ToSchema;

use super::protocol::{self, queue_keys};
use crate::{
    error::{Error, Result},
    ids::JobId,
    redis::Pool,
    store::client::{HashesInterface as _, ListInterface as _, SortedSetsInterface as _, Value},
};

/// The state of a queue.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queue)]
pub(crate) struct QueueReport {
    #[schema(example = "batch_processing")]
    pub(crate) queue: String,
    /// Messages in all priority lists of the queue.
    depth: u64,
    /// Messages by priority step: 0, 3, 6 and 9.
    pub(crate) depth_by_priority: [u64; 4],
    /// Seconds since the longest waiting job was created or retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) oldest_age_seconds: Option<u64>,
    /// Messages of all queues that workers have received and not yet acknowledged.
    pub(crate) in_flight: u64,
    /// Seconds since the oldest message in flight was delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_in_flight_seconds: Option<u64>,
    /// Job of the next message of each priority list.
    #[serde(skip)]
    pub(crate) next_jobs: Vec<JobId>,
}

pub(super) async fn report(broker: &Pool, queue: &str) -> Result<QueueReport> {
    let keys = &queue_keys(queue);
    let now = broker.now_ms().await? / 1000;
    let (depths, next, in_flight, oldest): (Vec<u64>, Vec<Value>, u64, Value) = broker
        .call_idempotent(|client| async move {
            let lengths = keys.iter().map(|key| client.llen::<u64, _>(key));
            // Workers pop from the right end.
            let next = keys.iter().map(|key| client.lindex::<Value, _>(key, -1));
            Ok((
                try_join_all(lengths).await?,
                try_join_all(next).await?,
                client.hlen("unacked").await?,
                client.zrange("unacked_index", 0, 0, None, false, None, true).await?,
            ))
        })
        .await?;
    let oldest: Vec<(String, f64)> = oldest
        .convert()
        .map_err(|error| Error::CorruptData { what: "unacked_index", reason: error.to_string() })?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a Unix time is positive and small"
    )]
    let delivered_at = oldest.first().map(|(_, unix_secs)| *unix_secs as u64);
    let mut depth_by_priority = [0; 4];
    for (slot, depth) in depth_by_priority.iter_mut().zip(&depths) {
        *slot = *depth;
    }
    Ok(QueueReport {
        queue: queue.to_owned(),
        depth: depths.iter().sum(),
        depth_by_priority,
        oldest_age_seconds: None,
        in_flight,
        oldest_in_flight_seconds: delivered_at.map(|at| now.saturating_sub(at)),
        next_jobs: next
            .iter()
            .filter_map(|message| protocol::parse_job_id(message.as_bytes()?))
            .collect(),
    })
}
