//! One computation of a missing value for all callers, of this process and of the others.
//!
//! Callers of one process share a flight. It computes the value if it has the claim, and else waits until the process
//! that has it says that it is done, or its claim ends because that process died.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::warn;
use uuid::Uuid;

use super::{
    Cache, Computation, Entry, Terms,
    store::{self, Claim, Fresh, Opened},
};
use crate::{
    error::{Error, Result},
    store::CacheKey,
};

/// What is to be computed.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) key: CacheKey,
    pub(super) terms: Terms,
    pub(super) negative_ttl: Duration,
    pub(super) claim: Claim,
}

/// The flights of this process.
#[derive(Clone, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<CacheKey, Flight>>>);

struct Flight {
    /// The token under which it computes, when it does.
    token: Uuid,
    /// Whether it has begun to.
    computes: Arc<AtomicBool>,
    landed: watch::Receiver<Option<Landed>>,
}

/// What every caller of a flight gets.
type Landed = Result<Option<Entry>, Failure>;

/// An error that can be told to many.
#[derive(Clone, Debug)]
enum Failure {
    Redis(String),
    Origin(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::RedisUnavailable(reason) => Self::Redis(reason),
            Error::Origin(reason) => Self::Origin(reason),
            other => Self::Origin(other.to_string()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Redis(reason) => Self::RedisUnavailable(reason),
            Failure::Origin(reason) => Self::Origin(reason),
        }
    }
}

