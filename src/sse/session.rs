//! What one connection has to say next, whoever writes it: its place in each job's events, without a socket.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;

use super::{
    frame::{self, Frame},
    hub::{Channel, Delivery, Hub, Place, Subscription},
    last_event_id,
};
use crate::{
    error::Result,
    ids::{JobId, StreamId},
};

/// A connection that follows one job or many.
pub(crate) struct Follower {
    hub: Hub,
    _place: Place,
    /// One a job, in the order in which they were asked for.
    followed: Vec<Followed>,
    /// Whether ids stand for all jobs of the connection.
    ids_are_composite: bool,
    /// What is to be written next. Nothing is gathered while there is any.
    pub(crate) pending: VecDeque<Bytes>,
    /// When `?timeout=` runs out.
    deadline: Instant,
    /// When it closes because the service stops.
    leave_at: Option<Instant>,
    /// Why nothing follows what is pending.
    over: Option<Over>,
}

/// Why a stream ends.
#[derive(Clone, Copy)]
enum Over {
    Job,
    Timeout,
    Draining,
    Error,
}

/// A job on a connection.
struct Followed {
    /// `None` once the job's end was told.
    subscription: Option<Subscription>,
    /// The last entry that was sent.
    sent: StreamId,
}

/// What a connection follows.
pub(crate) enum Following {
    OneJob(Subscription),
    /// With what was seen of each before.
    Jobs(Vec<(Subscription, Option<StreamId>)>),
}

/// Events that are no longer in memory. To be read, and given to [`Follower::catch_up`], before anything is
/// gathered again.
pub(crate) struct Missing {
    index: usize,
    pub(crate) channel: Arc<Channel>,
    after: StreamId,
}

impl Missing {
    /// Reads them from the stream; `None` if they are not there any more either.
    pub(crate) async fn read(&self, hub: &Hub) -> Result<Option<Vec<Frame>>> {
        hub.replay(&self.channel, self.after).await
    }
}

impl Follower {
    pub(crate) fn new(hub: Hub, place: Place, following: Following, timeout: Duration) -> Self {
        let (ids_are_composite, subscriptions) = match following {
            Following::OneJob(it) => (false, vec![(it, None)]),
            Following::Jobs(them) => (true, them),
        };
        let followed = subscriptions.into_iter().map(|(subscription, seen)| Followed {
            subscription: Some(subscription),
            sent: seen.unwrap_or(StreamId::ZERO),
        });
        Self {
            _place: place,
            followed: followed.collect(),
            ids_are_composite,
            pending: VecDeque::from([frame::retry(hub.config().jittered_retry())]),
            deadline: Instant::now() + timeout,
            leave_at: None,
            over: None,
            hub,
        }
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Nothing follows what is pending.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// The jobs whose end has not been told.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.followed.iter().filter_map(|it| it.subscription.as_ref()).map(|it| &it.channel)
    }

    /// Adds to what is pending whatever there is for any of the jobs.
    pub(crate) fn gather(&mut self) -> Option<Missing> {
        for index in 0..self.followed.len() {
            let Some(subscription) = &mut self.followed[index].subscription else { continue };
            match subscription.deliver(!self.ids_are_composite) {
                Delivery::Frames(frames) => self.queue(index, frames),
                Delivery::End => self.end(index),
                Delivery::Replay(after) => {
                    return Some(Missing { index, channel: subscription.channel.clone(), after });
                }
            }
        }
        None
    }

    /// Goes on with events that were missing.
    pub(crate) fn catch_up(&mut self, missing: &Missing, read: Result<Option<Vec<Frame>>>) {
        let Some(subscription) = &mut self.followed[missing.index].subscription else { return };
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
                self.over = Some(Over::Error);
                return;
            }
        };
        self.queue(missing.index, frames);
    }

    fn queue(&mut self, index: usize, frames: Vec<Frame>) {
        for frame in frames {
            self.hub.metrics().deliveries.inc_by(u64::from(frame.n_events));
            self.followed[index].sent = self.followed[index].sent.max(frame.id);
            if self.ids_are_composite {
                let positions: Vec<StreamId> = self.followed.iter().map(|it| it.sent).collect();
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
        self.followed[index].subscription = None;
        if self.followed.iter().all(|it| it.subscription.is_none()) {
            self.over = Some(Over::Job);
        }
    }

    /// Says something, so that the connection does not look dead.
    pub(crate) fn beat(&mut self) {
        self.pending.push_back(frame::HEARTBEAT);
    }

    /// The service stops: closes at a time of its own within the spread, so that browsers do not all come back at
    /// once. News still goes out until then; the browser resumes after it elsewhere.
    pub(crate) fn prepare_to_leave(&mut self, now: Instant) {
        let spread = self.hub.drain_spread();
        self.leave_at.get_or_insert_with(|| now + spread.mul_f64(fastrand::f64()));
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leave_at.is_some()
    }

    /// When [`Follower::close_if_due`] has something to do.
    pub(crate) fn due_at(&self) -> Instant {
        self.leave_at.map_or(self.deadline, |it| it.min(self.deadline))
    }

    /// Ends with a word why, if the time has come.
    pub(crate) fn close_if_due(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        if self.leave_at.is_some_and(|it| it <= now) {
            self.pending.push_back(frame::retry(self.hub.config().jittered_retry()));
            self.over = Some(Over::Draining);
        } else if self.deadline <= now {
            self.pending.push_back(frame::connection_timeout(self.only_job()));
            self.over = Some(Over::Timeout);
        }
    }

    fn only_job(&self) -> Option<JobId> {
        match &self.followed[..] {
            [Followed { subscription: Some(it), .. }] => Some(it.channel.job),
            _ => None,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let metrics = self.hub.metrics();
        let closed = match self.over {
            Some(Over::Job) => &metrics.closed_job_over,
            Some(Over::Timeout) => &metrics.closed_timeout,
            Some(Over::Draining) => &metrics.closed_draining,
            Some(Over::Error) => &metrics.closed_error,
            None => &metrics.closed_client_gone,
        };
        closed.inc();
    }
}
