//! The steps of a cleanup in Redis: one function, one round trip. Each step is bounded and atomic.
//!
//! * `i2m:cleanup` string: the report of the last cleanup, JSON; expires a month after its last change

use uuid::Uuid;

use super::{
    Policy, lock,
    report::{Change, CleanupReport, State},
};
use crate::{
    error::{Error, Result},
    ids::JobId,
    store::{
        CLEANUP_REPORT, Database, KeyKind, Keyspace, Redis, Script,
        client::{
            Client, ClientLike as _, CustomCommand, Expiration, Key, KeysInterface as _, Value,
        },
        lock_key,
    },
};

// A repeated call does not count the keys that the first call removed, so a report can be too low by one step, but
// never too high.
static APPLY_RULES: Script =
    Script::with_timestamps(include_str!("../../migrations-lua/cleanup/apply_rules.lua"))
        .idempotent();
static PRUNE_MEMBERS: Script =
    Script::new(include_str!("../../migrations-lua/cleanup/prune.lua")).idempotent();
static REMOVE_JOB: Script =
    Script::job_write(include_str!("../../migrations-lua/cleanup/remove_job.lua")).idempotent();

/// A page of the keys of a database.
pub(super) struct Page {
    pub(super) next: String,
    /// `None` for a key that is not UTF-8.
    pub(super) keys: Vec<Option<String>>,
}

pub(super) async fn scan(server: Keyspace<'_>, cursor: String, count: usize) -> Result<Page> {
    let args = &[cursor, "COUNT".to_owned(), count.to_string()];
    let scan = |client: Client| async move {
        let command = CustomCommand::new_static("SCAN", None, false);
        client.custom::<Value, _>(command, args.to_vec()).await
    };
    let reply = server.call_idempotent(scan).await?;
    let mut parts = reply.into_array().into_iter();
    let next = parts.next().and_then(|cursor| cursor.as_string());
    let keys = parts.next().unwrap_or(Value::Null).into_array();
    Ok(Page {
        next: next.ok_or_else(|| corrupt("SCAN returned no cursor"))?,
        keys: keys.iter().map(|key| key.as_str().map(|key| key.to_string())).collect(),
    })
}

/// Number of keys or members of a family with the same change.
pub(super) struct ChangeCount {
    pub(super) family: String,
    pub(super) change: Change,
    pub(super) count: u64,
}

impl ChangeCount {
    fn parse(family: &str, change: &str, count: &str) -> Result<Self> {
        let unknown = || corrupt(&format!("unknown change {change:?}"));
        Ok(Self {
            family: family.to_owned(),
            change: Change::parse(change).ok_or_else(unknown)?,
            count: count.parse().unwrap_or(0),
        })
    }
}

/// An old job, with its timestamps at the time of the check.
pub(super) struct OldJob {
    pub(super) id: JobId,
    updated_at: String,
    created_at: String,
}

