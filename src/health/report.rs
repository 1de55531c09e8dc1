//! The seed's health report: what was found, and in one word what that means.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Config, info::Info};
use crate::error::Result;

/// The worst that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Healthy,
    /// Answers, and someone should look: `problems` says at what.
    Degraded,
    /// Cannot serve.
    Unhealthy,
}

/// What Redis answered.
pub(super) struct Findings {
    pub(super) databases: Vec<DatabaseCheck>,
    /// Of each server.
    pub(super) infos: Vec<Result<String>>,
}

pub(super) struct DatabaseCheck {
    pub(super) name: String,
    pub(super) number: u8,
    /// How long an answer took.
    pub(super) ping: Result<Duration>,
    pub(super) write: Result<()>,
}

/// The body of `/health`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HealthReport)]
pub(crate) struct Report {
    pub(crate) status: Verdict,
    #[schema(example = "image2model-gateway")]
    service: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    timestamp: DateTime<Utc>,
    uptime_seconds: i64,
    /// In words, for people; empty when all is well.
    #[schema(example = json!([]))]
    problems: Vec<String>,
    #[schema(example = json!({"ping": {"status": "ok", "response_time_ms": 0.2}}))]
    checks: Map<String, Value>,
}

impl Report {
    pub(super) fn new(
        findings: &Findings,
        config: &Config,
        is_draining: bool,
        since: DateTime<Utc>,
    ) -> Self {
        let mut problems: Vec<String> = Vec::new();
        if is_draining {
            problems.push("the service is about to stop".to_owned());
        }
        // Of a cluster that was never reached no server is known.
        let is_down =
            findings.databases.is_empty() || findings.databases.iter().any(|it| it.ping.is_err());
        if is_down {
            problems.push("Redis does not answer".to_owned());
        }
        let refusal = findings.databases.iter().find_map(DatabaseCheck::refusal);
        problems.extend(refusal.map(|it| format!("writes are refused: {it}")));
        let mut checks = Map::new();
        checks.insert("ping".to_owned(), findings.ping());
        let writes = match refusal {
            _ if is_down => json!({"status": "error", "error": "Redis does not answer"}),
            Some(reason) => json!({"status": "error", "error": reason}),
            None => json!({"status": "ok"}),
        };
        checks.insert("writes".to_owned(), writes);
        let infos = findings.infos();
        checks.insert("databases".to_owned(), findings.databases(&infos));
        match infos.as_slice() {
            [Some(info)] => {
                problems.extend(info.problems(config));
                checks.extend(info.sections(config));
            }
            [] | [None] => {
                problems.push("INFO failed".to_owned());
                checks.insert("info".into(), json!({"status": "error", "error": "INFO failed"}));
            }
            shards => {
                let (found, told) = of_shards(shards, config);
                problems.extend(found);
                checks.insert("shards".to_owned(), told);
            }
        }
        let now = Utc::now();
        Self {
            status: match (is_down, problems.is_empty()) {
                (true, _) => Verdict::Unhealthy,
                (false, false) => Verdict::Degraded,
                (false, true) => Verdict::Healthy,
            },
            service: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            timestamp: now,
            uptime_seconds: (now - since).num_seconds(),
            problems,
            checks,
        }
    }
}

impl Report {
    /// Adds what somebody else found.
    pub(super) fn add(&mut self, name: &str, check: &impl Serialize) {
        self.checks.insert(name.to_owned(), json!(check));
    }
}

impl Findings {
    /// The seed's one ping: the slowest.
    fn ping(&self) -> Value {
        let pings: Result<Vec<_>, _> = self.databases.iter().map(|it| it.ping.as_ref()).collect();
        match pings.ok().and_then(|it| it.into_iter().max().copied()) {
            Some(took) => json!({"status": "ok", "response_time_ms": millis(took)}),
            None => json!({"status": "error", "error": "Redis does not answer"}),
        }
    }

    fn infos(&self) -> Vec<Option<Info<'_>>> {
        self.infos.iter().map(|it| it.as_deref().ok().map(Info::parse)).collect()
    }

    /// By database, all of one server, or by server.
    fn databases(&self, infos: &[Option<Info<'_>>]) -> Value {
        let check = |(i, it): (usize, &DatabaseCheck)| {
            let info = if infos.len() == 1 { infos.first() } else { infos.get(i) };
            let info = info.and_then(Option::as_ref);
            let number = it.number;
            let mut found = match &it.ping {
                Ok(took) => json!({"status": "ok", "response_time_ms": millis(*took)}),
                Err(_) => json!({"status": "error", "error": "it does not answer"}),
            };
            found["database"] = json!(number);
            found["writes"] = json!(if it.write.is_ok() { "ok" } else { "error" });
            if let Some((keys, with_ttl)) = info.map(|it| it.keys(number)) {
                found["keys"] = json!(keys);
                found["keys_with_ttl"] = json!(with_ttl);
            }
            (it.name.clone(), found)
        };
        Value::Object(self.databases.iter().enumerate().map(check).collect())
    }
}

/// What is wrong with servers of a cluster, and the sections of each.
fn of_shards(infos: &[Option<Info<'_>>], config: &Config) -> (Vec<String>, Value) {
    let (mut problems, mut told) = (Vec::new(), Map::new());
    for (i, info) in infos.iter().enumerate() {
        let sections = if let Some(info) = info {
            let found = info.problems(config).into_iter();
            problems.extend(found.map(|it| format!("shard {i}: {it}")));
            Value::Object(info.sections(config))
        } else {
            problems.push(format!("shard {i}: INFO failed"));
            json!({"status": "error", "error": "INFO failed"})
        };
        told.insert(format!("shard_{i}"), sections);
    }
    (problems, Value::Object(told))
}

impl DatabaseCheck {
    /// Why it answers and takes no writes, in words of ours.
    fn refusal(&self) -> Option<&'static str> {
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
        let known = KNOWN.iter().find(|it| error.contains(it.0));
        Some(known.map_or("a write failed", |it| it.1))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
