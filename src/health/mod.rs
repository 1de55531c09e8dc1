//! Probes for Kubernetes, and the health report for operators.

mod info;
pub(crate) mod report;
pub(crate) mod slow_log;
mod store;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result as AnyResult, bail};
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, time::timeout};

pub(crate) use self::report::HealthReport;
use self::{
    info::Info,
    report::{DatabaseCheck, ProbeResults},
    slow_log::SlowQuery,
};
use crate::{
    error::{Error, Result},
    settings::{HumanDuration, validate_range},
    store::{Database, Keyspace, Redis},
};

/// Thresholds of the health report.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Time for which `/health` waits for Redis.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub deadline: Duration,
    /// The health is `degraded` if Redis uses more than this fraction of its `maxmemory` ...
    pub memory_warning: f64,
    /// ... or if a replica lags behind by more than this.
    #[serde(with = "HumanDuration")]
    pub max_replication_lag: Duration,
}

impl Config {
    pub(crate) fn validate(&self) -> AnyResult<()> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        validate_range("deadline", self.deadline, ms(10), ms(60_000))?;
        validate_range("max_replication_lag", self.max_replication_lag, secs(1), secs(86_400))?;
        if !(0.0..=1.0).contains(&self.memory_warning) {
            bail!("memory_warning is {}; it has to be between 0 and 1", self.memory_warning);
        }
        Ok(())
    }
}

/// The state behind the probes and the health report. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Health(Arc<Inner>);

struct Inner {
    redis: Redis,
    config: Config,
    has_started: AtomicBool,
    is_draining: AtomicBool,
    started_at: DateTime<Utc>,
    /// The last results and their time. Concurrent requests share them, so that frequent requests do not load Redis.
    last: Mutex<Option<(Instant, Arc<ProbeResults>)>>,
}

impl Health {
    pub(crate) fn new(redis: Redis, config: Config) -> Self {
        Self(Arc::new(Inner {
            redis,
            config,
            has_started: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            started_at: Utc::now(),
            last: Mutex::default(),
        }))
    }

    /// Makes the readiness probe fail, because the service is about to stop.
    pub(crate) fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// Whether Redis has been reached at least once since the start.
    pub(crate) fn has_started(&self) -> bool {
        let has_started = self.0.has_started.load(Ordering::Relaxed) || self.0.redis.is_up();
        if has_started {
            self.0.has_started.store(true, Ordering::Relaxed);
        }
        has_started
    }

    /// The connections that serving requests needs: their names, and whether they are up.
    pub(crate) fn redis_parts(&self) -> Vec<(&'static str, bool)> {
        self.0.redis.component_health()
    }

    /// The newest `limit` entries of the slow logs of all servers.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; [`Error::Redis`] if the Redis user has no permission.
    pub(crate) async fn slow_queries(&self, limit: u64) -> Result<Vec<SlowQuery>> {
        let entries = store::slow_log(&self.0.redis, limit).await?;
        let mut slow_queries: Vec<_> = entries.into_iter().filter_map(SlowQuery::parse).collect();
        slow_log::keep_newest(&mut slow_queries, limit);
        Ok(slow_queries)
    }

    /// The health report, from results that are at most 100 ms old.
    pub(crate) async fn report(&self) -> HealthReport {
        const MAX_AGE: Duration = Duration::from_millis(100);
        let mut last = self.0.last.lock().await;
        let results = match &*last {
            Some((at, results)) if at.elapsed() < MAX_AGE => results.clone(),
            _ => {
                let results = Arc::new(self.probe().await);
                *last = Some((Instant::now(), results.clone()));
                results
            }
        };
        drop(last);
        let (config, started_at) = (&self.0.config, self.0.started_at);
        let mut report = HealthReport::new(&results, config, self.is_draining(), started_at);
        if let Some(replicas) = self.0.redis.replica_reports() {
            report.add("replicas", &replicas);
        }
        report
    }

    /// Probes every database, or every server of a cluster: ping, write and INFO.
    async fn probe(&self) -> ProbeResults {
        let redis = &self.0.redis;
        let deadline = Instant::now() + self.0.config.deadline;
        let servers = redis.servers(Database::Jobs);
        let infos = servers.iter().map(|(keyspace, _)| until(deadline, store::info(*keyspace)));
        let (pings, infos) = tokio::join!(self.ping_all(deadline), join_all(infos));
        // A replica is not written to: its READONLY error would make the client look for another server.
        let has_replica =
            infos.iter().any(|info| info.as_ref().is_ok_and(|info| Info::parse(info).is_replica()));
        let writes = join_all(pings.iter().map(|(target, ping)| async move {
            match ping {
                Ok(_) if !has_replica => until(deadline, store::write(target.keyspace)).await,
                Ok(_) => Err(Error::RedisUnavailable("READONLY".to_owned())),
                Err(_) => Err(Error::RedisUnavailable("not connected".to_owned())),
            }
        }))
        .await;
        let checks = pings.into_iter().zip(writes);
        let databases = checks.map(|((target, ping), write)| DatabaseCheck {
            name: target.name,
            number: target.number,
            ping,
            write,
        });
        ProbeResults { databases: databases.collect(), infos }
    }

    async fn ping_all(&self, deadline: Instant) -> Vec<(ProbeTarget<'_>, Result<Duration>)> {
        join_all(probe_targets(&self.0.redis).into_iter().map(|target| async move {
            let started_at = Instant::now();
            let ping = until(deadline, store::ping(target.keyspace)).await;
            (target, ping.map(|()| started_at.elapsed()))
        }))
        .await
    }
}

/// A database of the one server, or a server of a cluster.
struct ProbeTarget<'a> {
    name: String,
    /// Number of the database on its server.
    number: u8,
    keyspace: Keyspace<'a>,
}

/// All databases, or all servers of a cluster. Their addresses are omitted because the report is public.
fn probe_targets(redis: &Redis) -> Vec<ProbeTarget<'_>> {
    if redis.layout().is_multi_database() {
        let target = |database: Database| ProbeTarget {
            name: database.as_str().to_owned(),
            number: database as u8,
            keyspace: redis.default_keyspace(database),
        };
        return Database::ALL.map(target).into();
    }
    let shards = redis.servers(Database::Jobs).into_iter().enumerate();
    let target =
        |(i, (keyspace, _))| ProbeTarget { name: format!("shard_{i}"), number: 0, keyspace };
    shards.map(target).collect()
}

/// Runs `call` with a time-out at `deadline`.
async fn until<T>(deadline: Instant, call: impl Future<Output = Result<T>>) -> Result<T> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    timeout(remaining, call)
        .await
        .unwrap_or_else(|_| Err(Error::RedisUnavailable("the health check timed out".to_owned())))
}
