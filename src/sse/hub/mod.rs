//! The event hub: reads each watched stream once per process, however many browsers watch it.
//!
//! A [`Channel`] stands for a watched job. The [`reader`] keeps it up with its stream; a [`Subscription`] is a
//! cursor into it. Changes are signalled by the channels that our scripts publish on and by keyspace events;
//! a sweep catches what came without a signal. See docs/adr/0003.

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
    /// Reads of the past that may be under way at once.
    replays: Semaphore,
    draining: CancellationToken,
    drain_spread: Duration,
    writers: WriterPool,
}

/// A connection's place; dropping it gives it back.
pub(crate) struct StreamSlot(
    #[expect(dead_code, reason = "held, not read")] (stream_limit::StreamPermit, GaugeGuard),
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
        tasks.spawn_critical("event hub", stream_reader::run(hub.clone(), tasks.shutdown_token()));
        tasks
            .spawn_critical("stream sweeper", reconciler::run(hub.clone(), tasks.shutdown_token()));
        Ok(hub)
    }

    pub(crate) fn config(&self) -> &SseConfig {
        &self.0.config
    }

    /// Asks every stream to close, and refuses new ones.
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

    /// Takes a place for one connection.
    ///
    /// # Errors
    ///
    /// [`Error::Overloaded`] when as many streams are open as may be, or the service is about to stop.
    pub(crate) fn try_acquire(&self, requester: Requester<'_>) -> Result<StreamSlot> {
        if self.0.draining.is_cancelled() {
            return Err(Error::Overloaded("the service is about to stop"));
        }
        let permit = self.0.limiter.try_acquire(requester)?;
        Ok(StreamSlot((permit, GaugeGuard::inc(&self.metrics().open))))
    }

    /// Streams that are open.
    pub(crate) fn open_count(&self) -> usize {
        self.0.limiter.open_count()
    }

    /// At most `n` jobs with how many watch each, the most watched first.
    pub(crate) fn top_watched(&self, n: usize) -> Vec<(JobId, usize)> {
        let mut watched: Vec<_> = {
            let channels = self.0.channels.lock();
            let count = |it: &Arc<Channel>| (it.job, it.subscriber_count.load(Ordering::Relaxed));
            channels.values().map(count).filter(|it| it.1 > 0).collect()
        };
        watched.sort_by_key(|it| std::cmp::Reverse(it.1));
        watched.truncate(n);
        watched
    }

    /// Joins the watchers of `job`. With `after`, what came after that event is caught up first.
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
        // A signal may have come while the job was read. And a retry may have begun since a job was over, which
        // is final to a browser that is told so.
        if channel.was_touched_while_loading() || channel.is_over() {
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
        // Under the lock, so that the sweep does not remove what is being joined.
        channel.subscriber_count.fetch_add(1, Ordering::Relaxed);
        channel.clone()
    }

    /// Listens first and reads then, so that no change falls between.
    async fn load(&self, channel: &Channel) -> Result<()> {
        if !channel.is_listening.swap(true, Ordering::Relaxed) {
            self.0
                .redis
                .subscriber()
                .subscribe(&signal_channels(self.0.redis.layout(), channel.job))
                .await;
        }
        let (view, head) = self.read_job(channel.job).await?;
        channel.reset(view, head);
        Ok(())
    }

    /// The job now, and the newest entry of its stream. An end that stands in the record only is completed.
    async fn read_job(&self, id: JobId) -> Result<(JobSnapshot, StreamId)> {
        let mut found = self.0.jobs.find_with_stream_head(id).await?;
        let is_unsettled = |job: &Job| job.status.is_terminal() && job.terminal_id.is_none();
        if found.as_ref().is_some_and(|it| is_unsettled(&it.0)) {
            self.0.jobs.reconcile_terminal_state(id).await?;
            found = self.0.jobs.find_with_stream_head(id).await?;
        }
        Ok(match found {
            Some((job, head)) => (JobSnapshot::new(&job), head),
            None => (JobSnapshot::unknown(id), StreamId::ZERO),
        })
    }

    /// A cursor for a watcher that has seen everything up to `id`.
    async fn resume(&self, channel: &Arc<Channel>, id: StreamId) -> Result<Cursor> {
        if id <= channel.head() {
            if channel.contains(id) {
                self.metrics().resumed_from_ring.inc();
            }
            return Ok(channel.resume_at(id));
        }
        // Newer than what this process has read: another one was faster, or the stream began anew after a
        // failover and the id is from a future that did not happen.
        let (view, head) = self.read_job(channel.job).await?;
        if id <= head {
            // What the watcher is told next must not be older than what it was told elsewhere.
            self.read(vec![channel.clone()]).await;
            return Ok(channel.resume_at(id));
        }
        if head < channel.head() {
            channel.resync_all(view, head);
        }
        Ok(Cursor::INVALID)
    }

    /// What came after `after`, from the stream, for a watcher whom the ring no longer serves; `None` if it is not
    /// kept any more. Watchers that came back together are served by one read.
    pub(super) async fn replay(
        &self,
        channel: &Channel,
        after: StreamId,
    ) -> Result<Option<Vec<Frame>>> {
        const PAGE_SIZE: u64 = 100;
        let mut past = channel.replay_cache.lock().await;
        if let Some(frames) = channel.cached_history(past.as_ref(), after) {
            return Ok(Some(frames));
        }
        let turn = self.0.replays.acquire().await;
        let _turn = turn.map_err(|_| Error::Overloaded("the service is about to stop"))?;
        let epoch = channel.epoch();
        // With the entry that was seen: where that is still there, nothing after it was trimmed.
        let entries = store::read_range(&self.0.redis, channel.job, after, PAGE_SIZE + 1).await?;
        let new = match entries.first() {
            Some(first) if first.id == after => &entries[1..],
            _ if store::has_gap_after(&self.0.redis, channel.job, after).await? => {
                return Ok(None);
            }
            _ => &entries[..],
        };
        let frames = channel.encode_history(new);
        *past = Some(ReplayCache { epoch, after, frames: frames.clone() });
        Ok(Some(frames))
    }
}

/// What is published when a job or its stream changes.
fn signal_channels(layout: &KeyLayout, job: JobId) -> Vec<String> {
    let published = [progress_channel(job), job_events_channel(job)];
    published.into_iter().chain(stream_keyspace_channel(layout, job)).collect()
}

/// The job that a channel of [`signal_channels`] is about.
fn job_from_channel(channel: &str) -> Option<JobId> {
    let id = channel
        .strip_prefix("progress:")
        .or_else(|| channel.strip_prefix("job:")?.strip_suffix(":events"))
        .or_else(|| channel.split_once("stream:progress:").map(|it| it.1))?;
    id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_names_its_job() {
        let job = JobId::random();
        for channel in signal_channels(&KeyLayout::MultiDatabase, job) {
            assert_eq!(job_from_channel(&channel), Some(job), "{channel}");
        }
        assert_eq!(job_from_channel("job:*:events"), None);
    }
}
