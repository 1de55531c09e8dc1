//! Reads the watched streams that were signalled, at once and together.

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

/// Streams in one XREAD. Its cost grows with their number, and other commands wait for it.
pub(super) const STREAMS_PER_READ: usize = 100;
/// Entries of each stream in one XREAD. No stream is trimmed to fewer, so a gap shows as a full page.
const ENTRIES_PER_READ: u64 = MIN_STREAM_LENGTH;
/// Jobs whose records are read at once.
const RECORD_BATCH_SIZE: usize = 50;

/// Keeps the channels of `hub` up with what is signalled until `shutdown`.
pub(super) async fn run(hub: Hub, shutdown: CancellationToken) {
    let mut signals = hub.0.redis.subscriber().events();
    let work = async {
        loop {
            let mut touched = HashSet::new();
            let signal = signals.recv().await;
            let mut lost = hub.collect_signal(&mut touched, signal.ok());
            lost |= hub.drain_signals(&mut touched, &mut signals);
            if lost {
                // Redis may be another one now.
                let all = hub.all_channels();
                hub.check(&all).await;
                hub.read(all).await;
            } else {
                hub.read(hub.channels_for(&touched)).await;
            }
        }
    };
    _ = shutdown.run_until_cancelled(Box::pin(work)).await;
}

impl Hub {
    /// Notes whom a signal is about; true if signals were lost. Published events are passed on at once.
    fn collect_signal(&self, touched: &mut HashSet<JobId>, signal: Option<PubSubEvent>) -> bool {
        let Some(PubSubEvent::Message { channel: name, payload }) = signal else { return true };
        if let Some(job) = job_from_channel(&name) {
            touched.insert(job);
            if name.ends_with(":events")
                && let Some(channel) = self.channels_for(&HashSet::from([job])).first()
            {
                channel.publish(&payload);
            }
        }
        false
    }

    /// Notes all signals that are there already: one read serves them together.
    fn drain_signals(
        &self,
        touched: &mut HashSet<JobId>,
        signals: &mut Receiver<PubSubEvent>,
    ) -> bool {
        let mut lost = false;
        loop {
            match signals.try_recv() {
                Ok(signal) => lost |= self.collect_signal(touched, Some(signal)),
                Err(TryRecvError::Lagged(_)) => lost = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return lost,
            }
        }
    }

    fn channels_for(&self, jobs: &HashSet<JobId>) -> Vec<Arc<Channel>> {
        let channels = self.0.channels.lock();
        jobs.iter().filter_map(|it| channels.get(it).cloned()).collect()
    }

    pub(super) fn all_channels(&self) -> Vec<Arc<Channel>> {
        let channels = self.0.channels.lock();
        channels.values().filter(|it| it.loaded.initialized()).cloned().collect()
    }

    /// Reads what is new in the streams of `channels`. One that cannot be read is left to the next sweep.
    pub(super) async fn read(&self, channels: Vec<Arc<Channel>>) {
        for channel in channels.iter().filter(|it| !it.loaded.initialized()) {
            channel.was_touched.store(true, Ordering::Relaxed);
        }
        let (known, unknown): (Vec<_>, Vec<_>) =
            channels.into_iter().filter(|it| it.loaded.initialized()).partition(|it| it.exists());
        for chunk in unknown.chunks(RECORD_BATCH_SIZE) {
            join_all(chunk.iter().map(|it| self.check_created(it))).await;
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

    /// One XREAD. Returns the channels that have more to read.
    async fn read_chunk(&self, chunk: &[Arc<Channel>]) -> Result<Vec<Arc<Channel>>> {
        let after: Vec<_> = chunk.iter().map(|it| (it.job, it.head())).collect();
        let read = store::read_entries_after(&self.0.redis, &after, ENTRIES_PER_READ).await?;
        let mut behind = Vec::new();
        for channel in chunk {
            let Some(entries) = read.get(&channel.job) else { continue };
            let is_full = entries.len() as u64 >= ENTRIES_PER_READ;
            if is_full && store::has_gap_after(&self.0.redis, channel.job, channel.head()).await? {
                let (view, head) = self.read_job(channel.job).await?;
                warn!(job_id = %channel.job, "events were trimmed before they were read");
                channel.resync_all(view, head);
                continue;
            }
            channel.apply(entries);
            if is_full {
                behind.push(channel.clone());
            }
        }
        Ok(behind)
    }

    /// Looks whether a job that did not exist when it was first watched does now.
    async fn check_created(&self, channel: &Channel) {
        match self.read_job(channel.job).await {
            Ok((view, head)) if view.exists => channel.mark_created(view, head),
            Ok(_) => (),
            Err(error) => debug!(%error, job_id = %channel.job, "could not look for a job"),
        }
    }
}
