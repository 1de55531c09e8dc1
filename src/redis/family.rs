//! The families of keys that stand in Redis, for whoever has to look at all of them: by what they are told apart,
//! what they are, and how long they live.

use super::Database;

/// Keys of one kind.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) database: Database,
    shape: Shape,
    /// The types that a key of it may have, each between bars.
    pub(crate) types: &'static str,
    pub(crate) rule: Rule,
    pub(crate) lifetime: Lifetime,
    /// What the members of a collection name, if they are to be taken out with it.
    pub(crate) members: Option<Members>,
}

/// How the names of a family look. A UUID is a job's id, or a task's.
#[derive(Debug)]
enum Shape {
    Exact(&'static str),
    /// Something must follow.
    Begins(&'static str),
    Around(&'static str, &'static str),
    Uuid(&'static str, &'static str),
    /// What follows the last part is a file's id.
    UuidThenFile(&'static str, &'static str),
    Sha256(&'static str, &'static str),
}

/// What decides over a key; see `migrations-lua/cleanup/apply_rules.lua`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    Job,
    OfJob,
    Alone,
    Kept,
}

/// The TTL that a key without one gets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifetime {
    /// `jobs.ttl`.
    Jobs,
    /// `metrics.ttl`.
    Metrics,
    /// `jobs.status_cache_ttl`.
    CachedStatus,
    Secs(u64),
}

/// What a collection has the names of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Members {
    Jobs,
    Tasks,
    Keys,
}

impl Rule {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::OfJob => "of_job",
            Self::Alone => "alone",
            Self::Kept => "kept",
        }
    }
}

impl Members {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Jobs => "job",
            Self::Tasks => "task",
            Self::Keys => "key",
        }
    }
}

const fn family(name: &'static str, database: Database, shape: Shape) -> Family {
    let (types, rule, lifetime) = ("|string|", Rule::Alone, Lifetime::Jobs);
    Family { name, database, shape, types, rule, lifetime, members: None }
}

impl Family {
    const fn of(mut self, types: &'static str, rule: Rule) -> Self {
        (self.types, self.rule) = (types, rule);
        self
    }

    const fn naming(mut self, members: Members) -> Self {
        self.members = Some(members);
        self
    }

    const fn living(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The family of the key with this name, or none if it is not ours. Without a database, whichever fits: in a
    /// cluster all stand in one.
    pub(crate) fn of_name(database: Option<Database>, name: &str) -> Option<&'static Self> {
        FAMILIES
            .iter()
            .find(|it| database.is_none_or(|of| it.database == of) && it.shape.fits(name))
    }

    /// What the members of a collection name, if that stands beside it where databases are not numbered: what an owner
    /// has does not.
    pub(crate) fn members_beside_it(&self) -> Option<Members> {
        self.members.filter(|_| !matches!(self.shape, Shape::Sha256(..)))
    }
}

