//! The reply of INFO: parsing it, and finding problems in it.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Config;

const MIB: f64 = 1024.0 * 1024.0;

/// The fields of an INFO reply.
pub(super) struct Info<'a>(HashMap<&'a str, &'a str>);

/// A server of the topology, as reported by the connected server. Addresses are omitted because the report is public.
#[derive(Debug, Serialize)]
struct TopologyMember {
    role: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    behind_bytes: Option<u64>,
    /// Whether the service is connected to this server.
    is_ours: bool,
}

impl<'a> Info<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
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

    pub(super) fn is_replica(&self) -> bool {
        self.text("role") == "slave"
    }

    /// Number of keys in a database, and number of its keys with a TTL.
    pub(super) fn keys(&self, database: u8) -> (u64, u64) {
        let line = self.text(&format!("db{database}"));
        (line_field(line, "keys").unwrap_or(0), line_field(line, "expires").unwrap_or(0))
    }

    /// Problems that need an operator, as sentences.
    pub(super) fn problems(&self, config: &Config) -> Vec<String> {
        let mut problems = self.memory_problems(config);
        problems.extend(self.persistence_problems());
        if self.is_replica() {
            problems.push("this Redis is a replica and rejects writes".to_owned());
            if self.text("master_link_status") == "down" {
                problems.push("this replica has lost its primary".to_owned());
            }
        }
        for (index, member) in self.replicas(config).iter().enumerate() {
            if member.status != "ok" {
                problems.push(format!("replica {index} is {}", member.status));
            }
        }
        problems
    }

    fn memory_problems(&self, config: &Config) -> Vec<String> {
        let (limit, used) = (self.number("maxmemory"), self.number("used_memory"));
        let policy = self.text("maxmemory_policy");
        let mut problems = Vec::new();
        if limit > 0.0 && used >= limit {
            problems.push("Redis is out of memory".to_owned());
        } else if limit > 0.0 && used >= limit * config.memory_warning {
            problems.push(format!("Redis uses {:.0} % of its maxmemory", used / limit * 100.0));
        }
        // Every key of the service has a TTL, so the volatile policies evict jobs like the allkeys policies do.
        if limit > 0.0 && policy != "noeviction" {
            problems.push(format!(
                "maxmemory_policy is {policy}, so Redis drops jobs when memory is short; set it to noeviction"
            ));
        }
        problems
    }

    fn persistence_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.text("loading") == "1" {
            problems.push("Redis is loading its data".to_owned());
        }
        let failures = [
            ("rdb_last_bgsave_status", "the last snapshot could not be saved"),
            ("aof_last_write_status", "the append-only file could not be written"),
            ("aof_last_bgrewrite_status", "the append-only file could not be rewritten"),
        ];
        let failed = failures.iter().filter(|(field, _)| self.text(field) == "err");
        problems.extend(failed.map(|(_, problem)| (*problem).to_owned()));
        problems
    }

    fn replicas(&self, config: &Config) -> Vec<TopologyMember> {
        let primary_offset = self.count("master_repl_offset");
        let max_lag = config.max_replication_lag.as_secs();
        let lines = (0..).map_while(|i| self.0.get(format!("slave{i}").as_str()));
        let member = |line: &&str| {
            let lag_seconds = line_field(line, "lag");
            let is_late = lag_seconds.is_some_and(|secs| secs > max_lag);
            TopologyMember {
                role: "replica",
                status: match line.contains("state=online") {
                    true if is_late => "lagging",
                    true => "ok",
                    false => "not in sync",
                },
                lag_seconds,
                behind_bytes: line_field(line, "offset")
                    .map(|offset| primary_offset.saturating_sub(offset)),
                is_ours: false,
            }
        };
        lines.map(member).collect()
    }

    /// The connected server and its replicas.
    fn members(&self, config: &Config) -> Vec<TopologyMember> {
        let is_replica = self.is_replica();
        let link_is_down = self.text("master_link_status") == "down";
        let connected = TopologyMember {
            role: if is_replica { "replica" } else { "primary" },
            status: if is_replica && link_is_down { "not in sync" } else { "ok" },
            lag_seconds: self.text("master_last_io_seconds_ago").parse().ok(),
            behind_bytes: None,
            is_ours: true,
        };
        std::iter::once(connected).chain(self.replicas(config)).collect()
    }

    /// The sections of the health report: those of the seed, and additional ones.
    pub(super) fn sections(&self, config: &Config) -> Map<String, Value> {
        let is_set = |name: &str| self.text(name) == "1";
        let sections = json!({
            "memory": {
                "used_memory_mb": self.number("used_memory") / MIB,
                "used_memory_peak_mb": self.number("used_memory_peak") / MIB,
                "used_memory_rss_mb": self.number("used_memory_rss") / MIB,
                "mem_fragmentation_ratio": self.number("mem_fragmentation_ratio"),
                "maxmemory_mb": self.number("maxmemory") / MIB,
                "maxmemory_policy": self.text("maxmemory_policy"),
                "evicted_keys": self.count("evicted_keys"),
            },
            "clients": {
                "connected_clients": self.count("connected_clients"),
                "blocked_clients": self.count("blocked_clients"),
                "rejected_connections": self.count("rejected_connections"),
            },
            "persistence": {
                "rdb_last_save_time": self.count("rdb_last_save_time"),
                "rdb_last_bgsave_status": self.text("rdb_last_bgsave_status"),
                "aof_enabled": is_set("aof_enabled"),
                "aof_last_write_status": self.text("aof_last_write_status"),
                "loading": is_set("loading"),
            },
            "replication": {
                "role": self.text("role"),
                "connected_slaves": self.count("connected_slaves"),
            },
            "topology": { "mode": self.text("redis_mode"), "members": self.members(config) },
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

/// The number after `name=` in a line such as `keys=1,expires=0`.
fn line_field(line: &str, name: &str) -> Option<u64> {
    let mut fields = line.split(',').filter_map(|field| field.split_once('='));
    fields.find(|(field, _)| *field == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::healthy("role:master\nmaxmemory:0\nmaxmemory_policy:allkeys-lru\nused_memory:9", "")]
    #[case::nearly_full(
        "maxmemory:100\nmaxmemory_policy:noeviction\nused_memory:91",
        "91 % of its maxmemory"
    )]
    #[case::full("maxmemory:100\nmaxmemory_policy:noeviction\nused_memory:101", "out of memory")]
    #[case::evicting("maxmemory:100\nmaxmemory_policy:volatile-ttl\nused_memory:1", "drops jobs")]
    #[case::snapshot("rdb_last_bgsave_status:err", "snapshot could not be saved")]
    #[case::append_only_file("aof_last_write_status:err", "could not be written")]
    #[case::loading("loading:1", "loading its data")]
    #[case::replica("role:slave\nmaster_link_status:up", "is a replica")]
    #[case::disconnected_replica("role:slave\nmaster_link_status:down", "lost its primary")]
    #[case::replicas("role:master\nslave0:ip=a,port=1,state=online,offset=5,lag=1", "")]
    #[case::lagging_replica(
        "role:master\nslave0:ip=a,port=1,state=online,offset=5,lag=11",
        "replica 0 is lagging"
    )]
    #[case::joining_replica(
        "role:master\nslave0:ip=a,port=1,state=send_bulk,offset=0,lag=0",
        "not in sync"
    )]
    fn each_problem_is_reported(#[case] text: &str, #[case] expected: &str) {
        let config = Config {
            deadline: Duration::from_secs(1),
            memory_warning: 0.9,
            max_replication_lag: Duration::from_secs(10),
        };
        let problems = Info::parse(text).problems(&config).join("; ");
        assert!(
            problems.contains(expected) && problems.is_empty() == expected.is_empty(),
            "{problems}"
        );
    }
}
