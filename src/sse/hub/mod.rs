//! The event hub: reads each watched stream once per process, regardless of the number of watchers.
//!
//! A [`Channel`] holds the recent events of a watched job, and a [`Subscription`] is a cursor into it. The
//! [`stream_reader`] reads a stream when a notification arrives: a message on a channel that our scripts publish to, or
//! a keyspace event. The [`reconciler`] finds changes without a notification. See
//! docs/adr/0003-notified-stream-reads.md.

mod channel;
mod reconciler;
mod stream_reader;
mod subscription;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::channel::ReplayCache;
pub(crate) use self::{
    channel::{Channel, Cursor, Delivery},
    subscription::Subscription,
};
use super::{
    SseConfig,
    frame::Frame,
    stream_limit::{self, Requester, StreamLimiter},
    writer::WriterPool,
};
use crate::{
    error::{Error, Result},
    ids::{JobId, StreamId},
    jobs::{Job, Jobs},
    observability::metrics::{GaugeGuard, Streams},
    progress::{snapshot::JobSnapshot, store},
    store::{KeyLayout, Redis, job_events_channel, progress_channel, stream_keyspace_channel},
    tasks::TaskSupervisor,
};

/// The event hub. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    redis: Redis,
    jobs: Jobs,
    config: SseConfig,
    channels: Mutex<HashMap<JobId, Arc<Channel>>>,
    limiter: StreamLimiter,
    /// Limits concurrent reads of events that are no longer in memory.
    replays: Semaphore,
    draining: CancellationToken,
    drain_spread: Duration,
    writers: WriterPool,
}

/// Counts a connection as open, in the limits and in the metrics, until it is dropped.
pub(crate) struct StreamSlot(
    #[expect(dead_code, reason = "held for its Drop")] (stream_limit::StreamPermit, GaugeGuard),
);

impl Hub {
    pub(crate) fn start(
        redis: Redis,
        jobs: Jobs,
        config: SseConfig,
        drain_spread: Duration,
        tasks: &TaskSupervisor,
    ) -> io::Result<Self> {
        const MAX_REPLAYS: usize = 16;
        let writers = WriterPool::start(&config, tasks)?;
        let hub = Self(Arc::new(Inner {
            redis,
            jobs,
            limiter: StreamLimiter::new(config.stream_limits()),
            config,
            channels: Mutex::default(),
            replays: Semaphore::new(MAX_REPLAYS),
            draining: CancellationToken::new(),
            drain_spread,
            writers,
        }));
        tasks.spawn_critical(
            "stream reader",
            stream_reader::run(hub.clone(), tasks.shutdown_token()),
        );
        tasks.spawn_critical(
            "stream reconciler",
            reconciler::run(hub.clone(), tasks.shutdown_token()),
        );
        Ok(hub)
    }

    pub(crate) fn config(&self) -> &SseConfig {
        &self.0.config
    }

    /// Closes all streams gradually and rejects new ones.
    pub(crate) fn drain(&self) {
        self.0.draining.cancel();
        self.0.writers.drain();
    }

    pub(crate) fn metrics(&self) -> &Streams {
        &self.0.redis.metrics().streams
    }

    pub(crate) fn writers(&self) -> &WriterPool {
        &self.0.writers
    }

    pub(super) fn drain_spread(&self) -> Duration {
        self.0.drain_spread
    }

    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    /// Counts one connection as open.
    ///
    /// # Errors
    ///
    /// [`Error::Overloaded`] if a limit is reached or the service is shutting down.
    pub(crate) fn try_acquire(&self, requester: Requester<'_>) -> Result<StreamSlot> {
        if self.0.draining.is_cancelled() {
            return Err(Error::Overloaded("the service is shutting down"));
        }
        let permit = self.0.limiter.try_acquire(requester)?;
        Ok(StreamSlot((permit, GaugeGuard::inc(&self.metrics().open))))
    }

    /// The number of open streams.
    pub(crate) fn open_count(&self) -> usize {
        self.0.limiter.open_count()
    }

    /// The `limit` most watched jobs with their numbers of watchers, the most watched first.
    pub(crate) fn top_watched(&self, limit: usize) -> Vec<(JobId, usize)> {
        let mut watched: Vec<_> = {
            let channels = self.0.channels.lock();
            let count = |channel: &Arc<Channel>| {
                (channel.job, channel.subscriber_count.load(Ordering::Relaxed))
            };
            channels.values().map(count).filter(|(_, watcher_count)| *watcher_count > 0).collect()
        };
        watched.sort_by_key(|(_, watcher_count)| std::cmp::Reverse(*watcher_count));
        watched.truncate(limit);
        watched
    }

