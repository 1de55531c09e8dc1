//! The rate limiter: named policies, charged in one round trip, either all of them or none.

pub(crate) mod brute_force;
mod charge;
mod client_ip;
mod config;
mod denial_cache;
pub(crate) mod headers;
pub(crate) mod heavy_hitters;
mod local_limiter;
pub(crate) mod policy;
mod status;
mod store;

use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, time::timeout};
use tracing::warn;

use self::{
    brute_force::BruteForceGuard,
    client_ip::{TrustedProxies, rate_limit_network},
    denial_cache::{CachedDenial, DenialCache},
    heavy_hitters::{HeavyHitters, RequestContext, TopCaller},
    local_limiter::{LocalCharge, LocalLimiter},
    policy::OnRedisFailure,
    status::{statuses, unix_secs},
};
pub(crate) use self::{
    charge::Charge,
    config::Config,
    policy::{Cost, RouteGroup},
    status::{PolicyStatus, RateLimitStatus, ceil_secs},
};
use crate::{
    auth::{Caller, Limits},
    error::{Error, Result},
    observability::{log_throttle::LogThrottle, metrics::Limiter as Metrics},
    store::Redis,
};

/// Callers that are remembered per process: denied ones, and counted ones while Redis is unavailable. An entry takes
/// about 100 bytes.
const MAX_TRACKED_CALLERS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// IPv6 addresses with this many common leading bits share one count: a /64 is the smallest network that providers assign.
const IPV6_PREFIX: u8 = 64;

/// Counts requests and decides which are admitted. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RateLimiter(Arc<Inner>);

struct Inner {
    config: Config,
    /// The largest number of files of a job.
    max_files: usize,
    /// The shortest time after which a browser reconnects a rejected stream.
    stream_retry: Duration,
    redis: Redis,
    proxies: TrustedProxies,
    denials: DenialCache,
    brute_force: BruteForceGuard,
    local: LocalLimiter,
    heavy_hitters: HeavyHitters,
    /// One permit per request that may wait for Redis.
    redis_permits: Semaphore,
    degraded_log: LogThrottle,
    shadow_log: LogThrottle,
    untrusted_proxy_log: LogThrottle,
}

/// The client of a request.
#[derive(Clone)]
pub(crate) struct Requester {
    address: IpAddr,
    /// The address, or the network whose addresses share one count.
    pub(crate) counted_as: Arc<str>,
}

/// The decision about a request.
pub(crate) enum Verdict {
    /// No policy applies.
    Unlimited,
    Admitted(RateLimitStatus),
    Refused(RateLimitStatus),
    /// Redis is unavailable, and a policy rejects requests in that case.
    Unavailable(Error),
}

impl Verdict {
    fn record(&self, metrics: &Metrics) {
        match self {
            Self::Unlimited => metrics.unlimited.inc(),
            Self::Admitted(_) => metrics.admitted.inc(),
            Self::Refused(_) => metrics.refused.inc(),
            Self::Unavailable(_) => metrics.undecided.inc(),
        };
    }
}

impl RateLimiter {
    pub(crate) fn new(
        config: &Config,
        max_files: usize,
        stream_retry: Duration,
        redis: Redis,
    ) -> Self {
        Self(Arc::new(Inner {
            max_files,
            stream_retry,
            redis,
            proxies: TrustedProxies::new(config),
            denials: DenialCache::new(MAX_TRACKED_CALLERS),
            brute_force: BruteForceGuard::new(config.failed_keys_limit, config.failed_keys_window),
            local: LocalLimiter::new(MAX_TRACKED_CALLERS),
            heavy_hitters: HeavyHitters::new(config.policies.len(), Instant::now()),
            redis_permits: Semaphore::new(config.max_waiting),
            degraded_log: LogThrottle::default(),
            shadow_log: LogThrottle::default(),
            untrusted_proxy_log: LogThrottle::default(),
            config: config.clone(),
        }))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// The shortest time after which a browser reconnects a rejected stream.
    pub(crate) fn stream_retry(&self) -> Duration {
        self.0.stream_retry
    }

    /// The header that contains the client address, as added by trusted proxies.
    pub(crate) fn proxy_header(&self) -> &'static str {
        self.0.proxies.header.name()
    }

