//! The catalogue of all keys in Redis: how each kind is recognised, its types, its lifetime and its cleanup rule.

use super::{database::Database, keys};

/// A kind of key.
#[derive(Debug)]
pub(crate) struct KeyKind {
    pub(crate) name: &'static str,
    pub(crate) database: Database,
    pattern: KeyPattern,
    /// The Redis types that its keys may have, each between bars.
    pub(crate) types: &'static str,
    pub(crate) rule: CleanupRule,
    pub(crate) lifetime: Lifetime,
    /// The target of the members of a collection, if stale members are removed.
    pub(crate) members: Option<MemberKind>,
}

/// The names of a kind. A UUID is the id of a job or of a task.
#[derive(Debug)]
enum KeyPattern {
    Exact(&'static str),
    /// A non-empty text follows.
    Prefix(&'static str),
    /// A non-empty text stands between.
    Surround(&'static str, &'static str),
    Uuid(&'static str, &'static str),
    /// The id of a file follows the last part.
    UuidThenFile(&'static str, &'static str),
    Sha256(&'static str, &'static str),
}

/// How cleanup decides about a key; see `migrations-lua/cleanup/apply_rules.lua`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CleanupRule {
    Job,
    ChildOfJob,
    Standalone,
    Permanent,
}

/// The TTL that cleanup sets on a key without one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifetime {
    /// `jobs.ttl`.
    Jobs,
    /// `shared_metrics.ttl`.
    Metrics,
    /// `jobs.status_cache_ttl`.
    CachedStatus,
    Secs(u64),
}

/// The target of the members of a collection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MemberKind {
    Jobs,
    Tasks,
    Keys,
}

impl CleanupRule {
    /// The name of the rule in the cleanup scripts.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::ChildOfJob => "of_job",
            Self::Standalone => "alone",
            Self::Permanent => "kept",
        }
    }
}

impl MemberKind {
    /// The name of the kind in the cleanup scripts.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Jobs => "job",
            Self::Tasks => "task",
            Self::Keys => "key",
        }
    }
}

/// A string without a special lifetime.
const fn kind(name: &'static str, database: Database, pattern: KeyPattern) -> KeyKind {
    let (types, rule, lifetime) = ("|string|", CleanupRule::Standalone, Lifetime::Jobs);
    KeyKind { name, database, pattern, types, rule, lifetime, members: None }
}

impl KeyKind {
    const fn with_rule(mut self, types: &'static str, rule: CleanupRule) -> Self {
        (self.types, self.rule) = (types, rule);
        self
    }

    const fn with_members(mut self, members: MemberKind) -> Self {
        self.members = Some(members);
        self
    }

    const fn with_ttl(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The kind of the key with this name, or `None` if the service does not own it. Without a database, as in a
    /// cluster, the kinds of all databases are considered.
    pub(crate) fn find(database: Option<Database>, name: &str) -> Option<&'static Self> {
        KEY_KINDS.iter().find(|kind| {
            database.is_none_or(|database| kind.database == database) && kind.pattern.matches(name)
        })
    }

    /// The members of a collection, if the keys that they refer to share its partition in a cluster: those of an owner
    /// do not.
    pub(crate) fn local_members(&self) -> Option<MemberKind> {
        self.members.filter(|_| !matches!(self.pattern, KeyPattern::Sha256(..)))
    }
}