    /// Subscribes to the events of `job`. With `after`, the events after that entry are delivered first.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn subscribe(
        &self,
        job: JobId,
        after: Option<StreamId>,
    ) -> Result<Subscription> {
        let mut subscription = Subscription::new(self.join(job));
        let channel = subscription.channel.clone();
        channel.loaded.get_or_try_init(|| self.load(&channel)).await?;
        // A notification may have arrived while the job was read. And a job that had ended may have been retried since;
        // a browser that receives the end does not reconnect.
        if channel.take_signalled_while_loading() || channel.is_over() {
            self.read(vec![channel.clone()]).await;
        }
        subscription.cursor = match after {
            None => channel.start(),
            Some(id) => self.resume(&channel, id).await?,
        };
        Ok(subscription)
    }

    fn join(&self, job: JobId) -> Arc<Channel> {
        let mut channels = self.0.channels.lock();
        let channel = channels.entry(job).or_insert_with(|| {
            let writers = self.0.writers.clone();
            Arc::new(Channel::new(job, self.0.config.ring_length, writers))
        });
        // Counted under the lock, so that the reconciler does not drop the channel.
        channel.subscriber_count.fetch_add(1, Ordering::Relaxed);
        channel.clone()
    }

    /// Subscribes to the notifications before it reads the job, so that no change in between is missed.
    async fn load(&self, channel: &Channel) -> Result<()> {
        if !channel.is_listening.swap(true, Ordering::Relaxed) {
            self.0
                .redis
                .subscriber()
                .subscribe(&signal_channels(self.0.redis.layout(), channel.job))
                .await;
        }
        let (snapshot, head) = self.read_job(channel.job).await?;
        channel.reset(snapshot, head);
        Ok(())
    }

    /// The job and the newest entry of its stream. If the job ended without a stream entry, the entry is added first.
    async fn read_job(&self, id: JobId) -> Result<(JobSnapshot, StreamId)> {
        let mut found = self.0.jobs.find_with_stream_head(id).await?;
        let is_unreconciled = |job: &Job| job.status.is_terminal() && job.terminal_id.is_none();
        if found.as_ref().is_some_and(|(job, _)| is_unreconciled(job)) {
            self.0.jobs.reconcile_terminal_state(id).await?;
            found = self.0.jobs.find_with_stream_head(id).await?;
        }
        Ok(match found {
            Some((job, head)) => (JobSnapshot::new(&job), head),
            None => (JobSnapshot::unknown(id), StreamId::ZERO),
        })
    }

    /// A cursor for a watcher that has received everything up to `id`.
    async fn resume(&self, channel: &Arc<Channel>, id: StreamId) -> Result<Cursor> {
        if id <= channel.head() {
            if channel.contains(id) {
                self.metrics().resumed_from_ring.inc();
            }
            return Ok(channel.resume_at(id));
        }
        // `id` is newer than the entries that this process has read: either another process has read further, or the
        // stream lost its newest entries in a failover.
        let (snapshot, head) = self.read_job(channel.job).await?;
        if id <= head {
            // The next events must not be older than those that another process has sent.
            self.read(vec![channel.clone()]).await;
            return Ok(channel.resume_at(id));
        }
        if head < channel.head() {
            channel.resync_all(snapshot, head);
        }
        Ok(Cursor::INVALID)
    }

    /// Reads the frames after `after` from the stream, for a watcher that is behind the ring; `None` if the entries are
    /// no longer stored. Watchers that resume from the same entry share one read.
    pub(super) async fn replay(
        &self,
        channel: &Channel,
        after: StreamId,
    ) -> Result<Option<Vec<Frame>>> {
        const PAGE_SIZE: u64 = 100;
        let mut cache = channel.replay_cache.lock().await;
        if let Some(frames) = channel.cached_history(cache.as_ref(), after) {
            return Ok(Some(frames));
        }
        let permit = self.0.replays.acquire().await;
        let _permit = permit.map_err(|_| Error::Overloaded("the service is shutting down"))?;
        let epoch = channel.epoch();
        // The range includes `after` itself: if that entry is still there, no later entry was trimmed.
        let entries = store::read_range(&self.0.redis, channel.job, after, PAGE_SIZE + 1).await?;
        let new = match entries.first() {
            Some(first) if first.id == after => &entries[1..],
            _ if store::has_gap_after(&self.0.redis, channel.job, after).await? => {
                return Ok(None);
            }
            _ => &entries[..],
        };
        let frames = channel.encode_history(new);
        *cache = Some(ReplayCache { epoch, after, frames: frames.clone() });
        Ok(Some(frames))
    }
}

/// The Redis channels that report changes of a job or its stream.
fn signal_channels(layout: &KeyLayout, job: JobId) -> Vec<String> {
    let published = [progress_channel(job), job_events_channel(job)];
    published.into_iter().chain(stream_keyspace_channel(layout, job)).collect()
}

/// The job of a channel from [`signal_channels`].
fn job_from_channel(channel: &str) -> Option<JobId> {
    let id = channel
        .strip_prefix("progress:")
        .or_else(|| channel.strip_prefix("job:")?.strip_suffix(":events"))
        .or_else(|| channel.split_once("stream:progress:").map(|(_, id)| id))?;
    id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_id_is_parsed_from_every_signal_channel() {
        let job = JobId::random();
        for channel in signal_channels(&KeyLayout::MultiDatabase, job) {
            assert_eq!(job_from_channel(&channel), Some(job), "{channel}");
        }
        assert_eq!(job_from_channel("job:*:events"), None);
    }
}
