//! The state of one SSE connection without its socket: the position in each job's events, and the bytes to write
//! next. A writer thread or a response body does the I/O.

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

/// A connection that watches one or more jobs.
pub(crate) struct SseSession {
    hub: Hub,
    _permit: StreamSlot,
    /// One per job, in the order of the request.
    jobs: Vec<JobCursor>,
    /// Whether event ids contain the positions of all jobs ([`last_event_id`]).
    ids_are_composite: bool,
    /// Chunks to write. More events are only polled while this is empty, so a slow client does not fill the memory.
    pub(crate) pending: VecDeque<Bytes>,
    /// The end of `?timeout=`.
    deadline: Instant,
    /// When the connection closes because the service shuts down.
    drain_at: Option<Instant>,
    /// Set once no more events follow the pending ones.
    close_reason: Option<CloseReason>,
}

/// Why a connection ends.
#[derive(Clone, Copy)]
enum CloseReason {
    JobsEnded,
    Timeout,
    Draining,
    Error,
}

/// The position of a connection in the events of one job.
struct JobCursor {
    /// `None` once the job's last event was queued.
    subscription: Option<Subscription>,
    /// The newest entry that was queued.
    last_id: StreamId,
}

/// The jobs that a connection watches.
pub(crate) enum SessionTarget {
    OneJob(Subscription),
    /// Each with the last entry that the client received on an earlier connection.
    Jobs(Vec<(Subscription, Option<StreamId>)>),
}

/// A request for events that are no longer in memory. The caller passes the result of [`ReplayRequest::read`] to
/// [`SseSession::catch_up`] before it polls for events again.
pub(crate) struct ReplayRequest {
    index: usize,
    pub(crate) channel: Arc<Channel>,
    after: StreamId,
}

impl ReplayRequest {
    /// Reads the events from the job's stream; `None` if the stream no longer has them.
    pub(crate) async fn read(&self, hub: &Hub) -> Result<Option<Vec<Frame>>> {
        hub.replay(&self.channel, self.after).await
    }
}

impl SseSession {
    pub(crate) fn new(
        hub: Hub,
        permit: StreamSlot,
        target: SessionTarget,
        timeout: Duration,
    ) -> Self {
        let (ids_are_composite, subscriptions) = match target {
            SessionTarget::OneJob(subscription) => (false, vec![(subscription, None)]),
            SessionTarget::Jobs(subscriptions) => (true, subscriptions),
        };
        let jobs = subscriptions.into_iter().map(|(subscription, received_id)| JobCursor {
            subscription: Some(subscription),
            last_id: received_id.unwrap_or(StreamId::ZERO),
        });
        Self {
            _permit: permit,
            jobs: jobs.collect(),
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

    /// Whether no more events follow the pending ones.
    pub(crate) fn is_over(&self) -> bool {
        self.close_reason.is_some()
    }

    /// The channels of the jobs whose last event is still to come.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.jobs
            .iter()
            .filter_map(|job| job.subscription.as_ref())
            .map(|subscription| &subscription.channel)
    }

    /// Queues the new events of all jobs. Stops at the first job whose events must be read from Redis.
    pub(crate) fn poll_events(&mut self) -> Option<ReplayRequest> {
        for index in 0..self.jobs.len() {
            let Some(subscription) = &mut self.jobs[index].subscription else { continue };
            match subscription.deliver(!self.ids_are_composite) {
                Delivery::Frames(frames) => self.queue(index, frames),
                Delivery::End => self.end_job(index),
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

    /// Queues the events that `request` asked for, or the present state of the job if they are no longer stored.
    pub(crate) fn catch_up(
        &mut self,
        request: &ReplayRequest,
        history: Result<Option<Vec<Frame>>>,
    ) {
        let Some(subscription) = &mut self.jobs[request.index].subscription else { return };
        let frames = match history {
            Ok(Some(frames)) if !frames.is_empty() => {
                if let Some(last) = frames.last() {
                    subscription.advance_to(last.id);
                }
                self.hub.metrics().resumed_by_xrange.inc();
                frames
            }
            // The entries produce no events or are no longer stored.
            Ok(_) => {
                self.hub.metrics().resumed_by_resync.inc();
                subscription.resync()
            }
            Err(error) => {
                debug!(%error, "could not read missed events; the client has to reconnect");
                self.close_reason = Some(CloseReason::Error);
                return;
            }
        };
        self.queue(request.index, frames);
    }

    fn queue(&mut self, index: usize, frames: Vec<Frame>) {
        for frame in frames {
            self.hub.metrics().deliveries.inc_by(u64::from(frame.event_count));
            self.jobs[index].last_id = self.jobs[index].last_id.max(frame.id);
            if self.ids_are_composite {
                let positions: Vec<StreamId> = self.jobs.iter().map(|job| job.last_id).collect();
                let id = format!("id: {}\n", last_event_id::encode(&positions));
                self.pending.push_back(Bytes::from(id));
                self.pending.push_back(frame.without_id());
            } else {
                self.pending.push_back(frame.bytes);
            }
            if frame.is_last {
                return self.end_job(index);
            }
        }
    }

    /// Ends the events of one job, and the connection if it was the last.
    fn end_job(&mut self, index: usize) {
        self.jobs[index].subscription = None;
        if self.jobs.iter().all(|job| job.subscription.is_none()) {
            self.close_reason = Some(CloseReason::JobsEnded);
        }
    }

    /// Queues a comment that keeps the connection open.
    pub(crate) fn heartbeat(&mut self) {
        self.pending.push_back(frame::HEARTBEAT);
    }

    /// Schedules the end of the connection because the service shuts down, at a random time within the drain spread so
    /// that browsers do not reconnect all at once. Events are still sent until then.
    pub(crate) fn begin_drain(&mut self, now: Instant) {
        let spread = self.hub.drain_spread();
        self.drain_at.get_or_insert_with(|| now + spread.mul_f64(fastrand::f64()));
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain_at.is_some()
    }

    /// When [`SseSession::close_if_due`] ends the connection.
    pub(crate) fn due_at(&self) -> Instant {
        self.drain_at.map_or(self.deadline, |drain_at| drain_at.min(self.deadline))
    }

    /// Ends the connection with a last frame (`connection_timeout` or `retry`) if its deadline or drain time is over.
    pub(crate) fn close_if_due(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        if self.drain_at.is_some_and(|drain_at| drain_at <= now) {
            self.pending.push_back(frame::retry(self.hub.config().jittered_retry()));
            self.close_reason = Some(CloseReason::Draining);
        } else if self.deadline <= now {
            self.pending.push_back(frame::connection_timeout(self.only_job()));
            self.close_reason = Some(CloseReason::Timeout);
        }
    }

    fn only_job(&self) -> Option<JobId> {
        match &self.jobs[..] {
            [JobCursor { subscription: Some(subscription), .. }] => Some(subscription.channel.job),
            _ => None,
        }
    }
}

impl Drop for SseSession {
    fn drop(&mut self) {
        let metrics = self.hub.metrics();
        let closed = match self.close_reason {
            Some(CloseReason::JobsEnded) => &metrics.closed_job_over,
            Some(CloseReason::Timeout) => &metrics.closed_timeout,
            Some(CloseReason::Draining) => &metrics.closed_draining,
            Some(CloseReason::Error) => &metrics.closed_error,
            None => &metrics.closed_client_gone,
        };
        closed.inc();
    }
}
