//! Periodically reconciles the channels with Redis, for changes that no notification reports: entries of writers
//! that only add to a stream while Redis sends no keyspace events, jobs that ended in the record only, and streams
//! that were recreated. Also drops unwatched channels.
//!
//! The reads are spread over the interval so that they delay neither Redis nor the [reader](super::stream_reader).

use std::sync::{Arc, atomic::Ordering};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Channel, Hub, signal_channels, stream_reader::STREAMS_PER_READ};
use crate::{error::Result, ids::JobId, progress::store};

/// Reconciles all channels of `hub` once in each `sse.reconcile_interval`, until `shutdown`.
pub(super) async fn run(hub: Hub, shutdown: CancellationToken) {
    let work = async {
        loop {
            let next = Instant::now() + hub.0.config.reconcile_interval;
            hub.drop_unwatched().await;
            hub.reconcile().await;
            sleep_until(next).await;
        }
    };
    _ = shutdown.run_until_cancelled(Box::pin(work)).await;
}

impl Hub {
    async fn reconcile(&self) {
        // The rest of the interval is left to the reads.
        const PAUSE_FRACTION: f64 = 0.8;
        let channels = self.all_channels();
        self.metrics().watched_jobs.set(i64::try_from(channels.len()).unwrap_or(i64::MAX));
        let chunk_count =
            u32::try_from(channels.len().div_ceil(STREAMS_PER_READ)).unwrap_or(u32::MAX);
        let pause = self.0.config.reconcile_interval.mul_f64(PAUSE_FRACTION) / chunk_count.max(1);
        for (done_count, chunk) in channels.chunks(STREAMS_PER_READ).enumerate() {
            if done_count > 0 {
                sleep(pause).await;
            }
            self.reconcile_chunk(chunk).await;
        }
    }

    async fn reconcile_chunk(&self, chunk: &[Arc<Channel>]) {
        let live: Vec<_> = chunk.iter().filter(|channel| !channel.is_over()).cloned().collect();
        for channel in chunk {
            channel.clear_replay_cache();
        }
        let interval = self.0.config.status_check_interval;
        let to_check: Vec<_> =
            live.iter().filter(|channel| channel.claim_check(interval)).cloned().collect();
        self.read(live).await;
        self.check(&to_check).await;
    }

    /// Checks the records of jobs: finds deleted jobs, recreated streams, and jobs that ended without a stream entry.
    pub(super) async fn check(&self, channels: &[Arc<Channel>]) {
        let known: Vec<_> = channels.iter().filter(|channel| channel.exists()).collect();
        for chunk in known.chunks(STREAMS_PER_READ) {
            if let Err(error) = self.check_chunk(chunk).await {
                debug!(%error, job_count = chunk.len(), "could not check jobs");
            }
        }
    }

    async fn check_chunk(&self, chunk: &[&Arc<Channel>]) -> Result<()> {
        // Taken before the request: entries that are read meanwhile must not make the stream look recreated.
        let heads: Vec<_> = chunk.iter().map(|channel| channel.head()).collect();
        let jobs: Vec<JobId> = chunk.iter().map(|channel| channel.job).collect();
        let liveness = store::job_liveness(&self.0.redis, &jobs).await?;
        let checks =
            chunk.iter().zip(liveness).zip(heads).map(async |((channel, liveness), head)| {
                if !liveness.exists {
                    channel.close_deleted();
                } else if liveness.last_id < head {
                    self.resync_recreated(channel).await?;
                } else if liveness.status.is_terminal() && !liveness.has_end {
                    // Adds the missing entry to the stream, and the reader receives it from there.
                    self.0.jobs.reconcile_terminal_state(channel.job).await?;
                }
                Ok(())
            });
        join_all(checks).await.into_iter().collect()
    }

    async fn resync_recreated(&self, channel: &Channel) -> Result<()> {
        let (snapshot, head) = self.read_job(channel.job).await?;
        if head < channel.head() {
            let previous_head = channel.head();
            warn!(job_id = %channel.job, %head, %previous_head, "progress stream recreated; resynchronizing watchers");
            channel.resync_all(snapshot, head);
        }
        Ok(())
    }

    /// Drops the channels without subscribers and unsubscribes from their notifications.
    async fn drop_unwatched(&self) {
        let unwatched: Vec<JobId> = {
            let mut channels = self.0.channels.lock();
            let is_unwatched =
                |channel: &Arc<Channel>| channel.subscriber_count.load(Ordering::Relaxed) == 0;
            let removed = channels.extract_if(|_, channel| is_unwatched(channel));
            removed
                .filter(|(_, channel)| channel.is_listening.swap(false, Ordering::Relaxed))
                .map(|(job, _)| job)
                .collect()
        };
        let names: Vec<String> = unwatched
            .into_iter()
            .flat_map(|job| signal_channels(self.0.redis.layout(), job))
            .collect();
        if !names.is_empty() {
            self.0.redis.subscriber().unsubscribe(&names).await;
        }
    }
}