impl Flights {
    /// Joins the flight for the key, or begins a new one if there is none or what it computes was invalidated: the claim
    /// is now `claimed_by` another.
    fn join(
        &self,
        job: &Job,
        claimed_by: Option<Uuid>,
    ) -> (watch::Receiver<Option<Landed>>, Option<Seat>) {
        let mut flights = self.lock();
        let is_good = |it: &&Flight| {
            claimed_by == Some(it.token)
                || (claimed_by != Some(job.claim.token) && !it.computes.load(Ordering::Relaxed))
        };
        if let Some(flight) = flights.get(&job.key).filter(is_good) {
            return (flight.landed.clone(), None);
        }
        let (tell, landed) = watch::channel(None);
        let (token, computes) = (job.claim.token, Arc::new(AtomicBool::new(false)));
        let flight = Flight { token, computes: computes.clone(), landed: landed.clone() };
        flights.insert(job.key.clone(), flight);
        let key = job.key.clone();
        (landed, Some(Seat { flights: self.clone(), key, token, computes, tell }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, Flight>> {
        self.0.lock()
    }
}

/// The pilot's: when it goes, be it by a panic, nobody joins the flight any more.
struct Seat {
    flights: Flights,
    key: CacheKey,
    token: Uuid,
    computes: Arc<AtomicBool>,
    tell: watch::Sender<Option<Landed>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        if flights.get(&self.key).is_some_and(|it| it.token == self.token) {
            flights.remove(&self.key);
        }
    }
}

/// How waiting for another's computation ended.
enum Waited {
    Over(Option<Entry>),
    /// With a value that has to be computed anew, by us.
    Due(Entry),
    /// With the claim ours.
    Claimed,
}

impl Cache {
    /// The value of a missing key, computed once whoever asks for it. `claimed_by` says who computes it now, perhaps
    /// `job` itself.
    pub(super) async fn fly(
        &self,
        job: Job,
        computation: Computation,
        claimed_by: Option<Uuid>,
    ) -> Result<Option<Entry>> {
        let (mut landed, seat) = self.0.flights.join(&job, claimed_by);
        if let Some(seat) = seat {
            let cache = self.clone();
            // Goes on without the caller who began it: others wait, too.
            self.0.tasks.spawn_unguarded("cache flight", async move {
                let result = if claimed_by == Some(job.claim.token) {
                    seat.computes.store(true, Ordering::Relaxed);
                    cache.compute(&job, computation).await
                } else {
                    cache.wait_or_compute(&job, computation, &seat.computes).await
                };
                _ = seat.tell.send(Some(result.map_err(Failure::from)));
            });
        }
        let result = landed.wait_for(Option::is_some).await.ok().and_then(|it| it.clone());
        let result = result.unwrap_or_else(|| Err(Failure::Origin("the computation died".into())));
        Ok(result?)
    }

    /// Computes what is still there but due, while callers go on with what they have.
    pub(super) fn compute_beside(&self, job: Job, computation: Computation) {
        let cache = self.clone();
        self.0.tasks.spawn_unguarded("cache refresh", async move {
            if let Err(error) = cache.compute(&job, computation).await {
                warn!(%error, key = job.key.as_str(), "could not compute a cached value anew");
            }
        });
    }

    /// Waits for another's claim to end, and after it perhaps for one more.
    async fn wait_or_compute(
        &self,
        job: &Job,
        computation: Computation,
        computes: &AtomicBool,
    ) -> Result<Option<Entry>> {
        let at_most = 2 * job.claim.lasts;
        match timeout(at_most, self.wait(job)).await {
            Ok(Ok(Waited::Over(entry))) => Ok(entry),
            Ok(Ok(Waited::Claimed)) => {
                computes.store(true, Ordering::Relaxed);
                self.compute(job, computation).await
            }
            Ok(Ok(Waited::Due(entry))) => {
                self.compute_beside(job.clone(), computation);
                Ok(Some(entry))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Origin(format!("no value within {at_most:?}"))),
        }
    }

    async fn wait(&self, job: &Job) -> Result<Waited> {
        /// Redis' clock has whole milliseconds.
        const JUST_AFTER: Duration = Duration::from_millis(2);
        // Heard first and looked then, so that no value comes between.
        let bell = self.0.redis.channel_waiter(vec![job.key.ready_channel()]).await;
        loop {
            match self.open(&job.key, Some(job.claim)).await? {
                Opened::Value { json, fresh_for, is_claimed, .. } => {
                    let entry = Entry { json, fresh_for };
                    return Ok(if is_claimed {
                        Waited::Due(entry)
                    } else {
                        Waited::Over(Some(entry))
                    });
                }
                Opened::Negative => return Ok(Waited::Over(None)),
                Opened::Claimed => return Ok(Waited::Claimed),
                Opened::Waiting { left, .. } => tokio::select! {
                    () = bell.notified() => (),
                    () = sleep(left + JUST_AFTER) => (),
                },
                Opened::Missing | Opened::Unreadable(_) => {
                    return Err(Error::Origin("what is stored cannot be read".to_owned()));
                }
            }
        }
    }

    /// Computes and stores, under the claim.
    async fn compute(&self, job: &Job, computation: Computation) -> Result<Option<Entry>> {
        const PAUSE: Duration = Duration::from_secs(1);
        let at_most = self.0.config.compute_timeout;
        let timed = async {
            let _place = self.0.places.acquire().await;
            let started = Instant::now();
            computation.await.map(|value| (value, started.elapsed()))
        };
        let computed = timeout(at_most, timed)
            .await
            .unwrap_or_else(|_| Err(Error::Origin(format!("no answer within {at_most:?}"))));
        let token = job.claim.token;
        let (value, cost) = match computed {
            Ok(computed) => {
                self.0.redis.metrics().cache.computed.inc();
                computed
            }
            Err(error) => {
                // What cannot be given up ends of itself.
                _ = store::abandon(&self.0.redis, &job.key, token, PAUSE).await;
                return Err(error);
            }
        };
        let terms = match &value {
            Some(_) => self.with_jitter(&job.terms),
            None => Terms {
                ttl: job.negative_ttl,
                stale_for: Duration::ZERO,
                slides: false,
                tags: Vec::new(),
            },
        };
        let fresh = Fresh { json: value.clone(), claim: Some(token), cost };
        let fresh_for = terms.ttl;
        if let Err(error) = store::put(&self.0.redis, &job.key, fresh, &terms).await {
            warn!(%error, key = job.key.as_str(), "could not store a cached value");
        }
        Ok(value.map(|json| Entry { json, fresh_for }))
    }
}
