//! A policy: the requests that it counts, its limit, and the Redis key of each count.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::settings::{HumanDuration, validate_range};

/// A rate limit.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The name in Redis keys, headers and logs.
    pub name: String,
    /// The subject that has its own count.
    pub scope: Scope,
    /// The route groups to which the policy applies; empty: all.
    #[serde(default)]
    pub routes: Vec<RouteGroup>,
    /// The cost that is admitted within a window.
    pub limit: NonZeroU32,
    /// The length of a window.
    #[serde(with = "HumanDuration")]
    pub window: Duration,
    /// How requests are counted over time.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The cost of a request.
    #[serde(default)]
    pub cost: Cost,
    /// How requests are decided while Redis is unavailable.
    #[serde(default)]
    pub on_redis_failure: OnRedisFailure,
}

/// The subject that has its own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema, JsonSchema)]
#[schema(as = RateLimitScope)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Each API key.
    Key,
    /// Each client address.
    Ip,
    /// Each API key, separately for each route group.
    KeyRoute,
    /// Each client address, separately for each route group.
    IpRoute,
}

impl Scope {
    pub(super) fn is_per_key(self) -> bool {
        matches!(self, Self::Key | Self::KeyRoute)
    }

    pub(super) fn is_per_route(self) -> bool {
        matches!(self, Self::KeyRoute | Self::IpRoute)
    }
}

/// A group of routes that share a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema, JsonSchema)]
#[schema(as = RouteGroup)]
#[serde(rename_all = "snake_case")]
pub enum RouteGroup {
    /// Create a job.
    CreateJob,
    /// Reads.
    Read,
    /// Other changes by clients: cancel, retry, delete, tickets.
    Write,
    /// Requests of workers: progress, results, statuses, locks.
    Report,
    /// Event streams.
    Stream,
    /// Requests of operators.
    Admin,
}

impl RouteGroup {
    pub(super) const ALL: [Self; 6] =
        [Self::CreateJob, Self::Read, Self::Write, Self::Report, Self::Stream, Self::Admin];

    /// The group of a method and a route pattern of the router.
    pub(crate) fn from_route(method: &str, route: &str) -> Self {
        let is_stream = || route.ends_with("/stream") || route.ends_with("/events");
        match method {
            _ if route.starts_with("/api/v1/admin/") => Self::Admin,
            _ if route.starts_with("/api/v1/locks/") => Self::Report,
            "GET" | "HEAD" if is_stream() => Self::Stream,
            "GET" | "HEAD" => Self::Read,
            "POST" if route == "/api/v1/jobs" => Self::CreateJob,
            "POST" if route.ends_with("/progress") => Self::Report,
            "PUT" | "PATCH" => Self::Report,
            _ => Self::Write,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::CreateJob => "create_job",
            Self::Read => "read",
            Self::Write => "write",
            Self::Report => "report",
            Self::Stream => "stream",
            Self::Admin => "admin",
        }
    }
}

/// How requests are counted over time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema, JsonSchema,
)]
#[schema(as = RateLimitAlgorithm)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// A window starts with the first request after the previous window. Up to twice the limit is admitted around the
    /// end of a window.
    #[default]
    FixedWindow,
    /// No interval as long as the window admits more than the limit.
    SlidingWindow,
    /// The whole limit may be used at once and becomes available again at a constant rate.
    Gcra,
}

impl Algorithm {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FixedWindow => "fixed_window",
            Self::SlidingWindow => "sliding_window",
            Self::Gcra => "gcra",
        }
    }
}

/// The cost of a request.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema, JsonSchema,
)]
#[schema(as = RateLimitCost)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// One.
    #[default]
    Request,
    /// One for each file of the created job.
    File,
}

/// How requests are decided while Redis is unavailable.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, ToSchema,
)]
#[schema(as = RateLimitOnRedisFailure)]
#[serde(rename_all = "snake_case")]
pub enum OnRedisFailure {
    /// All requests are admitted.
    #[default]
    Open,
    /// All requests are rejected with 503.
    Closed,
    /// Each process counts requests against its own share of the limit.
    Local,
}

