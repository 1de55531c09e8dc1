//! One computation of a missing value for all callers, of this process and of the others.
//!
//! Callers of one process share a flight. The flight computes the value if it has the lease. Otherwise it waits until
//! the process with the lease announces the result, or until the lease expires because that process died.

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
    Cache, CachePolicy, CachedValue, ComputeFn,
    store::{self, ComputeLease, NewValue, OpenReply},
};
use crate::{
    error::{Error, Result},
    store::CacheKey,
};

/// A request to compute a value.
#[derive(Clone, Debug)]
pub(super) struct ComputeRequest {
    pub(super) key: CacheKey,
    pub(super) terms: CachePolicy,
    pub(super) negative_ttl: Duration,
    pub(super) lease: ComputeLease,
}

/// The flights of this process, by key.
#[derive(Clone, Default)]
pub(super) struct SingleFlight(Arc<Mutex<HashMap<CacheKey, Flight>>>);

struct Flight {
    /// The lease token of the flight, which it uses if it computes the value itself.
    token: Uuid,
    /// Whether the flight computes the value itself.
    computes: Arc<AtomicBool>,
    result: watch::Receiver<Option<FlightResult>>,
}

/// The result that every caller of a flight gets.
type FlightResult = Result<Option<CachedValue>, SharedError>;

/// An error that can be cloned for every caller.
#[derive(Clone, Debug)]
enum SharedError {
    Redis(String),
    Origin(String),
}

impl From<Error> for SharedError {
    fn from(error: Error) -> Self {
        match error {
            Error::RedisUnavailable(reason) => Self::Redis(reason),
            Error::Origin(reason) => Self::Origin(reason),
            other => Self::Origin(other.to_string()),
        }
    }
}

impl From<SharedError> for Error {
    fn from(failure: SharedError) -> Self {
        match failure {
            SharedError::Redis(reason) => Self::RedisUnavailable(reason),
            SharedError::Origin(reason) => Self::Origin(reason),
        }
    }
}

