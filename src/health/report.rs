//! The seed's health report: ping, memory, clients, persistence, replication.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::error::Result;

const MIB: f64 = 1024.0 * 1024.0;

/// The worst that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Healthy,
    /// Works, and someone should look.
    Degraded,
    /// Cannot serve.
    Unhealthy,
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
    #[schema(example = json!({"ping": {"status": "ok", "response_time_ms": 0.2}}))]
    checks: Map<String, Value>,
}

impl Report {
    pub(super) fn new(
        ping: &Result<Duration>,
        info: &Result<String>,
        is_draining: bool,
        since: DateTime<Utc>,
    ) -> Self {
        let mut checks = Map::new();
        let mut status = if is_draining { Verdict::Degraded } else { Verdict::Healthy };
        if let Ok(took) = ping {
            checks.insert(
                "ping".into(),
                json!({"status": "ok", "response_time_ms": took.as_secs_f64() * 1000.0}),
            );
        } else {
            checks.insert(
                "ping".into(),
                json!({"status": "error", "error": "Redis does not answer"}),
            );
            status = Verdict::Unhealthy;
        }
        match info {
            Ok(info) if !info.is_empty() => {
                let info = Info::parse(info);
                if let Some(reason) = info.refuses_writes() {
                    checks.insert("writes".into(), json!({"status": "error", "error": reason}));
                    status = Verdict::Unhealthy;
                }
                checks.extend(info.sections());
            }
            Ok(_) => (),
            Err(_) => {
                checks.insert("info".into(), json!({"status": "error", "error": "INFO failed"}));
                status = if status == Verdict::Unhealthy { status } else { Verdict::Degraded };
            }
        }
        let now = Utc::now();
        Self {
            status,
            service: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            timestamp: now,
            uptime_seconds: (now - since).num_seconds(),
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

/// The answer of INFO, by field.
struct Info<'a>(HashMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    fn parse(text: &'a str) -> Self {
        Self(text.lines().filter_map(|it| it.trim_end().split_once(':')).collect())
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).copied().unwrap_or_default()
    }

    fn count(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or(0.0)
    }

    /// Why a write would fail now, if it would.
    fn refuses_writes(&self) -> Option<&'static str> {
        let limit = self.number("maxmemory");
        if self.text("role") == "slave" {
            Some("this Redis is a replica")
        } else if limit > 0.0
            && self.text("maxmemory_policy") == "noeviction"
            && self.number("used_memory") >= limit
        {
            Some("Redis is out of memory")
        } else {
            None
        }
    }

    fn sections(&self) -> Map<String, Value> {
        let sections = json!({
            "memory": {
                "used_memory_mb": self.number("used_memory") / MIB,
                "used_memory_peak_mb": self.number("used_memory_peak") / MIB,
                "used_memory_rss_mb": self.number("used_memory_rss") / MIB,
                "mem_fragmentation_ratio": self.number("mem_fragmentation_ratio"),
                "maxmemory_policy": self.text("maxmemory_policy"),
            },
            "clients": {
                "connected_clients": self.count("connected_clients"),
                "blocked_clients": self.count("blocked_clients"),
            },
            "persistence": {
                "rdb_last_save_time": self.count("rdb_last_save_time"),
                "aof_enabled": self.text("aof_enabled") == "1",
                "loading": self.text("loading") == "1",
            },
            "replication": {
                "role": self.text("role"),
                "connected_slaves": self.count("connected_slaves"),
            },
            "server": {
                "redis_version": self.text("redis_version"),
                "uptime_in_seconds": self.count("uptime_in_seconds"),
            },
        });
        match sections {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}
