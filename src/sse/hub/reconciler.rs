//! Looks after what no signal tells: writers that only add to a stream where Redis sends no keyspace events, ends
//! that stand in a record only, streams that went back in time, and channels that nobody watches any more.
//!
//! Paced, so that neither Redis nor the [reader](super::reader) waits for it.

use std::sync::{Arc, atomic::Ordering};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Channel, Hub, signal_channels, stream_reader::STREAMS_PER_READ};
use crate::{error::Result, ids::JobId, progress::store};

/// Sweeps the channels of `hub` until `shutdown`, all of them once in each `sse.sweep_interval`.
pub(super) async fn run(hub: Hub, shutdown: CancellationToken) {
    let work = async {
        loop {
            let next = Instant::now() + hub.0.config.sweep_interval;
            hub.drop_unwatched().await;
            hub.reconcile().await;
            sleep_until(next).await;
        }
    };
    _ = shutdown.run_until_cancelled(Box::pin(work)).await;
}

impl Hub {
    async fn reconcile(&self) {
        // The pauses leave the last part of the interval to the reads themselves.
        const PART_SPENT_PAUSING: f64 = 0.8;
        let channels = self.all_channels();
        self.metrics().watched_jobs.set(i64::try_from(channels.len()).unwrap_or(i64::MAX));
        let chunk_count =
            u32::try_from(channels.len().div_ceil(STREAMS_PER_READ)).unwrap_or(u32::MAX);
        let pause = self.0.config.sweep_interval.mul_f64(PART_SPENT_PAUSING) / chunk_count.max(1);
        for (done_count, chunk) in channels.chunks(STREAMS_PER_READ).enumerate() {
            if done_count > 0 {
                sleep(pause).await;
            }
            self.reconcile_chunk(chunk).await;
        }
    }

    async fn reconcile_chunk(&self, chunk: &[Arc<Channel>]) {
        let live: Vec<_> = chunk.iter().filter(|it| !it.is_over()).cloned().collect();
        for channel in chunk {
            channel.clear_replay_cache();
        }
        let every = self.0.config.status_check;
        let due: Vec<_> = live.iter().filter(|it| it.check_is_due(every)).cloned().collect();
        self.read(live).await;
        self.check(&due).await;
    }

    /// Ends what ended in the record only, and finds jobs that are gone and streams that began anew.
    pub(super) async fn check(&self, channels: &[Arc<Channel>]) {
        let known: Vec<_> = channels.iter().filter(|it| it.exists()).collect();
        for chunk in known.chunks(STREAMS_PER_READ) {
            if let Err(error) = self.check_chunk(chunk).await {
                debug!(%error, job_count = chunk.len(), "could not check jobs");
            }
        }
    }

    async fn check_chunk(&self, chunk: &[&Arc<Channel>]) -> Result<()> {
        // Before Redis is asked, so that what is read meanwhile does not look like a step back.
        let heads: Vec<_> = chunk.iter().map(|it| it.head()).collect();
        let jobs: Vec<JobId> = chunk.iter().map(|it| it.job).collect();
        let liveness = store::job_liveness(&self.0.redis, &jobs).await?;
        let checks = chunk.iter().zip(liveness).zip(heads).map(async |((channel, it), head)| {
            if !it.exists {
                channel.close_deleted();
            } else if it.last_id < head {
                self.resync_recreated(channel).await?;
            } else if it.status.is_terminal() && !it.has_end {
                // Its end is added to the stream, and heard from there.
                self.0.jobs.reconcile_terminal_state(channel.job).await?;
            }
            Ok(())
        });
        join_all(checks).await.into_iter().collect()
    }

    async fn resync_recreated(&self, channel: &Channel) -> Result<()> {
        let (view, head) = self.read_job(channel.job).await?;
        if head < channel.head() {
            warn!(job_id = %channel.job, %head, was = %channel.head(), "a progress stream went back in time");
            channel.resync_all(view, head);
        }
        Ok(())
    }

    /// Forgets the channels that nobody watches.
    async fn drop_unwatched(&self) {
        let unwatched: Vec<JobId> = {
            let mut channels = self.0.channels.lock();
            let is_unwatched = |it: &Arc<Channel>| it.subscriber_count.load(Ordering::Relaxed) == 0;
            let removed = channels.extract_if(|_, it| is_unwatched(it));
            removed
                .filter(|it| it.1.is_listening.swap(false, Ordering::Relaxed))
                .map(|it| it.0)
                .collect()
        };
        let names: Vec<String> = unwatched
            .into_iter()
            .flat_map(|it| signal_channels(self.0.redis.layout(), it))
            .collect();
        if !names.is_empty() {
            self.0.redis.subscriber().unsubscribe(&names).await;
        }
    }
}
