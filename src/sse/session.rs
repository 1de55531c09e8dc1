//! What one connection has to say next, whoever writes it: its place in each job's events, without a socket.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;

use super::{
    frame::{self, Frame},
    hub::{Channel, Delivery, Hub, StreamSlot, Subscription},
    last_event_id,
};
use crate::{
    error::Result,
    ids::{JobId, StreamId},
};

/// A connection that follows one job or many.
pub(crate) struct SseSession {
    hub: Hub,
    _permit: StreamSlot,
    /// One a job, in the order in which they were asked for.
    jobs: Vec<JobCursor>,
    /// Whether ids stand for all jobs of the connection.
    ids_are_composite: bool,
    /// What is to be written next. Nothing is gathered while there is any.
    pub(crate) pending: VecDeque<Bytes>,
    /// When `?timeout=` runs out.
    deadline: Instant,
    /// When it closes because the service stops.
    drain_at: Option<Instant>,
    /// Why nothing follows what is pending.
    close_reason: Option<CloseReason>,
}

/// Why a stream ends.
#[derive(Clone, Copy)]
enum CloseReason {
    Job,
    Timeout,
    Draining,
    Error,
}

/// A job on a connection.
struct JobCursor {
    /// `None` once the job's end was told.
    subscription: Option<Subscription>,
    /// The last entry that was sent.
    sent: StreamId,
}

/// What a connection follows.
pub(crate) enum SessionTarget {
    OneJob(Subscription),
    /// With what was seen of each before.
    Jobs(Vec<(Subscription, Option<StreamId>)>),
}

/// Events that are no longer in memory. To be read, and given to [`SseSession::catch_up`], before anything is
/// gathered again.
pub(crate) struct ReplayRequest {
    index: usize,
    pub(crate) channel: Arc<Channel>,
    after: StreamId,
}

impl ReplayRequest {
    /// Reads them from the stream; `None` if they are not there any more either.
    pub(crate) async fn read(&self, hub: &Hub) -> Result<Option<Vec<Frame>>> {
        hub.replay(&self.channel, self.after).await
    }
}

impl SseSession {
    pub(crate) fn new(
        hub: Hub,
        permit: StreamSlot,
        following: SessionTarget,
        timeout: Duration,
    ) -> Self {
        let (ids_are_composite, subscriptions) = match following {
            SessionTarget::OneJob(it) => (false, vec![(it, None)]),
            SessionTarget::Jobs(them) => (true, them),
        };
        let followed = subscriptions.into_iter().map(|(subscription, seen)| JobCursor {
            subscription: Some(subscription),
            sent: seen.unwrap_or(StreamId::ZERO),
        });
        Self {
            _permit: permit,
            jobs: followed.collect(),
            ids_are_composite,
            pending: VecDeque::from([frame::retry(hub.config().jittered_retry())]),
            deadline: Instant::now() + timeout,
            drain_at: None,
            close_reason: None,
            hub,
        }
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Nothing follows what is pending.
    pub(crate) fn is_over(&self) -> bool {
        self.close_reason.is_some()
    }

    /// The jobs whose end has not been told.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.jobs.iter().filter_map(|it| it.subscription.as_ref()).map(|it| &it.channel)
    }

    /// Adds to what is pending whatever there is for any of the jobs.
    pub(crate) fn poll_events(&mut self) -> Option<ReplayRequest> {
        for index in 0..self.jobs.len() {
            let Some(subscription) = &mut self.jobs[index].subscription else { continue };
            match subscription.deliver(!self.ids_are_composite) {
                Delivery::Frames(frames) => self.queue(index, frames),
                Delivery::End => self.end(index),
                Delivery::Replay(after) => {
                    return Some(ReplayRequest {
                        index,
                        channel: subscription.channel.clone(),
                        after,
                    });
                }
            }
        }
        None
    }

    /// Goes on with events that were missing.
    pub(crate) fn catch_up(&mut self, missing: &ReplayRequest, read: Result<Option<Vec<Frame>>>) {
        let Some(subscription) = &mut self.jobs[missing.index].subscription else { return };
        let frames = match read {
            Ok(Some(frames)) if !frames.is_empty() => {
                if let Some(last) = frames.last() {
                    subscription.seen(last.id);
                }
                self.hub.metrics().resumed_by_xrange.inc();
                frames
            }
            // Entries that mean nothing to watchers, or are no longer kept: the present is all there is to tell.
            Ok(_) => {
                self.hub.metrics().resumed_by_resync.inc();
                subscription.resync()
            }
            Err(error) => {
                debug!(%error, "could not catch up a watcher; it comes back");
                self.close_reason = Some(CloseReason::Error);
                return;
            }
        };
        self.queue(missing.index, frames);
    }

    fn queue(&mut self, index: usize, frames: Vec<Frame>) {
        for frame in frames {
            self.hub.metrics().deliveries.inc_by(u64::from(frame.event_count));
            self.jobs[index].sent = self.jobs[index].sent.max(frame.id);
            if self.ids_are_composite {
                let positions: Vec<StreamId> = self.jobs.iter().map(|it| it.sent).collect();
                let id = format!("id: {}\n", last_event_id::encode(&positions));
                self.pending.push_back(Bytes::from(id));
                self.pending.push_back(frame.without_id());
            } else {
                self.pending.push_back(frame.bytes);
            }
            if frame.is_last {
                return self.end(index);
            }
        }
    }

    /// Nothing follows for this job; the connection ends with its last.
    fn end(&mut self, index: usize) {
        self.jobs[index].subscription = None;
        if self.jobs.iter().all(|it| it.subscription.is_none()) {
            self.close_reason = Some(CloseReason::Job);
        }
    }

    /// Says something, so that the connection does not look dead.
    pub(crate) fn heartbeat(&mut self) {
        self.pending.push_back(frame::HEARTBEAT);
    }

    /// The service stops: closes at a time of its own within the spread, so that browsers do not all come back at
    /// once. News still goes out until then; the browser resumes after it elsewhere.
    pub(crate) fn begin_drain(&mut self, now: Instant) {
        let spread = self.hub.drain_spread();
        self.drain_at.get_or_insert_with(|| now + spread.mul_f64(fastrand::f64()));
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain_at.is_some()
    }

    /// When [`SseSession::close_if_due`] has something to do.
    pub(crate) fn due_at(&self) -> Instant {
        self.drain_at.map_or(self.deadline, |it| it.min(self.deadline))
    }

    /// Ends with a word why, if the time has come.
    pub(crate) fn close_if_due(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        if self.drain_at.is_some_and(|it| it <= now) {
            self.pending.push_back(frame::retry(self.hub.config().jittered_retry()));
            self.close_reason = Some(CloseReason::Draining);
        } else if self.deadline <= now {
            self.pending.push_back(frame::connection_timeout(self.only_job()));
            self.close_reason = Some(CloseReason::Timeout);
        }
    }

    fn only_job(&self) -> Option<JobId> {
        match &self.jobs[..] {
            [JobCursor { subscription: Some(it), .. }] => Some(it.channel.job),
            _ => None,
        }
    }
}

impl Drop for SseSession {
    fn drop(&mut self) {
        let metrics = self.hub.metrics();
        let closed = match self.close_reason {
            Some(CloseReason::Job) => &metrics.closed_job_over,
            Some(CloseReason::Timeout) => &metrics.closed_timeout,
            Some(CloseReason::Draining) => &metrics.closed_draining,
            Some(CloseReason::Error) => &metrics.closed_error,
            None => &metrics.closed_client_gone,
        };
        closed.inc();
    }
}
