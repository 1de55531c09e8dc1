//! How often callers may call: named policies, all charged in one round trip, all or none.

pub(crate) mod brute_force;
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
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, time::timeout};
use tracing::warn;

use self::{
    brute_force::Guessing,
    client_ip::{Proxies, counted_as},
    denial_cache::{DenyTable, Refusal},
    heavy_hitters::{Busiest, Busy, Who},
    local_limiter::{LocalCounts, Spending},
    policy::{OnRedisFailure, Policy},
    status::{standings, unix_secs},
};
pub(crate) use self::{
    config::Config,
    policy::{Cost, RouteGroup},
    status::{Standing, Standings, ceil_secs},
};
use crate::{
    auth::{Caller, Limits, Role},
    error::{Error, Result},
    ids::Sha256Hex,
    observability::{log_throttle::Seldom, metrics::Limiter as Metrics},
    store::{Partition, Redis},
};

/// Counts requests, and says which may pass. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RateLimiter(Arc<Inner>);

struct Inner {
    config: Config,
    /// A job has no more files than this.
    max_files: usize,
    /// When browsers come back whose stream was refused, at the soonest.
    stream_retry: Duration,
    redis: Redis,
    proxies: Proxies,
    denied: DenyTable,
    guessing: Guessing,
    local: LocalCounts,
    busiest: Busiest,
    waiting: Semaphore,
    degraded: Seldom,
    shadowed: Seldom,
    unbelieved: Seldom,
}

/// Where a request comes from.
#[derive(Clone)]
pub(crate) struct Origin {
    address: IpAddr,
    /// The address, or the network that is counted as one.
    pub(crate) counted_as: Arc<str>,
}

/// What a request may spend in one policy.
pub(crate) struct Charge<'a> {
    policy: &'a Policy,
    key: String,
    /// What is counted of one caller is counted in one place.
    partition: Partition,
    limit: u64,
    cost: u64,
}

/// What becomes of a request.
pub(crate) enum Verdict {
    /// No policy says anything of it.
    Unlimited,
    Admitted(Standings),
    Refused(Standings),
    /// Redis cannot say, and a policy lets nobody in without.
    Undecided(Error),
}