/// Applies the rules of the families to keys of one place. Old jobs are returned, not removed.
pub(super) async fn apply_rules(
    redis: &Redis,
    keyspace: Keyspace<'_>,
    policy: &Policy,
    families: Vec<(&'static KeyKind, Vec<String>)>,
    dry_run: bool,
) -> Result<(Vec<ChangeCount>, Vec<OldJob>)> {
    let mut args = common_args(redis, keyspace.database(), dry_run);
    args.push(Value::from(policy.max_age_secs.to_string()));
    args.push(Value::from(policy.grace_secs.to_string()));
    let mut keys = Vec::new();
    for (family, names) in families {
        args.push(Value::from_static_str(family.name));
        args.push(Value::from_static_str(family.rule.as_str()));
        args.push(Value::from_static_str(family.types));
        args.push(Value::from(policy.ttl_secs(family.lifetime).to_string()));
        args.push(Value::from(names.len().to_string()));
        keys.extend(names);
    }
    let names = keys.iter().map(|key| Key::from(key.as_str())).collect();
    let reply: Value = APPLY_RULES.run(keyspace, names, args).await?;
    let mut parts = reply.into_array().into_iter().skip(1);
    let counts: Vec<String> = parts.next().unwrap_or(Value::Null).convert()?;
    let old: Vec<String> = parts.next().unwrap_or(Value::Null).convert()?;
    let old_jobs = old.chunks_exact(3).filter_map(|job| {
        // Lua counts from 1.
        let key = keys.get(job[0].parse::<usize>().ok()?.checked_sub(1)?)?;
        let id = key.split_once(':')?.1.parse().ok()?;
        Some(OldJob { id, updated_at: job[1].clone(), created_at: job[2].clone() })
    });
    let counts: Result<_> = counts
        .chunks_exact(3)
        .map(|count| ChangeCount::parse(&count[0], &count[1], &count[2]))
        .collect();
    Ok((counts?, old_jobs.collect()))
}

/// Removes an old job with all of its keys, unless the job has changed since the check. Returns counts by database
/// number.
pub(super) async fn remove_job(
    redis: &Redis,
    policy: &Policy,
    job: &OldJob,
    dry_run: bool,
) -> Result<Vec<(u8, ChangeCount)>> {
    let args = vec![
        mode_arg(dry_run),
        Value::from(job.updated_at.as_str()),
        Value::from(job.created_at.as_str()),
    ];
    let reply: Value = REMOVE_JOB.run_for_job(redis, job.id, policy.lifetimes.jobs, args).await?;
    let mut parts = reply.into_array().into_iter();
    let outcome = parts.next().and_then(|word| word.as_string()).unwrap_or_default();
    match outcome.as_str() {
        "modified" => Ok(Vec::new()),
        "removed" => {
            let counts: Vec<String> = parts.next().unwrap_or(Value::Null).convert()?;
            let parse = |count: &[String]| {
                let database = count[1].parse().unwrap_or(0);
                Ok((database, ChangeCount::parse(&count[0], &count[2], &count[3])?))
            };
            counts.chunks_exact(4).map(parse).collect()
        }
        other => Err(corrupt(&format!("unknown outcome {other:?}"))),
    }
}

/// The result of pruning a batch of a collection.
pub(super) struct Pruned {
    /// Cursor of the next batch; `0` after the last batch.
    pub(super) next: String,
    pub(super) member_count: u64,
    /// 1 if the collection no longer exists because its last member was removed, otherwise 0.
    pub(super) key_count: u64,
}

/// Removes the members of a batch of the collection `key` whose job, task or key no longer exists.
pub(super) async fn prune_members(
    redis: &Redis,
    keyspace: Keyspace<'_>,
    (family, key): (&KeyKind, &str),
    cursor: &str,
    (batch, dry_run): (usize, bool),
) -> Result<Pruned> {
    let member_kind = family.members.map_or("", |kind| kind.as_str());
    let mut args = common_args(redis, keyspace.database(), dry_run);
    args.extend([Value::from(member_kind), Value::from(cursor), Value::from(batch.to_string())]);
    let (_, next, member_count, key_count): (String, String, u64, u64) =
        PRUNE_MEMBERS.run(keyspace, vec![Key::from(key)], args).await?;
    Ok(Pruned { next, member_count, key_count })
}

/// The first arguments of the scripts for keys of one place.
fn common_args(redis: &Redis, database: Database, dry_run: bool) -> Vec<Value> {
    let number = (database as u8).to_string();
    vec![Value::from_static_str(redis.layout().as_str()), Value::from(number), mode_arg(dry_run)]
}

fn mode_arg(dry_run: bool) -> Value {
    Value::from_static_str(if dry_run { "dry" } else { "real" })
}

pub(super) async fn save(redis: &Redis, report: &CleanupReport) -> Result<()> {
    const MONTH_SECS: i64 = 30 * 24 * 3600;
    let json = serde_json::to_string(report).map_err(|error| corrupt(&error.to_string()))?;
    let (keyspace, json) = (redis.default_keyspace(Database::Jobs), &json);
    let set = |client: Client| async move {
        let expires = Some(Expiration::EX(MONTH_SECS));
        client.set(keyspace.key(CLEANUP_REPORT), json.as_str(), expires, None, false).await
    };
    keyspace.call_idempotent(set).await
}

/// The report of the last cleanup of any process. A running report whose id is not in the lock is shown as interrupted.
pub(super) async fn load(redis: &Redis) -> Result<Option<CleanupReport>> {
    let keyspace = redis.default_keyspace(Database::Jobs);
    let read = |client: Client| async move {
        let keys = vec![keyspace.key(CLEANUP_REPORT), keyspace.key(&lock_key(&lock()))];
        client.mget::<Vec<Option<String>>, _>(keys).await
    };
    let found = keyspace.call_idempotent(read).await?;
    let text = |index: usize| found.get(index).and_then(Option::as_deref);
    let Some(json) = text(0) else { return Ok(None) };
    let mut report: CleanupReport =
        serde_json::from_str(json).map_err(|error| corrupt(&error.to_string()))?;
    let holder = text(1).and_then(|token| token.parse::<Uuid>().ok());
    if report.state == State::Running && holder != Some(report.id) {
        report.state = State::Interrupted;
    }
    Ok(Some(report))
}

fn corrupt(reason: &str) -> Error {
    Error::CorruptData { what: "cleanup reply or report", reason: reason.to_owned() }
}