/// If several kinds match, the first is used.
static KEY_KINDS: [KeyKind; 49] = {
    use CleanupRule::{ChildOfJob, Job, Permanent, Standalone};
    use Database as D;
    use KeyPattern::{Exact, Prefix, Sha256, Surround, Uuid, UuidThenFile};
    const DAY: u64 = 24 * 3600;
    [
        kind("sent", D::Queue, Uuid("i2m:sent:", "")),
        kind("cancelled", D::Queue, Uuid("i2m:cancelled:", "")),
        kind("job", D::Jobs, Uuid("job:", "")).with_rule("|hash|", Job),
        kind("job_status", D::Jobs, Uuid("job:", ":status")).with_rule("|string|", ChildOfJob),
        kind("job_files", D::Jobs, Uuid("job:", ":files")).with_rule("|list|", ChildOfJob),
        kind("job_result", D::Jobs, UuidThenFile("job:", ":file:"))
            .with_rule("|string|", ChildOfJob),
        kind("job_states", D::Jobs, Uuid("job:", ":states")).with_rule("|hash|", ChildOfJob),
        kind("job_tasks", D::Jobs, Uuid("job:", ":tasks")).with_rule("|hash|", ChildOfJob),
        kind("session", D::Jobs, Uuid("session:", "")).with_rule("|string|", ChildOfJob),
        kind("user_jobs", D::Jobs, Sha256("user_jobs:", ""))
            .with_rule("|set|", Standalone)
            .with_members(MemberKind::Jobs),
        kind("user_jobs_by_time", D::Jobs, Sha256("user_jobs:", ":by_time"))
            .with_rule("|zset|", Standalone)
            .with_members(MemberKind::Jobs),
        kind("task", D::Jobs, Uuid("i2m:task:", "")),
        kind("active_tasks", D::Jobs, Exact(keys::ACTIVE_TASKS))
            .with_rule("|zset|", Standalone)
            .with_members(MemberKind::Tasks),
        kind("outbox", D::Jobs, Exact(keys::OUTBOX))
            .with_rule("|zset|", Standalone)
            .with_members(MemberKind::Tasks),
        kind("cancelling", D::Jobs, Exact(keys::CANCELLING))
            .with_rule("|zset|", Standalone)
            .with_members(MemberKind::Jobs),
        kind("idempotency", D::Jobs, Prefix("i2m:idempotency:")),
        kind("ticket_secret", D::Jobs, Exact("i2m:ticket_secret"))
            .with_rule("|string|", Permanent)
            .with_ttl(Lifetime::Secs(30 * DAY)),
        kind("api_keys", D::Jobs, Exact(keys::API_KEYS[0]))
            .with_rule("|hash|", Permanent)
            .with_ttl(Lifetime::Secs(366 * DAY)),
        kind("api_keys_version", D::Jobs, Exact(keys::API_KEYS[1]))
            .with_rule("|string|", Permanent)
            .with_ttl(Lifetime::Secs(366 * DAY)),
        kind("api_keys_used", D::Jobs, Exact(keys::API_KEYS[2]))
            .with_rule("|hash|", Permanent)
            .with_ttl(Lifetime::Secs(366 * DAY)),
        kind("schema", D::Jobs, Exact(keys::MIGRATIONS))
            .with_rule("|hash|", Permanent)
            .with_ttl(Lifetime::Secs(keys::MIGRATIONS_TTL_SECS)),
        kind("cleanup", D::Jobs, Exact(keys::CLEANUP_REPORT)),
        // A lock without a TTL was left behind by a holder that set none.
        kind("lock", D::Jobs, Prefix("lock:")).with_ttl(Lifetime::Secs(3600)),
        kind("lock_record", D::Jobs, Prefix("i2m:lock:")).with_rule("|hash|", Standalone),
        kind("webhooks", D::Jobs, Exact(keys::WEBHOOKS)).with_rule("|zset|", Standalone),
        kind("webhook", D::Jobs, UuidThenFile(keys::WEBHOOK_PREFIX, ":"))
            .with_rule("|hash|", ChildOfJob),
        kind("webhook_log", D::Jobs, Prefix(keys::WEBHOOK_PREFIX)).with_rule("|list|", ChildOfJob),
        kind("health", D::Queue, Exact(keys::HEALTH_PROBE)),
        kind("health", D::Jobs, Exact(keys::HEALTH_PROBE)),
        kind("health", D::Progress, Exact(keys::HEALTH_PROBE)),
        kind("health", D::RateLimits, Exact(keys::HEALTH_PROBE)),
        kind("health", D::Cache, Exact(keys::HEALTH_PROBE)),
        kind("progress", D::Progress, UuidThenFile("progress:", ":"))
            .with_rule("|string|", ChildOfJob),
        kind("stream", D::Progress, Uuid("stream:progress:", "")).with_rule("|stream|", ChildOfJob),
        // This limiter and the seed's ignore a counter without a TTL, so it must not get a long one and start to block.
        kind("rate_limit", D::RateLimits, Prefix("rl:"))
            .with_rule("|string|hash|", Standalone)
            .with_ttl(Lifetime::Secs(1)),
        kind("cached_status", D::Cache, Uuid("cache:status:", ""))
            .with_rule("|string|", ChildOfJob)
            .with_ttl(Lifetime::CachedStatus),
        kind("cached_model", D::Cache, Prefix("cache:model:")),
        kind("cache", D::Cache, Prefix("cache:")),
        kind("cache_record", D::Cache, Prefix("i2m:cache:")).with_rule("|hash|", Standalone),
        kind("cache_claim", D::Cache, Prefix("i2m:claim:")).with_ttl(Lifetime::Secs(60)),
        kind("tag_by_end", D::Cache, Prefix("i2m:tag:"))
            .with_rule("|zset|", Standalone)
            .with_members(MemberKind::Keys),
        kind("tag", D::Cache, Prefix("tag:"))
            .with_rule("|set|", Standalone)
            .with_members(MemberKind::Keys),
        kind("counter", D::Cache, Surround("metric:", ":count")).with_ttl(Lifetime::Metrics),
        kind("gauge", D::Cache, Surround("metric:", ":value")).with_ttl(Lifetime::Metrics),
        kind("metric_names", D::Cache, Exact(keys::METRIC_NAMES))
            .with_rule("|zset|", Standalone)
            .with_members(MemberKind::Keys)
            .with_ttl(Lifetime::Metrics),
        kind("metric_batch", D::Cache, Prefix("i2m:metrics:batch:")).with_ttl(Lifetime::Metrics),
        // The seed does not fix a database for these, so clients may have stored them here.
        kind("counter", D::Jobs, Surround("metric:", ":count")).with_ttl(Lifetime::Metrics),
        kind("gauge", D::Jobs, Surround("metric:", ":value")).with_ttl(Lifetime::Metrics),
        kind("lock", D::Cache, Prefix("lock:")).with_ttl(Lifetime::Secs(3600)),
    ]
};

