//! What a policy counts, for whom, and in which key.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::settings::{Time, check_between};

/// One limit.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name in keys, headers and logs.
    pub name: String,
    /// Who has a count of their own.
    pub scope: Scope,
    /// The groups of routes that it counts; none are all.
    #[serde(default)]
    pub routes: Vec<RouteGroup>,
    /// What may be spent within a window.
    pub limit: NonZeroU32,
    /// How long a window is.
    #[serde(with = "Time")]
    pub window: Duration,
    /// How windows follow each other.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// What a request spends.
    #[serde(default)]
    pub cost: Cost,
    /// What happens while Redis cannot be asked.
    #[serde(default)]
    pub on_redis_failure: OnRedisFailure,
}

/// Who has a count of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema, JsonSchema)]
#[schema(as = RateLimitScope)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Each key.
    Key,
    /// Each address.
    Ip,
    /// Each key, for each group of routes.
    KeyRoute,
    /// Each address, for each group of routes.
    IpRoute,
}

impl Scope {
    pub(super) fn is_of_keys(self) -> bool {
        matches!(self, Self::Key | Self::KeyRoute)
    }

    pub(super) fn is_of_routes(self) -> bool {
        matches!(self, Self::KeyRoute | Self::IpRoute)
    }
}

/// Routes that are limited together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema, JsonSchema)]
#[schema(as = RouteGroup)]
#[serde(rename_all = "snake_case")]
pub enum RouteGroup {
    /// POST of a job.
    CreateJob,
    /// What only reads.
    Read,
    /// Other changes that clients make: cancel, retry, delete, tickets.
    Write,
    /// What workers say and do: progress, results, states, locks.
    Report,
    /// Event streams.
    Stream,
    /// What operators do.
    Admin,
}

impl RouteGroup {
    pub(super) const ALL: [Self; 6] =
        [Self::CreateJob, Self::Read, Self::Write, Self::Report, Self::Stream, Self::Admin];

    /// The group of a method and a route as the router has it.
    pub(crate) fn of(method: &str, route: &str) -> Self {
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

/// How windows follow each other.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema, JsonSchema,
)]
#[schema(as = RateLimitAlgorithm)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// A window begins with the first request after the last; twice the limit may pass about its end.
    #[default]
    FixedWindow,
    /// No interval of the window's length sees more than the limit.
    SlidingWindow,
    /// The limit may be spent at once, and comes back evenly.
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

/// What a request spends.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema, JsonSchema,
)]
#[schema(as = RateLimitCost)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// One.
    #[default]
    Request,
    /// One for each file of the job that it creates.
    File,
}

/// What happens while Redis cannot be asked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, ToSchema,
)]
#[schema(as = RateLimitOnRedisFailure)]
#[serde(rename_all = "snake_case")]
pub enum OnRedisFailure {
    /// Everybody is let in.
    #[default]
    Open,
    /// Nobody is.
    Closed,
    /// Each process counts its share of the limit by itself.
    Local,
}

impl Policy {
    pub(super) fn check(&self, max_files: usize) -> Result<()> {
        let is_name =
            |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"_-".contains(&it);
        if !(1..=32).contains(&self.name.len()) || !self.name.bytes().all(is_name) {
            bail!("a name has 1 to 32 of a-z, 0-9, _ and -");
        }
        // Other programs count in these two keys.
        for (name, scope) in [("key", Scope::Key), ("ip", Scope::Ip)] {
            if self.name == name && self.scope != scope {
                bail!("only a policy of the scope {name:?} may have this name");
            }
        }
        check_between(
            "window",
            self.window,
            Duration::from_secs(1),
            Duration::from_hours(24 * 31),
        )?;
        if self.cost == Cost::File {
            if self.routes != [RouteGroup::CreateJob] {
                bail!("cost is \"file\", so routes has to be [\"create_job\"]");
            }
            if (self.limit.get() as usize) < max_files {
                bail!("limit is {}: a job of {max_files} files could never pass", self.limit);
            }
        }
        Ok(())
    }

    /// Whether a request to `group` counts. What a worker's key reports is no client's traffic: only a policy that
    /// names that group counts it.
    pub(super) fn counts(&self, group: RouteGroup, is_work: bool) -> bool {
        self.routes.contains(&group) || (self.routes.is_empty() && !is_work)
    }

    /// The key in which `caller` is counted. For fixed windows it is `rl:{policy}:{caller}`, which for the policies
    /// `key` and `ip` is the seed's; other algorithms keep other values, so their keys have their names.
    pub(super) fn key(&self, group: RouteGroup, caller: &str) -> String {
        let algorithm = match self.algorithm {
            Algorithm::FixedWindow => "",
            Algorithm::SlidingWindow => "sliding:",
            Algorithm::Gcra => "gcra:",
        };
        let (group, colon) =
            if self.scope.is_of_routes() { (group.as_str(), ":") } else { ("", "") };
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
        assert_eq!(RouteGroup::of(method, route), group);
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
    fn a_key_is_the_seeds_or_has_all_names(
        #[case] name: &str,
        #[case] scope: Scope,
        #[case] algorithm: Algorithm,
        #[case] key: &str,
    ) {
        assert_eq!(policy(name, scope, algorithm).key(RouteGroup::Read, "c"), key);
    }

    #[test]
    fn work_is_counted_only_where_it_is_named() {
        let mut policy = policy("key", Scope::Key, Algorithm::FixedWindow);
        assert!(
            policy.counts(RouteGroup::Report, false) && !policy.counts(RouteGroup::Report, true)
        );
        policy.routes = vec![RouteGroup::Report];
        assert!(policy.counts(RouteGroup::Report, true) && !policy.counts(RouteGroup::Read, false));
    }

    #[test]
    fn a_policy_that_cannot_work_is_refused() {
        let good = policy("key", Scope::Key, Algorithm::FixedWindow);
        assert!(good.check(25).is_ok());
        let files = Policy {
            cost: Cost::File,
            routes: vec![RouteGroup::CreateJob],
            limit: NonZeroU32::new(25).unwrap(),
            ..good.clone()
        };
        assert!(files.check(25).is_ok() && files.check(26).is_err());
        for bad in [
            Policy { name: String::new(), ..good.clone() },
            Policy { name: "a:b".to_owned(), ..good.clone() },
            Policy { name: "ip".to_owned(), ..good.clone() },
            Policy { window: Duration::from_millis(999), ..good.clone() },
            Policy { routes: Vec::new(), ..files },
        ] {
            assert!(bad.check(25).is_err(), "{bad:?}");
        }
    }
}
