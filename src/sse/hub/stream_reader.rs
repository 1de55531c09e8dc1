//! Reads watched streams as soon as a notification arrives. Streams that are notified together share one XREAD.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use futures_util::future::join_all;
use tokio::sync::broadcast::{Receiver, error::TryRecvError};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Channel, Hub, job_from_channel};
use crate::{
    error::Result,
    ids::JobId,
    progress::{MIN_STREAM_LENGTH, store},
    redis::PubSubEvent,
};

/// Streams per XREAD. Its cost grows with their number, and Redis runs no other command meanwhile.
pub(super) const STREAMS_PER_READ: usize = 100;
/// Entries per stream in one XREAD. Streams are never trimmed to fewer, so only a full page can hide a gap.
const ENTRIES_PER_READ: u64 = MIN_STREAM_LENGTH;
/// Job records that are read concurrently.
const RECORD_BATCH_SIZE: usize = 50;

/// Updates the channels of `hub` on each notification, until `shutdown`.
pub(super) async fn run(hub: Hub, shutdown: CancellationToken) {
    let mut signals = hub.0.redis.subscriber().events();
    let work = async {
        loop {
            let mut signalled = HashSet::new();
            let signal = signals.recv().await;
            let mut lost = hub.collect_signal(&mut signalled, signal.ok());
            lost |= hub.drain_signals(&mut signalled, &mut signals);
            if lost {
                // The connection was lost, or notifications were. After a failover, streams may have lost entries.
                let all = hub.all_channels();
                hub.check(&all).await;
                hub.read(all).await;
            } else {
                hub.read(hub.channels_for(&signalled)).await;
            }
        }
    };
    _ = shutdown.run_until_cancelled(Box::pin(work)).await;
}

impl Hub {
    /// Adds the job of a notification to `signalled` and sends a published event to live streams. True if notifications
    /// were lost.
    fn collect_signal(&self, signalled: &mut HashSet<JobId>, signal: Option<PubSubEvent>) -> bool {
        let Some(PubSubEvent::Message { channel: name, payload }) = signal else { return true };
        if let Some(job) = job_from_channel(&name) {
            signalled.insert(job);
            if name.ends_with(":events")
                && let Some(channel) = self.channels_for(&HashSet::from([job])).first()
            {
                channel.publish(&payload);
            }
        }
        false
    }

    /// Collects all notifications that have already arrived, so that one read serves them. True if some were lost.
    fn drain_signals(
        &self,
        signalled: &mut HashSet<JobId>,
        signals: &mut Receiver<PubSubEvent>,
    ) -> bool {
        let mut lost = false;
        loop {
            match signals.try_recv() {
                Ok(signal) => lost |= self.collect_signal(signalled, Some(signal)),
                Err(TryRecvError::Lagged(_)) => lost = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return lost,
            }
        }
    }

    fn channels_for(&self, jobs: &HashSet<JobId>) -> Vec<Arc<Channel>> {
        let channels = self.0.channels.lock();
        jobs.iter().filter_map(|job| channels.get(job).cloned()).collect()
    }

    pub(super) fn all_channels(&self) -> Vec<Arc<Channel>> {
        let channels = self.0.channels.lock();
        channels.values().filter(|channel| channel.loaded.initialized()).cloned().collect()
    }

    /// Reads the new entries of the streams of `channels`. After an error, the reconciler reads the rest later.
    pub(super) async fn read(&self, channels: Vec<Arc<Channel>>) {
        for channel in channels.iter().filter(|channel| !channel.loaded.initialized()) {
            channel.was_signalled.store(true, Ordering::Relaxed);
        }
        let (known, unknown): (Vec<_>, Vec<_>) = channels
            .into_iter()
            .filter(|channel| channel.loaded.initialized())
            .partition(|channel| channel.exists());
        for chunk in unknown.chunks(RECORD_BATCH_SIZE) {
            join_all(chunk.iter().map(|channel| self.check_created(channel))).await;
        }
        let mut rest = known;
        while !rest.is_empty() {
            let mut behind = Vec::new();
            for chunk in rest.chunks(STREAMS_PER_READ) {
                match self.read_chunk(chunk).await {
                    Ok(more) => behind.extend(more),
                    Err(error) => {
                        debug!(%error, stream_count = chunk.len(), "could not read progress streams");
                        return;
                    }
                }
            }
            rest = behind;
        }
    }

    /// Reads with one XREAD. Returns the channels whose streams may have more entries.
    async fn read_chunk(&self, chunk: &[Arc<Channel>]) -> Result<Vec<Arc<Channel>>> {
        let after: Vec<_> = chunk.iter().map(|channel| (channel.job, channel.head())).collect();
        let read = store::read_entries_after(&self.0.redis, &after, ENTRIES_PER_READ).await?;
        let mut behind = Vec::new();
        for channel in chunk {
            let Some(entries) = read.get(&channel.job) else { continue };
            let is_full = entries.len() as u64 >= ENTRIES_PER_READ;
            if is_full && store::has_gap_after(&self.0.redis, channel.job, channel.head()).await? {
                let (snapshot, head) = self.read_job(channel.job).await?;
                warn!(job_id = %channel.job, "progress stream trimmed before it was read; resynchronizing watchers");
                channel.resync_all(snapshot, head);
                continue;
            }
            channel.apply(entries);
            if is_full {
                behind.push(channel.clone());
            }
        }
        Ok(behind)
    }

    /// Checks whether a job that did not exist when it was first watched exists now.
    async fn check_created(&self, channel: &Channel) {
        match self.read_job(channel.job).await {
            Ok((snapshot, head)) if snapshot.exists => channel.mark_created(snapshot, head),
            Ok(_) => (),
            Err(error) => {
                debug!(%error, job_id = %channel.job, "could not check whether a job exists");
            }
        }
    }
}