/// Of two that fit the first counts.
static FAMILIES: [Family; 49] = {
    use Database as D;
    use Rule::{Alone, Job, Kept, OfJob};
    use Shape::{Around, Begins, Exact, Sha256, Uuid, UuidThenFile};
    const DAY: u64 = 24 * 3600;
    [
        family("sent", D::Queue, Uuid("i2m:sent:", "")),
        family("cancelled", D::Queue, Uuid("i2m:cancelled:", "")),
        family("job", D::Jobs, Uuid("job:", "")).of("|hash|", Job),
        family("job_status", D::Jobs, Uuid("job:", ":status")).of("|string|", OfJob),
        family("job_files", D::Jobs, Uuid("job:", ":files")).of("|list|", OfJob),
        family("job_result", D::Jobs, UuidThenFile("job:", ":file:")).of("|string|", OfJob),
        family("job_states", D::Jobs, Uuid("job:", ":states")).of("|hash|", OfJob),
        family("job_tasks", D::Jobs, Uuid("job:", ":tasks")).of("|hash|", OfJob),
        family("session", D::Jobs, Uuid("session:", "")).of("|string|", OfJob),
        family("user_jobs", D::Jobs, Sha256("user_jobs:", ""))
            .of("|set|", Alone)
            .naming(Members::Jobs),
        family("user_jobs_by_time", D::Jobs, Sha256("user_jobs:", ":by_time"))
            .of("|zset|", Alone)
            .naming(Members::Jobs),
        family("task", D::Jobs, Uuid("i2m:task:", "")),
        family("active_tasks", D::Jobs, Exact(super::ACTIVE_TASKS))
            .of("|zset|", Alone)
            .naming(Members::Tasks),
        family("outbox", D::Jobs, Exact(super::OUTBOX)).of("|zset|", Alone).naming(Members::Tasks),
        family("cancelling", D::Jobs, Exact(super::CANCELLING))
            .of("|zset|", Alone)
            .naming(Members::Jobs),
        family("idempotency", D::Jobs, Begins("i2m:idempotency:")),
        family("ticket_secret", D::Jobs, Exact("i2m:ticket_secret"))
            .of("|string|", Kept)
            .living(Lifetime::Secs(30 * DAY)),
        family("api_keys", D::Jobs, Exact(super::API_KEYS[0]))
            .of("|hash|", Kept)
            .living(Lifetime::Secs(366 * DAY)),
        family("api_keys_version", D::Jobs, Exact(super::API_KEYS[1]))
            .of("|string|", Kept)
            .living(Lifetime::Secs(366 * DAY)),
        family("api_keys_used", D::Jobs, Exact(super::API_KEYS[2]))
            .of("|hash|", Kept)
            .living(Lifetime::Secs(366 * DAY)),
        family("schema", D::Jobs, Exact(super::SCHEMA))
            .of("|hash|", Kept)
            .living(Lifetime::Secs(super::SCHEMA_TTL_SECS)),
        family("cleanup", D::Jobs, Exact(super::CLEANUP_REPORT)),
        // Whoever forgot to say when it ends has had it for long enough.
        family("lock", D::Jobs, Begins("lock:")).living(Lifetime::Secs(3600)),
        family("lock_record", D::Jobs, Begins("i2m:lock:")).of("|hash|", Alone),
        family("webhooks", D::Jobs, Exact(super::WEBHOOKS)).of("|zset|", Alone),
        family("webhook", D::Jobs, UuidThenFile(super::WEBHOOK_PREFIX, ":")).of("|hash|", OfJob),
        family("webhook_log", D::Jobs, Begins(super::WEBHOOK_PREFIX)).of("|list|", OfJob),
        family("health", D::Queue, Exact(super::HEALTH_PROBE)),
        family("health", D::Jobs, Exact(super::HEALTH_PROBE)),
        family("health", D::Progress, Exact(super::HEALTH_PROBE)),
        family("health", D::RateLimits, Exact(super::HEALTH_PROBE)),
        family("health", D::Cache, Exact(super::HEALTH_PROBE)),
        family("progress", D::Progress, UuidThenFile("progress:", ":")).of("|string|", OfJob),
        family("stream", D::Progress, Uuid("stream:progress:", "")).of("|stream|", OfJob),
        // A count without an end counts as none, to us and to the seed's limiter; so it must not begin to block.
        family("rate_limit", D::RateLimits, Begins("rl:"))
            .of("|string|hash|", Alone)
            .living(Lifetime::Secs(1)),
        family("cached_status", D::Cache, Uuid("cache:status:", ""))
            .of("|string|", OfJob)
            .living(Lifetime::CachedStatus),
        family("cached_model", D::Cache, Begins("cache:model:")),
        family("cache", D::Cache, Begins("cache:")),
        family("cache_record", D::Cache, Begins("i2m:cache:")).of("|hash|", Alone),
        family("cache_claim", D::Cache, Begins("i2m:claim:")).living(Lifetime::Secs(60)),
        family("tag_by_end", D::Cache, Begins("i2m:tag:"))
            .of("|zset|", Alone)
            .naming(Members::Keys),
        family("tag", D::Cache, Begins("tag:")).of("|set|", Alone).naming(Members::Keys),
        family("counter", D::Cache, Around("metric:", ":count")).living(Lifetime::Metrics),
        family("gauge", D::Cache, Around("metric:", ":value")).living(Lifetime::Metrics),
        family("metric_names", D::Cache, Exact(super::METRIC_NAMES))
            .of("|zset|", Alone)
            .naming(Members::Keys)
            .living(Lifetime::Metrics),
        family("metric_batch", D::Cache, Begins("i2m:metrics:batch:")).living(Lifetime::Metrics),
        // The seed names no database for these, so its users put them where they liked.
        family("counter", D::Jobs, Around("metric:", ":count")).living(Lifetime::Metrics),
        family("gauge", D::Jobs, Around("metric:", ":value")).living(Lifetime::Metrics),
        family("lock", D::Cache, Begins("lock:")).living(Lifetime::Secs(3600)),
    ]
};

impl Shape {
    fn fits(&self, key: &str) -> bool {
        const UUID_LEN: usize = 36;
        const SHA_LEN: usize = 64;
        let uuid_after = |prefix: &str| {
            let (id, rest) = key.strip_prefix(prefix)?.split_at_checked(UUID_LEN)?;
            // One job has one name, in lower case.
            let is_ours =
                uuid::Uuid::try_parse(id).is_ok() && !id.bytes().any(|it| it.is_ascii_uppercase());
            is_ours.then_some(rest)
        };
        match *self {
            Self::Exact(name) => key == name,
            Self::Begins(prefix) => key.strip_prefix(prefix).is_some_and(|it| !it.is_empty()),
            Self::Around(prefix, suffix) => key
                .strip_prefix(prefix)
                .and_then(|it| it.strip_suffix(suffix))
                .is_some_and(|it| !it.is_empty()),
            Self::Uuid(prefix, suffix) => uuid_after(prefix) == Some(suffix),
            Self::UuidThenFile(prefix, infix) => uuid_after(prefix)
                .and_then(|it| it.strip_prefix(infix))
                .is_some_and(|it| !it.is_empty() && !it.contains(':')),
            Self::Sha256(prefix, suffix) => {
                key.strip_prefix(prefix).and_then(|it| it.split_at_checked(SHA_LEN)).is_some_and(
                    |(hash, rest)| rest == suffix && hash.bytes().all(|it| it.is_ascii_hexdigit()),
                )
            }
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
    #[case::somebody_elses_session(Database::Jobs, "session:abc", None)]
    #[case::model_before_cache(Database::Cache, "cache:model:chair", Some("cached_model"))]
    #[case::multibyte(Database::Jobs, "job:ééééééééééééééééééé", None)]
    fn a_key_has_one_family(
        #[case] database: Database,
        #[case] key: &str,
        #[case] family: Option<&str>,
    ) {
        let key = key.replace("ID", ID);
        assert_eq!(Family::of_name(Some(database), &key).map(|it| it.name), family);
    }
}
