//! One browser's connection: what its subscriptions deliver, with heartbeat, timeout and a kind goodbye.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, future::select_all, stream};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use super::{
    cursor,
    frame::{self, Frame},
    hub::{Delivery, Hub, Place, Subscription},
};
use crate::ids::{JobId, StreamId};

/// A connection being served.
struct EventStream {
    hub: Hub,
    _place: Place,
    /// One a job, in the order in which they were asked for.
    followed: Vec<Followed>,
    /// Whether ids stand for all jobs of the connection.
    ids_are_composite: bool,
    pending: VecDeque<Bytes>,
    deadline: Instant,
    is_over: bool,
}

/// A job on a connection.
struct Followed {
    /// `None` once the job's end was told.
    subscription: Option<Subscription>,
    /// The last entry that was sent.
    sent: StreamId,
}

/// What a connection follows.
pub(super) enum Following {
    OneJob(Subscription),
    /// With what was seen of each before.
    Jobs(Vec<(Subscription, Option<StreamId>)>),
}

/// The answer that streams until the jobs end, `timeout` runs out or the service stops.
pub(super) fn respond(hub: Hub, place: Place, following: Following, timeout: Duration) -> Response {
    let retry = frame::retry(with_jitter(hub.config().retry));
    let (ids_are_composite, subscriptions) = match following {
        Following::OneJob(it) => (false, vec![(it, None)]),
        Following::Jobs(them) => (true, them),
    };
    let followed = subscriptions.into_iter().map(|(subscription, seen)| Followed {
        subscription: Some(subscription),
        sent: seen.unwrap_or(StreamId::ZERO),
    });
    let connection = EventStream {
        hub,
        _place: place,
        followed: followed.collect(),
        ids_are_composite,
        pending: VecDeque::from([retry]),
        deadline: Instant::now() + timeout,
        is_over: false,
    };
    let frames = stream::unfold(connection, |mut it| async move {
        let bytes = it.next().await?;
        Some((Ok::<_, Infallible>(bytes), it))
    });
    event_stream(Body::from_stream(frames))
}

/// A refusal that passes. To `EventSource` any status but 200 is final, so this is 200, `retry:` and the end.
pub(super) fn come_back_later(retry: Duration) -> Response {
    come_back_after(retry, retry)
}

/// The same, after `wait` and up to `jitter` more, so that not all come back at once.
pub(crate) fn come_back_after(wait: Duration, jitter: Duration) -> Response {
    event_stream(Body::from(frame::retry(wait + jitter.mul_f64(fastrand::f64()))))
}

/// The job ended with the event that the browser saw last; 204 stops it from coming back.
pub(super) fn nothing_more() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The answer that streams a job's published events as they come, until the job is over.
pub(super) fn respond_live(hub: Hub, place: Place, subscription: Subscription) -> Response {
    let events = subscription.events();
    let begin = frame::retry(with_jitter(hub.config().retry));
    let live = stream::unfold((hub, place, subscription, events, Some(begin)), async |mut it| {
        if let Some(begin) = it.4.take() {
            return Some((Ok::<_, Infallible>(begin), it));
        }
        let bytes = next_live(&it.0, &mut it.2, &mut it.3).await?;
        Some((Ok(bytes), it))
    });
    event_stream(Body::from_stream(live))
}

async fn next_live(
    hub: &Hub,
    subscription: &mut Subscription,
    events: &mut Receiver<Bytes>,
) -> Option<Bytes> {
    loop {
        // What was published with the end is there before the end is known.
        if events.is_empty() && subscription.channel.is_over() {
            return None;
        }
        tokio::select! {
            event = events.recv() => return match event {
                Ok(frame) => Some(frame),
                Err(RecvError::Lagged(_)) => Some(frame::HEARTBEAT),
                Err(RecvError::Closed) => None,
            },
            () = subscription.changed() => (),
            () = sleep(hub.config().heartbeat) => return Some(frame::HEARTBEAT),
            () = hub.draining().cancelled() => return None,
        }
    }
}

fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Between `base` and twice that, so that not all come back at once.
fn with_jitter(base: Duration) -> Duration {
    base + base.mul_f64(fastrand::f64())
}

impl EventStream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Some(bytes);
            }
            if self.is_over {
                return None;
            }
            if !self.gather().await && !self.is_over {
                self.wait().await;
            }
        }
    }

    /// Queues what there is for any of the jobs; false if there is nothing.
    async fn gather(&mut self) -> bool {
        for index in 0..self.followed.len() {
            let Some(subscription) = &mut self.followed[index].subscription else { continue };
            match subscription.deliver(!self.ids_are_composite) {
                Delivery::Frames(frames) => self.queue(index, frames),
                Delivery::Replay(after) => self.replay(index, after).await,
                Delivery::End => self.end(index),
            }
        }
        !self.pending.is_empty()
    }

    fn queue(&mut self, index: usize, frames: Vec<Frame>) {
        for frame in frames {
            self.followed[index].sent = self.followed[index].sent.max(frame.id);
            if self.ids_are_composite {
                let positions: Vec<StreamId> = self.followed.iter().map(|it| it.sent).collect();
                self.pending
                    .push_back(Bytes::from(format!("id: {}\n", cursor::encode(&positions))));
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
        self.is_over = self.followed.iter().all(|it| it.subscription.is_none());
    }

    async fn replay(&mut self, index: usize, after: StreamId) {
        let Some(subscription) = &mut self.followed[index].subscription else { return };
        let frames = match self.hub.replay(&subscription.channel, after).await {
            // Entries that mean nothing to watchers, or are no longer kept: the present is all there is to tell.
            Ok(None) => subscription.resync(),
            Ok(Some(frames)) if frames.is_empty() => subscription.resync(),
            Ok(Some(frames)) => {
                if let Some(last) = frames.last() {
                    subscription.seen(last.id);
                }
                frames
            }
            Err(error) => {
                debug!(%error, "could not catch up a watcher; it comes back");
                self.is_over = true;
                return;
            }
        };
        self.queue(index, frames);
    }

    /// Waits for news, and says something meanwhile.
    async fn wait(&mut self) {
        let draining = self.hub.draining().clone();
        let heartbeat = self.hub.config().heartbeat;
        let (deadline, job) = (self.deadline, self.only_job());
        tokio::select! {
            () = self.changed() => (),
            () = sleep(heartbeat) => self.pending.push_back(frame::HEARTBEAT),
            () = sleep_until(deadline) => {
                self.pending.push_back(frame::connection_timeout(job));
                self.is_over = true;
            }
            () = draining.cancelled() => self.say_goodbye().await,
        }
    }

    fn only_job(&self) -> Option<JobId> {
        match &self.followed[..] {
            [Followed { subscription: Some(it), .. }] => Some(it.channel.job),
            _ => None,
        }
    }

    /// Waits until there may be something new for any of the jobs.
    async fn changed(&mut self) {
        let waits = self.followed.iter_mut().filter_map(|it| it.subscription.as_mut());
        let mut waits: Vec<_> = waits.map(|it| it.changed().boxed()).collect();
        match waits.len() {
            0 => (),
            1 => waits.remove(0).await,
            _ => drop(select_all(waits).await),
        }
    }

    /// Closes at a time of its own within the spread, so that browsers do not all come back at once.
    async fn say_goodbye(&mut self) {
        let spread = self.hub.drain_spread();
        let leave = Instant::now() + spread.mul_f64(fastrand::f64());
        tokio::select! {
            // News still goes out; the browser then resumes after it elsewhere.
            () = self.changed() => { self.gather().await; }
            () = sleep_until(leave) => (),
        }
        if !self.is_over {
            self.pending.push_back(frame::retry(with_jitter(self.hub.config().retry)));
            self.is_over = true;
        }
    }
}
