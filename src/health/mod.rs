//! Probes for Kubernetes, and the report on Redis for people.

mod info;
pub(crate) mod report;
pub(crate) mod slow_log;
pub(crate) mod store;

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

pub(crate) use self::report::Report;
use self::{
    info::Info,
    report::{DatabaseCheck, Findings},
    slow_log::SlowQuery,
};
use crate::{
    error::{Error, Result},
    settings::{Time, check_between},
    store::{Database, Keyspace, Redis},
};

/// When Redis is well.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The longest that `/health` waits for Redis.
    #[serde(with = "Time")]
    pub deadline: Duration,
    /// It is `degraded` when Redis uses more than this part of its `maxmemory` ...
    pub memory_warning: f64,
    /// ... or a replica is further behind than this.
    #[serde(with = "Time")]
    pub max_replication_lag: Duration,
}

impl Config {
    pub(crate) fn check(&self) -> AnyResult<()> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        check_between("deadline", self.deadline, ms(10), ms(60_000))?;
        check_between("max_replication_lag", self.max_replication_lag, secs(1), secs(86_400))?;
        if !(0.0..=1.0).contains(&self.memory_warning) {
            bail!("memory_warning is {}; it has to be between 0 and 1", self.memory_warning);
        }
        Ok(())
    }
}

/// What probes ask. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Health(Arc<Inner>);

struct Inner {
    redis: Redis,
    config: Config,
    has_started: AtomicBool,
    is_draining: AtomicBool,
    since: DateTime<Utc>,
    /// The last findings; who asks at the same time shares them, so that asking often costs Redis little.
    last: Mutex<Option<(Instant, Arc<Findings>)>>,
}

impl Health {
    pub(crate) fn new(redis: Redis, config: Config) -> Self {
        Self(Arc::new(Inner {
            redis,
            config,
            has_started: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            since: Utc::now(),
            last: Mutex::default(),
        }))
    }

    /// From now on the service is not ready: it is about to stop.
    pub(crate) fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// Whether Redis was reached once; stays true.
    pub(crate) fn has_started(&self) -> bool {
        let started = self.0.has_started.load(Ordering::Relaxed) || self.0.redis.is_up();
        if started {
            self.0.has_started.store(true, Ordering::Relaxed);
        }
        started
    }

    /// The connections that have to be up for requests to be served, by name.
    pub(crate) fn redis_parts(&self) -> Vec<(&'static str, bool)> {
        self.0.redis.component_health()
    }

    /// The newest entries of the slow logs of all servers, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`], or a Redis error if the service may not read them.
    pub(crate) async fn slow_queries(&self, limit: u64) -> Result<Vec<SlowQuery>> {
        let entries = store::slow_log(&self.0.redis, limit).await?;
        let mut slow_queries: Vec<_> = entries.into_iter().filter_map(SlowQuery::parse).collect();
        slow_log::newest(&mut slow_queries, limit);
        Ok(slow_queries)
    }

    /// How Redis is, as of a moment ago at most.
    pub(crate) async fn report(&self) -> Report {
        const FRESH: Duration = Duration::from_millis(100);
        let mut last = self.0.last.lock().await;
        let findings = match &*last {
            Some((at, findings)) if at.elapsed() < FRESH => findings.clone(),
            _ => {
                let findings = Arc::new(self.find_out().await);
                *last = Some((Instant::now(), findings.clone()));
                findings
            }
        };
        drop(last);
        let mut report = Report::new(&findings, &self.0.config, self.is_draining(), self.0.since);
        if let Some(replicas) = self.0.redis.replica_reports() {
            report.add("replicas", &replicas);
        }
        report
    }

    /// Asks every database, or every server of a cluster, whether it answers and takes writes, and how it is.
    async fn find_out(&self) -> Findings {
        let redis = &self.0.redis;
        let deadline = Instant::now() + self.0.config.deadline;
        let servers = redis.servers(Database::Jobs);
        let infos = join_all(servers.iter().map(|it| within(deadline, store::info(it.0))));
        let (pings, infos) = tokio::join!(self.ping(deadline), infos);
        // A replica refuses writes, and being told so would make the client look for another server.
        let is_replica =
            |info: &Result<String>| info.as_ref().is_ok_and(|it| Info::parse(it).is_replica());
        let takes_none = infos.iter().any(is_replica);
        let writes = join_all(pings.iter().map(|(checked, ping)| async move {
            match ping {
                Ok(_) if !takes_none => within(deadline, store::write(checked.keyspace)).await,
                Ok(_) => Err(Error::RedisUnavailable("READONLY".to_owned())),
                Err(_) => Err(Error::RedisUnavailable("not connected".to_owned())),
            }
        }))
        .await;
        let checks = pings.into_iter().zip(writes);
        let databases = checks.map(|((it, ping), write)| DatabaseCheck {
            name: it.name,
            number: it.number,
            ping,
            write,
        });
        Findings { databases: databases.collect(), infos }
    }

    async fn ping(&self, deadline: Instant) -> Vec<(Checked<'_>, Result<Duration>)> {
        join_all(checked(&self.0.redis).into_iter().map(|it| async move {
            let started = Instant::now();
            let ping = within(deadline, store::ping(it.keyspace)).await.map(|()| started.elapsed());
            (it, ping)
        }))
        .await
    }
}

/// What is asked by itself.
struct Checked<'a> {
    name: String,
    /// Of the database on its server.
    number: u8,
    keyspace: Keyspace<'a>,
}

/// Each database, or each server of a cluster: without its address, since anybody may read the report.
fn checked(redis: &Redis) -> Vec<Checked<'_>> {
    if redis.layout().is_multi_database() {
        let database = |it: Database| Checked {
            name: it.as_str().to_owned(),
            number: it as u8,
            keyspace: redis.default_keyspace(it),
        };
        return Database::ALL.map(database).into();
    }
    let shards = redis.servers(Database::Jobs).into_iter().enumerate();
    let shard = |(i, (keyspace, _))| Checked { name: format!("shard_{i}"), number: 0, keyspace };
    shards.map(shard).collect()
}

async fn within<T>(deadline: Instant, asking: impl Future<Output = Result<T>>) -> Result<T> {
    let left = deadline.saturating_duration_since(Instant::now());
    timeout(left, asking)
        .await
        .unwrap_or_else(|_| Err(Error::RedisUnavailable("no answer in time".to_owned())))
}