impl Verdict {
    fn count_in(&self, metrics: &Metrics) {
        match self {
            Self::Unlimited => metrics.unlimited.inc(),
            Self::Admitted(_) => metrics.admitted.inc(),
            Self::Refused(_) => metrics.refused.inc(),
            Self::Undecided(_) => metrics.undecided.inc(),
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
            proxies: Proxies::new(config),
            denied: DenyTable::new(config.deny_table_size),
            guessing: Guessing::new(config.failed_keys_limit, config.failed_keys_window),
            local: LocalCounts::new(config.deny_table_size),
            busiest: Busiest::new(config.policies.len(), Instant::now()),
            waiting: Semaphore::new(config.max_waiting),
            degraded: Seldom::default(),
            shadowed: Seldom::default(),
            unbelieved: Seldom::default(),
            config: config.clone(),
        }))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// The shortest time after which a refused browser stream reconnects.
    pub(crate) fn stream_retry(&self) -> Duration {
        self.0.stream_retry
    }

    /// The header in which trusted proxies name the client.
    pub(crate) fn proxy_header(&self) -> &'static str {
        self.0.proxies.header.name()
    }

    /// Counts a request that no policy limits.
    pub(crate) fn count_unlimited(&self) {
        self.0.redis.metrics().limiter.unlimited.inc();
    }

    /// Whether some charge depends on the number of files, so that the body has to be read first.
    pub(crate) fn needs_file_count(charges: &[Charge<'_>]) -> bool {
        charges.iter().any(|charge| charge.policy.cost == Cost::File)
    }

    /// Sets the cost of the charges that count files. The count is at least 1 and at most `jobs.max_files`.
    pub(crate) fn apply_file_count(&self, charges: &mut [Charge<'_>], count: usize) {
        let cost = count.clamp(1, self.0.max_files) as u64;
        for charge in charges.iter_mut().filter(|charge| charge.policy.cost == Cost::File) {
            charge.cost = cost;
        }
    }

    /// The busiest callers of each policy, and how long they have been counted.
    pub(crate) fn busiest(&self, max_callers: usize) -> (Duration, Vec<Vec<Busy>>) {
        self.0.busiest.report(max_callers, Instant::now())
    }

    /// What a request to `group` spends, its cost in files not yet known. Nothing, if it is not limited.
    ///
    /// A key that is not known is no caller: whoever tries keys is counted by address, and makes no keys in Redis.
    pub(crate) fn charges(
        &self,
        caller: Option<&Caller>,
        origin: &Origin,
        group: RouteGroup,
    ) -> Vec<Charge<'_>> {
        let config = &self.0.config;
        let hash = caller.map(|it| &it.hash);
        let is_work = caller.is_some_and(|it| is_work(it, group));
        if config.allow.iter().any(|it| it.is(hash, origin.address)) {
            return Vec::new();
        }
        let by_address = self.0.redis.partition_for_name(&origin.counted_as);
        let charge = |policy: &'_ Policy| -> Option<(String, Partition, u64)> {
            let limit = u64::from(policy.limit.get());
            match (policy.scope.is_of_keys(), hash) {
                (true, None) => None,
                (true, Some(hash)) => {
                    let own = caller.and_then(|it| it.limits.get(&policy.name));
                    let own = own.map(|it| u64::from(it.get()));
                    let limit = own.or_else(|| self.limit_of(hash, policy)).unwrap_or(limit);
                    Some((policy.key(group, hash.as_str()), Partition::for_caller(hash), limit))
                }
                (false, _) => Some((policy.key(group, &origin.counted_as), by_address, limit)),
            }
        };
        let counting = config.policies.iter().filter(|it| it.counts(group, is_work));
        let charges = counting.filter_map(|policy| {
            let (key, partition, limit) = charge(policy)?;
            Some(Charge { policy, key, partition, limit, cost: 1 })
        });
        charges.collect()
    }

    /// Whether a key can have these limits instead of the policies'.
    pub(crate) fn check_limits(&self, limits: &Limits) -> anyhow::Result<()> {
        self.0.config.check_limits(limits, self.0.max_files)
    }

    /// The limit of a single key.
    fn limit_of(&self, hash: &Sha256Hex, policy: &Policy) -> Option<u64> {
        let mut overrides = self.0.config.overrides.iter();
        let found = overrides.find(|it| it.sha256 == hash.as_str() && it.policy == policy.name)?;
        Some(u64::from(found.limit.get()))
    }

    /// Charges all of `charges`, or none. Never waits longer than `deadline`.
    pub(crate) async fn charge(&self, charges: &[Charge<'_>], who: Who<'_>) -> Verdict {
        let verdict = self.decide(charges).await;
        self.note_busy(charges, &verdict, who);
        let verdict = if self.0.config.shadow { self.shadow(&verdict) } else { verdict };
        verdict.count_in(&self.0.redis.metrics().limiter);
        verdict
    }

    fn shadow(&self, verdict: &Verdict) -> Verdict {
        if let Verdict::Refused(_) = verdict {
            self.0.redis.metrics().limiter.would_refuse.inc();
            if let Some(times) = self.0.shadowed.due() {
                warn!(times, "rate_limit.shadow: would have refused");
            }
        }
        Verdict::Unlimited
    }

    async fn decide(&self, charges: &[Charge<'_>]) -> Verdict {
        if let Some(standings) = self.known_refusal(charges) {
            return Verdict::Refused(standings);
        }
        let answer = match self.ask(charges).await {
            Ok(answer) => answer,
            Err(error) => return self.without_redis(charges, error),
        };
        let standings = standings(charges, &answer);
        if answer.is_admitted {
            return Verdict::Admitted(standings);
        }
        for (charge, standing) in charges.iter().zip(&standings.of).filter(|it| it.1.is_refused) {
            let Standing { wait, reset_at, remaining, .. } = *standing;
            let refusal = Refusal::new(wait, reset_at, charge.cost, charge.limit);
            self.0.denied.remember(&charge.key, Refusal { remaining, ..refusal });
        }
        Verdict::Refused(standings)
    }

    /// The refusal of a caller that is known to be over a limit, without asking Redis.
    fn known_refusal(&self, charges: &[Charge<'_>]) -> Option<Standings> {
        let known = charges.iter().filter_map(|charge| {
            let refusal = self.0.denied.find(&charge.key, charge.cost, charge.limit)?;
            Some(Standing {
                remaining: refusal.remaining,
                wait: refusal.until.saturating_duration_since(Instant::now()),
                reset_at: refusal.reset_at,
                is_refused: true,
                ..charge.unspent()
            })
        });
        let of: Vec<_> = known.collect();
        (!of.is_empty()).then_some(Standings { of, is_degraded: false })
    }

    async fn ask(&self, charges: &[Charge<'_>]) -> Result<store::Answer> {
        let Ok(_place) = self.0.waiting.try_acquire() else {
            return Err(Error::RedisUnavailable("too many wait for their limits".to_owned()));
        };
        let deadline = self.0.config.deadline;
        timeout(deadline, store::charge(&self.0.redis, charges)).await.unwrap_or_else(|_| {
            Err(Error::RedisUnavailable(format!("no answer of the limiter within {deadline:?}")))
        })
    }

    /// Decides by each policy's own rule for when Redis cannot.
    fn without_redis(&self, charges: &[Charge<'_>], error: Error) -> Verdict {
        self.0.redis.metrics().limiter.degraded.inc();
        if let Some(times) = self.0.degraded.due() {
            warn!(times, %error, "limits are not counted in Redis");
        }
        let by = |mode| charges.iter().filter(move |it| it.policy.on_redis_failure == mode);
        if by(OnRedisFailure::Closed).next().is_some() {
            return Verdict::Undecided(error);
        }
        let nodes = u64::from(self.0.config.nodes.get());
        let spendings: Vec<_> = by(OnRedisFailure::Local)
            .map(|it| Spending {
                key: &it.key,
                // A share that lets a request pass at all.
                limit: (it.limit / nodes).max(it.cost),
                window: it.policy.window,
                cost: it.cost,
            })
            .collect();
        let shares = self.0.local.charge(&spendings, Instant::now());
        let now_ms = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
        let of = by(OnRedisFailure::Local).zip(spendings.iter().zip(&shares));
        let of = of.map(|(charge, (spending, share))| Standing {
            limit: spending.limit,
            remaining: share.remaining,
            wait: share.left,
            // Redis' clock cannot be asked either; this one is only told to the caller.
            reset_at: unix_secs(now_ms, share.left),
            is_refused: !share.is_admitted,
            ..charge.unspent()
        });
        let standings = Standings { of: of.collect(), is_degraded: true };
        if shares.iter().all(|it| it.is_admitted) {
            Verdict::Admitted(standings)
        } else {
            Verdict::Refused(standings)
        }
    }

    /// How `caller` stands with every policy, by the group for those that count each group by itself.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(crate) async fn peek(
        &self,
        caller: &Caller,
        origin: &Origin,
    ) -> Result<Vec<(Option<RouteGroup>, Standing)>> {
        let mut charges: Vec<(Option<RouteGroup>, Charge<'_>)> = Vec::new();
        for group in RouteGroup::ALL {
            for charge in self.charges(Some(caller), origin, group) {
                if charges.iter().all(|it| it.1.key != charge.key) {
                    let of_group = charge.policy.scope.is_of_routes().then_some(group);
                    charges.push((of_group, charge));
                }
            }
        }
        let (groups, charges): (Vec<_>, Vec<_>) = charges.into_iter().unzip();
        if charges.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = self.0.config.deadline;
        let answer = timeout(deadline, store::peek(&self.0.redis, &charges)).await;
        let answer = answer
            .map_err(|_| Error::RedisUnavailable(format!("no answer within {deadline:?}")))??;
        Ok(groups.into_iter().zip(standings(&charges, &answer).of).collect())
    }

    /// Who calls from `peer`, which is believed about whom it speaks for if it is one of our proxies.
    pub(crate) fn address<'a>(
        &self,
        peer: IpAddr,
        said: impl DoubleEndedIterator<Item = &'a str> + Clone,
    ) -> Origin {
        let proxies = &self.0.proxies;
        if !proxies.trusts(peer.to_canonical())
            && said.clone().next().is_some()
            && let Some(times) = self.0.unbelieved.due()
        {
            let header = proxies.header.name();
            warn!(times, %peer, header, "not in rate_limit.trusted_proxies, so all behind it are one caller");
        }
        let address = proxies.caller(peer, said);
        Origin { address, counted_as: counted_as(address, self.0.config.ipv6_prefix).into() }
    }
}

/// Whether a request is a worker's or an operator's own business, which is not limited unless a policy says so.
fn is_work(caller: &Caller, group: RouteGroup) -> bool {
    !caller.is(Role::Client) || (caller.is(Role::Worker) && group == RouteGroup::Report)
}