    /// Counts a request that no policy limits.
    pub(crate) fn count_unlimited(&self) {
        self.0.redis.metrics().limiter.unlimited.inc();
    }

    /// The period that is covered, and the callers with the highest counts in each policy.
    pub(crate) fn busiest(&self, max_callers: usize) -> (Duration, Vec<Vec<TopCaller>>) {
        self.0.heavy_hitters.report(max_callers, Instant::now())
    }

    /// Whether a key may have these limits instead of those of the policies.
    pub(crate) fn validate_limits(&self, limits: &Limits) -> anyhow::Result<()> {
        self.0.config.validate_limits(limits, self.0.max_files)
    }

    /// Charges all of `charges`, or none. Waits for Redis no longer than `rate_limit.deadline`.
    pub(crate) async fn charge(
        &self,
        charges: &[Charge<'_>],
        requester: RequestContext<'_>,
    ) -> Verdict {
        let verdict = self.decide(charges).await;
        self.record_usage(charges, &verdict, requester);
        let verdict = if self.0.config.dry_run { self.dry_run_verdict(&verdict) } else { verdict };
        verdict.record(&self.0.redis.metrics().limiter);
        verdict
    }

    /// The verdict while `rate_limit.dry_run` is set: every request is admitted, and denials are only recorded.
    fn dry_run_verdict(&self, verdict: &Verdict) -> Verdict {
        if let Verdict::Refused(_) = verdict {
            self.0.redis.metrics().limiter.would_refuse.inc();
            if let Some(occurrences) = self.0.shadow_log.should_log() {
                warn!(occurrences, "rate_limit.dry_run: a request over the limit was admitted");
            }
        }
        Verdict::Unlimited
    }

    async fn decide(&self, charges: &[Charge<'_>]) -> Verdict {
        if let Some(denied) = self.cached_denials(charges) {
            return Verdict::Refused(denied);
        }
        let reply = match self.charge_in_redis(charges).await {
            Ok(reply) => reply,
            Err(error) => return self.decide_without_redis(charges, error),
        };
        let statuses = statuses(charges, &reply);
        if reply.is_admitted {
            return Verdict::Admitted(statuses);
        }
        for (charge, status) in charges.iter().zip(&statuses.policies) {
            if status.is_refused {
                let PolicyStatus { wait, reset_at, remaining, .. } = *status;
                let denial = CachedDenial::new(wait, reset_at, charge.cost, charge.limit);
                self.0.denials.insert(&charge.key, CachedDenial { remaining, ..denial });
            }
        }
        Verdict::Refused(statuses)
    }

    /// The policies that are known to deny the request, without a call to Redis.
    fn cached_denials(&self, charges: &[Charge<'_>]) -> Option<RateLimitStatus> {
        let denied = charges.iter().filter_map(|charge| {
            let denial = self.0.denials.get(&charge.key, charge.cost, charge.limit)?;
            Some(PolicyStatus {
                remaining: denial.remaining,
                wait: denial.until.saturating_duration_since(Instant::now()),
                reset_at: denial.reset_at,
                is_refused: true,
                ..charge.full()
            })
        });
        let policies: Vec<_> = denied.collect();
        (!policies.is_empty()).then_some(RateLimitStatus { policies, is_degraded: false })
    }

    async fn charge_in_redis(&self, charges: &[Charge<'_>]) -> Result<store::ChargeReply> {
        let Ok(_permit) = self.0.redis_permits.try_acquire() else {
            return Err(Error::RedisUnavailable(
                "too many requests wait for the rate limiter".to_owned(),
            ));
        };
        let deadline = self.0.config.deadline;
        timeout(deadline, store::charge(&self.0.redis, charges)).await.unwrap_or_else(|_| {
            Err(Error::RedisUnavailable(format!(
                "the rate limiter got no reply within {deadline:?}"
            )))
        })
    }

    /// Applies the `on_redis_failure` rule of each policy.
    fn decide_without_redis(&self, charges: &[Charge<'_>], error: Error) -> Verdict {
        self.0.redis.metrics().limiter.degraded.inc();
        if let Some(occurrences) = self.0.degraded_log.should_log() {
            warn!(occurrences, %error, "rate limits are not counted in Redis");
        }
        let charges_with =
            |rule| charges.iter().filter(move |charge| charge.policy.on_redis_failure == rule);
        if charges_with(OnRedisFailure::Closed).next().is_some() {
            return Verdict::Unavailable(error);
        }
        let process_count = u64::from(self.0.config.process_count.get());
        let local_charges: Vec<_> = charges_with(OnRedisFailure::Local)
            .map(|charge| LocalCharge {
                key: &charge.key,
                // The share of this process, but enough for one request.
                limit: (charge.limit / process_count).max(charge.cost),
                window: charge.policy.window,
                cost: charge.cost,
            })
            .collect();
        let results = self.0.local.charge(&local_charges, Instant::now());
        let now_ms = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
        let charged = charges_with(OnRedisFailure::Local).zip(local_charges.iter().zip(&results));
        let policies = charged.map(|(charge, (local_charge, result))| PolicyStatus {
            limit: local_charge.limit,
            remaining: result.remaining,
            wait: result.resets_in,
            // Redis' clock is unavailable too. This process's clock only affects the reported reset time.
            reset_at: unix_secs(now_ms, result.resets_in),
            is_refused: !result.is_admitted,
            ..charge.full()
        });
        let statuses = RateLimitStatus { policies: policies.collect(), is_degraded: true };
        if results.iter().all(|result| result.is_admitted) {
            Verdict::Admitted(statuses)
        } else {
            Verdict::Refused(statuses)
        }
    }

    /// The status of `caller` in every policy, without charging it. Policies that count each route group separately
    /// have one entry per group.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn peek(
        &self,
        caller: &Caller,
        origin: &Requester,
    ) -> Result<Vec<(Option<RouteGroup>, PolicyStatus)>> {
        let mut charges: Vec<(Option<RouteGroup>, Charge<'_>)> = Vec::new();
        for group in RouteGroup::ALL {
            for charge in self.charges_for(Some(caller), origin, group) {
                if charges.iter().all(|(_, known)| known.key != charge.key) {
                    let counted_group = charge.policy.scope.is_per_route().then_some(group);
                    charges.push((counted_group, charge));
                }
            }
        }
        let (groups, charges): (Vec<_>, Vec<_>) = charges.into_iter().unzip();
        if charges.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = self.0.config.deadline;
        let reply = timeout(deadline, store::peek(&self.0.redis, &charges)).await;
        let reply = reply
            .map_err(|_| Error::RedisUnavailable(format!("no reply within {deadline:?}")))??;
        Ok(groups.into_iter().zip(statuses(&charges, &reply).policies).collect())
    }

    /// The client of a request from `peer`. `header_lines`, the values of [`Self::proxy_header`], are used only if the
    /// peer is a trusted proxy.
    pub(crate) fn address<'a>(
        &self,
        peer: IpAddr,
        header_lines: impl DoubleEndedIterator<Item = &'a str> + Clone,
    ) -> Requester {
        let proxies = &self.0.proxies;
        if !proxies.trusts(peer.to_canonical())
            && header_lines.clone().next().is_some()
            && let Some(occurrences) = self.0.untrusted_proxy_log.should_log()
        {
            let header = proxies.header.name();
            warn!(
                occurrences,
                %peer,
                header,
                "a proxy header was ignored because the peer is not in rate_limit.trusted_proxies; \
                 all clients behind the peer share one count"
            );
        }
        let address = proxies.client_ip(peer, header_lines);
        let counted_as = rate_limit_network(address, IPV6_PREFIX).into();
        Requester { address, counted_as }
    }
}