impl KeyPattern {
    fn matches(&self, key: &str) -> bool {
        const UUID_LEN: usize = 36;
        const SHA_LEN: usize = 64;
        let uuid_after = |prefix: &str| {
            let (id, rest) = key.strip_prefix(prefix)?.split_at_checked(UUID_LEN)?;
            // Ids are stored in lower case only.
            let is_canonical = uuid::Uuid::try_parse(id).is_ok()
                && !id.bytes().any(|byte| byte.is_ascii_uppercase());
            is_canonical.then_some(rest)
        };
        match *self {
            Self::Exact(name) => key == name,
            Self::Prefix(prefix) => key.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()),
            Self::Surround(prefix, suffix) => key
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_suffix(suffix))
                .is_some_and(|name| !name.is_empty()),
            Self::Uuid(prefix, suffix) => uuid_after(prefix) == Some(suffix),
            Self::UuidThenFile(prefix, infix) => uuid_after(prefix)
                .and_then(|rest| rest.strip_prefix(infix))
                .is_some_and(|file| !file.is_empty() && !file.contains(':')),
            Self::Sha256(prefix, suffix) => key
                .strip_prefix(prefix)
                .and_then(|rest| rest.split_at_checked(SHA_LEN))
                .is_some_and(|(hash, rest)| {
                    rest == suffix && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ID: &str = "00000000-0000-4000-8000-000000000000";

    #[rstest]
    #[case::record(Database::Jobs, "job:ID", Some("job"))]
    #[case::status(Database::Jobs, "job:ID:status", Some("job_status"))]
    #[case::result(Database::Jobs, "job:ID:file:file_000", Some("job_result"))]
    #[case::no_file(Database::Jobs, "job:ID:file:", None)]
    #[case::more(Database::Jobs, "job:ID:other", None)]
    #[case::no_uuid(Database::Jobs, "job:files", None)]
    #[case::elsewhere(Database::Progress, "job:ID", None)]
    #[case::percent(Database::Progress, "progress:ID:a.png", Some("progress"))]
    #[case::deeper(Database::Progress, "progress:ID:a:b", None)]
    #[case::counter(Database::Cache, "metric:jobs:count", Some("counter"))]
    #[case::unnamed(Database::Cache, "metric::count", None)]
    #[case::celery(Database::Queue, "celery-task-meta-ID", None)]
    #[case::session(Database::Jobs, "session:ID", Some("session"))]
    #[case::foreign_session(Database::Jobs, "session:abc", None)]
    #[case::model_before_cache(Database::Cache, "cache:model:chair", Some("cached_model"))]
    #[case::multibyte(Database::Jobs, "job:ééééééééééééééééééé", None)]
    fn a_key_has_one_kind(
        #[case] database: Database,
        #[case] key: &str,
        #[case] expected: Option<&str>,
    ) {
        let key = key.replace("ID", ID);
        assert_eq!(KeyKind::find(Some(database), &key).map(|kind| kind.name), expected);
    }
}