impl Policy {
    /// Validates the settings of one policy. `max_files` is the largest number of files of a job.
    pub(super) fn validate(&self, max_files: usize) -> Result<()> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if !(1..=32).contains(&self.name.len()) || !self.name.bytes().all(is_allowed) {
            bail!("name must have 1 to 32 of a-z, 0-9, _ and -");
        }
        // Python programs count in the keys of these two policies.
        for (name, scope) in [("key", Scope::Key), ("ip", Scope::Ip)] {
            if self.name == name && self.scope != scope {
                bail!("only a policy with scope {name:?} may have this name");
            }
        }
        validate_range(
            "window",
            self.window,
            Duration::from_secs(1),
            Duration::from_hours(24 * 31),
        )?;
        if self.cost == Cost::File {
            if self.routes != [RouteGroup::CreateJob] {
                bail!("cost is \"file\", so routes must be [\"create_job\"]");
            }
            if (self.limit.get() as usize) < max_files {
                bail!(
                    "limit is {}, so a job of {max_files} files (jobs.max_files) would always be rejected",
                    self.limit
                );
            }
        }
        Ok(())
    }

    /// Whether requests to `group` are counted. Traffic of workers and operators is counted only by policies that name
    /// its group.
    pub(super) fn applies_to(&self, group: RouteGroup, is_worker_traffic: bool) -> bool {
        self.routes.contains(&group) || (self.routes.is_empty() && !is_worker_traffic)
    }

    /// The Redis key of a caller's count. For fixed windows it is `rl:{policy}:{caller}`, which is the seed's key for
    /// the policies `key` and `ip`. The keys of other algorithms contain the algorithm's name, because their values
    /// have another type.
    pub(super) fn key(&self, group: RouteGroup, caller: &str) -> String {
        let algorithm = match self.algorithm {
            Algorithm::FixedWindow => "",
            Algorithm::SlidingWindow => "sliding:",
            Algorithm::Gcra => "gcra:",
        };
        let (group, colon) =
            if self.scope.is_per_route() { (group.as_str(), ":") } else { ("", "") };
        crate::store::rate_limit_key(format_args!(
            "{}:{algorithm}{group}{colon}{caller}",
            self.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("POST", "/api/v1/jobs", RouteGroup::CreateJob)]
    #[case("GET", "/api/v1/jobs", RouteGroup::Read)]
    #[case("HEAD", "/api/v1/jobs/{job_id}", RouteGroup::Read)]
    #[case("DELETE", "/api/v1/jobs/{job_id}", RouteGroup::Write)]
    #[case("POST", "/api/v1/jobs/{job_id}/cancel", RouteGroup::Write)]
    #[case("PATCH", "/api/v1/jobs/{job_id}", RouteGroup::Report)]
    #[case("GET", "/api/v1/jobs/{job_id}/progress", RouteGroup::Read)]
    #[case("POST", "/api/v1/jobs/{job_id}/progress", RouteGroup::Report)]
    #[case("POST", "/api/v1/jobs/{job_id}/files/{file_id}/progress", RouteGroup::Report)]
    #[case("PUT", "/api/v1/jobs/{job_id}/files/{file_id}/result", RouteGroup::Report)]
    #[case("GET", "/api/v1/jobs/{job_id}/progress/stream", RouteGroup::Stream)]
    #[case("GET", "/api/v1/status/tasks/{job_id}/stream", RouteGroup::Stream)]
    #[case("GET", "/api/v1/admin/queues", RouteGroup::Admin)]
    fn every_route_has_a_group(
        #[case] method: &str,
        #[case] route: &str,
        #[case] group: RouteGroup,
    ) {
        assert_eq!(RouteGroup::from_route(method, route), group);
    }

    fn policy(name: &str, scope: Scope, algorithm: Algorithm) -> Policy {
        Policy {
            name: name.to_owned(),
            scope,
            routes: Vec::new(),
            limit: NonZeroU32::MIN,
            window: Duration::from_mins(1),
            algorithm,
            cost: Cost::Request,
            on_redis_failure: OnRedisFailure::Open,
        }
    }

    #[rstest]
    #[case("key", Scope::Key, Algorithm::FixedWindow, "rl:key:c")]
    #[case("ip", Scope::Ip, Algorithm::FixedWindow, "rl:ip:c")]
    #[case("key", Scope::Key, Algorithm::Gcra, "rl:key:gcra:c")]
    #[case("hourly", Scope::Key, Algorithm::SlidingWindow, "rl:hourly:sliding:c")]
    #[case("each", Scope::KeyRoute, Algorithm::FixedWindow, "rl:each:read:c")]
    #[case("each", Scope::IpRoute, Algorithm::Gcra, "rl:each:gcra:read:c")]
    fn the_redis_key_is_the_seeds_or_names_policy_algorithm_and_group(
        #[case] name: &str,
        #[case] scope: Scope,
        #[case] algorithm: Algorithm,
        #[case] key: &str,
    ) {
        assert_eq!(policy(name, scope, algorithm).key(RouteGroup::Read, "c"), key);
    }

    #[test]
    fn worker_traffic_is_counted_only_by_policies_that_name_its_group() {
        let mut policy = policy("key", Scope::Key, Algorithm::FixedWindow);
        assert!(policy.applies_to(RouteGroup::Report, false));
        assert!(!policy.applies_to(RouteGroup::Report, true));
        policy.routes = vec![RouteGroup::Report];
        assert!(policy.applies_to(RouteGroup::Report, true));
        assert!(!policy.applies_to(RouteGroup::Read, false));
    }

    #[test]
    fn an_invalid_policy_is_rejected() {
        let valid = policy("key", Scope::Key, Algorithm::FixedWindow);
        assert!(valid.validate(25).is_ok());
        let files = Policy {
            cost: Cost::File,
            routes: vec![RouteGroup::CreateJob],
            limit: NonZeroU32::new(25).unwrap(),
            ..valid.clone()
        };
        assert!(files.validate(25).is_ok() && files.validate(26).is_err());
        for invalid in [
            Policy { name: String::new(), ..valid.clone() },
            Policy { name: "a:b".to_owned(), ..valid.clone() },
            Policy { name: "ip".to_owned(), ..valid.clone() },
            Policy { window: Duration::from_millis(999), ..valid.clone() },
            Policy { routes: Vec::new(), ..files },
        ] {
            assert!(invalid.validate(25).is_err(), "{invalid:?}");
        }
    }
}
