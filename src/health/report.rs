//! The health report in the seed's format: the status, the problems, and the results of all checks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Config, info::Info};
use crate::error::Result;

/// The overall health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Verdict)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthStatus {
    Healthy,
    /// Serves requests, but needs an operator; `problems` lists the reasons.
    Degraded,
    /// Cannot serve requests.
    Unhealthy,
}

/// The replies of Redis to the probes.
pub(super) struct ProbeResults {
    pub(super) databases: Vec<DatabaseCheck>,
    /// The text of INFO of each server.
    pub(super) infos: Vec<Result<String>>,
}

pub(super) struct DatabaseCheck {
    pub(super) name: String,
    pub(super) number: u8,
    /// Round-trip time of a ping.
    pub(super) ping: Result<Duration>,
    pub(super) write: Result<()>,
}

/// The body of `/health`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthReport {
    pub(crate) status: HealthStatus,
    #[schema(example = "image2model-gateway")]
    service: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    timestamp: DateTime<Utc>,
    uptime_seconds: i64,
    /// Problems as sentences, for people; empty if the status is `healthy`.
    #[schema(example = json!([]))]
    problems: Vec<String>,
    #[schema(example = json!({"ping": {"status": "ok", "response_time_ms": 0.2}}))]
    checks: Map<String, Value>,
}

impl HealthReport {
    pub(super) fn new(
        results: &ProbeResults,
        config: &Config,
        is_draining: bool,
        started_at: DateTime<Utc>,
    ) -> Self {
        let mut problems: Vec<String> = Vec::new();
        if is_draining {
            problems.push("the service is shutting down".to_owned());
        }
        // If a cluster was never reached, none of its servers is known.
        let is_down = results.databases.is_empty()
            || results.databases.iter().any(|database| database.ping.is_err());
        if is_down {
            problems.push("Redis does not answer".to_owned());
        }
        let write_error = results.databases.iter().find_map(DatabaseCheck::write_error);
        problems.extend(write_error.map(|reason| format!("writes are rejected: {reason}")));
        let mut checks = Map::new();
        checks.insert("ping".to_owned(), results.ping_check());
        let writes = match write_error {
            _ if is_down => json!({"status": "error", "error": "Redis does not answer"}),
            Some(reason) => json!({"status": "error", "error": reason}),
            None => json!({"status": "ok"}),
        };
        checks.insert("writes".to_owned(), writes);
        let infos = results.parse_infos();
        checks.insert("databases".to_owned(), results.database_checks(&infos));
        add_server_checks(&infos, config, &mut problems, &mut checks);
        let now = Utc::now();
        Self {
            status: match (is_down, problems.is_empty()) {
                (true, _) => HealthStatus::Unhealthy,
                (false, false) => HealthStatus::Degraded,
                (false, true) => HealthStatus::Healthy,
            },
            service: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            timestamp: now,
            uptime_seconds: (now - started_at).num_seconds(),
            problems,
            checks,
        }
    }

    /// Adds the check of another component.
    pub(super) fn add(&mut self, name: &str, check: &impl Serialize) {
        self.checks.insert(name.to_owned(), json!(check));
    }
}

impl ProbeResults {
    /// The seed's format has one ping: the slowest.
    fn ping_check(&self) -> Value {
        let pings: Result<Vec<_>, _> =
            self.databases.iter().map(|database| database.ping.as_ref()).collect();
        match pings.ok().and_then(|pings| pings.into_iter().max().copied()) {
            Some(slowest) => json!({"status": "ok", "response_time_ms": millis(slowest)}),
            None => json!({"status": "error", "error": "Redis does not answer"}),
        }
    }

    fn parse_infos(&self) -> Vec<Option<Info<'_>>> {
        self.infos.iter().map(|info| info.as_deref().ok().map(Info::parse)).collect()
    }

    /// A check per database of the one server, or per server of a cluster.
    fn database_checks(&self, infos: &[Option<Info<'_>>]) -> Value {
        let check = |(i, database): (usize, &DatabaseCheck)| {
            let info = if infos.len() == 1 { infos.first() } else { infos.get(i) };
            let info = info.and_then(Option::as_ref);
            let mut check = match &database.ping {
                Ok(ping) => json!({"status": "ok", "response_time_ms": millis(*ping)}),
                Err(_) => json!({"status": "error", "error": "it does not answer"}),
            };
            check["database"] = json!(database.number);
            check["writes"] = json!(if database.write.is_ok() { "ok" } else { "error" });
            if let Some((keys, with_ttl)) = info.map(|info| info.keys(database.number)) {
                check["keys"] = json!(keys);
                check["keys_with_ttl"] = json!(with_ttl);
            }
            (database.name.clone(), check)
        };
        Value::Object(self.databases.iter().enumerate().map(check).collect())
    }
}

/// Adds the problems and sections that come from INFO: at the top level for one server, below `shards` for a cluster.
fn add_server_checks(
    infos: &[Option<Info<'_>>],
    config: &Config,
    problems: &mut Vec<String>,
    checks: &mut Map<String, Value>,
) {
    match infos {
        [Some(info)] => {
            problems.extend(info.problems(config));
            checks.extend(info.sections(config));
        }
        [] | [None] => {
            problems.push("INFO failed".to_owned());
            checks.insert("info".into(), json!({"status": "error", "error": "INFO failed"}));
        }
        shards => {
            let (shard_problems, sections) = shard_sections(shards, config);
            problems.extend(shard_problems);
            checks.insert("shards".to_owned(), sections);
        }
    }
}

/// The problems of all servers of a cluster, and the sections of each server.
fn shard_sections(infos: &[Option<Info<'_>>], config: &Config) -> (Vec<String>, Value) {
    let (mut problems, mut shards) = (Vec::new(), Map::new());
    for (i, info) in infos.iter().enumerate() {
        let sections = if let Some(info) = info {
            let shard_problems = info.problems(config).into_iter();
            problems.extend(shard_problems.map(|problem| format!("shard {i}: {problem}")));
            Value::Object(info.sections(config))
        } else {
            problems.push(format!("shard {i}: INFO failed"));
            json!({"status": "error", "error": "INFO failed"})
        };
        shards.insert(format!("shard_{i}"), sections);
    }
    (problems, Value::Object(shards))
}

impl DatabaseCheck {
    /// Why a reachable database rejects writes. The text is fixed, since the reply of Redis may contain addresses.
    fn write_error(&self) -> Option<&'static str> {
        const KNOWN: [(&str, &str); 5] = [
            ("OOM", "Redis is out of memory"),
            ("READONLY", "this Redis is a replica"),
            ("MISCONF", "Redis cannot save its data to disk"),
            ("NOREPLICAS", "too few replicas are in sync"),
            ("NOPERM", "the Redis user of this service may not write"),
        ];
        let error = match (&self.ping, &self.write) {
            (Ok(_), Err(error)) => error.to_string(),
            _ => return None,
        };
        let known = KNOWN.iter().find(|(prefix, _)| error.contains(prefix));
        Some(known.map_or("a write failed", |(_, reason)| reason))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