impl SingleFlight {
    /// Joins the flight for the key, or starts a new one, of which the caller is the leader.
    ///
    /// A flight can be joined if it has the lease, or if it waits for the leaseholder as the caller would. Otherwise it
    /// is outdated: the caller has the lease itself, or the flight computes a value whose key was invalidated.
    fn join(
        &self,
        request: &ComputeRequest,
        leaseholder: Option<Uuid>,
    ) -> (watch::Receiver<Option<FlightResult>>, Option<Leader>) {
        let mut flights = self.lock();
        let can_join = |flight: &&Flight| {
            leaseholder == Some(flight.token)
                || (leaseholder != Some(request.lease.token)
                    && !flight.computes.load(Ordering::Relaxed))
        };
        if let Some(flight) = flights.get(&request.key).filter(can_join) {
            return (flight.result.clone(), None);
        }
        let (sender, result) = watch::channel(None);
        let (token, computes) = (request.lease.token, Arc::new(AtomicBool::new(false)));
        let flight = Flight { token, computes: computes.clone(), result: result.clone() };
        flights.insert(request.key.clone(), flight);
        let key = request.key.clone();
        (result, Some(Leader { single_flight: self.clone(), key, token, computes, sender }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, Flight>> {
        self.0.lock()
    }
}

/// The leader of a flight. When it is dropped, even by a panic, the flight can no longer be joined.
struct Leader {
    single_flight: SingleFlight,
    key: CacheKey,
    token: Uuid,
    computes: Arc<AtomicBool>,
    sender: watch::Sender<Option<FlightResult>>,
}

impl Drop for Leader {
    fn drop(&mut self) {
        let mut flights = self.single_flight.lock();
        if flights.get(&self.key).is_some_and(|flight| flight.token == self.token) {
            flights.remove(&self.key);
        }
    }
}

/// The end of waiting for the computation of another process.
enum WaitOutcome {
    Done(Option<CachedValue>),
    /// A value that is due for a refresh, and the lease to refresh it.
    RefreshLeased(CachedValue),
    /// Still no value, and the lease to compute it.
    Leased,
}

impl Cache {
    /// The value of a missing key, computed once for all callers. `leaseholder` is the token of the flight that
    /// computes the value now, which may be that of `request`.
    pub(super) async fn get_or_compute(
        &self,
        request: ComputeRequest,
        computation: ComputeFn,
        leaseholder: Option<Uuid>,
    ) -> Result<Option<CachedValue>> {
        let (mut result, leader) = self.0.flights.join(&request, leaseholder);
        if let Some(leader) = leader {
            let cache = self.clone();
            // Spawned, so that it continues for the other callers if the leader's request is cancelled.
            self.0.tasks.spawn("cache flight", async move {
                let result = if leaseholder == Some(request.lease.token) {
                    leader.computes.store(true, Ordering::Relaxed);
                    cache.compute(&request, computation).await
                } else {
                    cache.wait_or_compute(&request, computation, &leader.computes).await
                };
                _ = leader.sender.send(Some(result.map_err(SharedError::from)));
            });
        }
        let result = result.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
        let aborted = || Err(SharedError::Origin("the computation was aborted".into()));
        Ok(result.unwrap_or_else(aborted)?)
    }

    /// Refreshes a value that still exists, while callers use the present one.
    pub(super) fn refresh_in_background(&self, request: ComputeRequest, computation: ComputeFn) {
        let cache = self.clone();
        self.0.tasks.spawn("cache refresh", async move {
            if let Err(error) = cache.compute(&request, computation).await {
                warn!(%error, key = request.key.as_str(), "refreshing a cached value failed");
            }
        });
    }

    /// Waits until the lease of another process ends, and possibly one more lease after that.
    async fn wait_or_compute(
        &self,
        request: &ComputeRequest,
        computation: ComputeFn,
        computes: &AtomicBool,
    ) -> Result<Option<CachedValue>> {
        let wait_timeout = 2 * request.lease.ttl;
        match timeout(wait_timeout, self.wait(request)).await {
            Ok(Ok(WaitOutcome::Done(value))) => Ok(value),
            Ok(Ok(WaitOutcome::Leased)) => {
                computes.store(true, Ordering::Relaxed);
                self.compute(request, computation).await
            }
            Ok(Ok(WaitOutcome::RefreshLeased(value))) => {
                self.refresh_in_background(request.clone(), computation);
                Ok(Some(value))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Origin(format!("no value within {wait_timeout:?}"))),
        }
    }

    async fn wait(&self, request: &ComputeRequest) -> Result<WaitOutcome> {
        /// Redis' clock has whole milliseconds.
        const CLOCK_RESOLUTION: Duration = Duration::from_millis(2);
        // Subscribe before the first lookup, so that no value is missed in between.
        let notifier = self.0.redis.channel_waiter(vec![request.key.ready_channel()]).await;
        loop {
            match self.open(&request.key, Some(request.lease)).await? {
                OpenReply::Value { json, fresh_for, is_leased, .. } => {
                    let value = CachedValue { json, fresh_for };
                    return Ok(if is_leased {
                        WaitOutcome::RefreshLeased(value)
                    } else {
                        WaitOutcome::Done(Some(value))
                    });
                }
                OpenReply::Negative => return Ok(WaitOutcome::Done(None)),
                OpenReply::Leased => return Ok(WaitOutcome::Leased),
                OpenReply::InProgress { expires_in, .. } => tokio::select! {
                    () = notifier.notified() => (),
                    () = sleep(expires_in + CLOCK_RESOLUTION) => (),
                },
                OpenReply::Missing | OpenReply::Unreadable(_) => {
                    return Err(Error::Origin("the stored value cannot be read".to_owned()));
                }
            }
        }
    }

    /// Computes the value and stores it under the lease.
    async fn compute(
        &self,
        request: &ComputeRequest,
        computation: ComputeFn,
    ) -> Result<Option<CachedValue>> {
        /// The pause before the next attempt to refresh a value that still exists.
        const RETRY_DELAY: Duration = Duration::from_secs(1);
        let compute_timeout = self.0.config.compute_timeout;
        let timed = async {
            let _permit = self.0.compute_permits.acquire().await;
            let started = Instant::now();
            computation.await.map(|value| (value, started.elapsed()))
        };
        let computed = timeout(compute_timeout, timed).await.unwrap_or_else(|_| {
            Err(Error::Origin(format!("no result within {compute_timeout:?}")))
        });
        let token = request.lease.token;
        let (value, cost) = match computed {
            Ok(computed) => {
                self.0.redis.metrics().cache.computed.inc();
                computed
            }
            Err(error) => {
                // If this fails, the lease expires.
                _ = store::release_lease(&self.0.redis, &request.key, token, RETRY_DELAY).await;
                return Err(error);
            }
        };
        let terms = match &value {
            Some(_) => self.with_jitter(&request.terms),
            None => CachePolicy {
                ttl: request.negative_ttl,
                stale_for: Duration::ZERO,
                slides: false,
                tags: Vec::new(),
            },
        };
        let new_value = NewValue { json: value.clone(), lease: Some(token), cost };
        let fresh_for = terms.ttl;
        if let Err(error) = store::put(&self.0.redis, &request.key, new_value, &terms).await {
            warn!(%error, key = request.key.as_str(), "storing a cached value failed");
        }
        Ok(value.map(|json| CachedValue { json, fresh_for }))
    }
}
