//! The steps of a cleanup in Redis: one function, one round trip, each bounded and done whole or not at all.
//!
//! * `i2m:cleanup`: the last cleanup's report, JSON; expires a month after its last change.

use fred::{
    clients::Client,
    interfaces::{ClientLike as _, KeysInterface as _},
    types::{CustomCommand, Expiration, Key, Value},
};
use uuid::Uuid;

use super::{
    Policy, lock,
    report::{Report, State},
};
use crate::{
    error::{Error, Result},
    ids::JobId,
    redis::{CLEANUP_REPORT, Database, Family, Place, Redis, Script, lock_key},
};

// What is gone already a repeated call does not count again, so a report may fall short by a step; it never exceeds.
static JUDGE: Script = Script::new(concat!(
    include_str!("../../migrations-lua/shared/parse_timestamp.lua"),
    include_str!("../../migrations-lua/cleanup/apply_rules.lua")
))
.repeatable();
static PRUNE: Script =
    Script::new(include_str!("../../migrations-lua/cleanup/prune.lua")).repeatable();
static REMOVE_JOB: Script =
    Script::about_job(include_str!("../../migrations-lua/cleanup/remove_job.lua")).repeatable();

/// A part of a database's keys. A key that is no text is `None`.
pub(super) struct Page {
    pub(super) next: String,
    pub(super) keys: Vec<Option<String>>,
}

pub(super) async fn scan(server: Place<'_>, cursor: String, count: usize) -> Result<Page> {
    let args = &[cursor, "COUNT".to_owned(), count.to_string()];
    let scan = |client: Client| async move {
        let command = CustomCommand::new_static("SCAN", None, false);
        client.custom::<Value, _>(command, args.to_vec()).await
    };
    let answer = server.read(scan).await?;
    let mut parts = answer.into_array().into_iter();
    let next = parts.next().and_then(|it| it.as_string());
    let keys = parts.next().unwrap_or(Value::Null).into_array();
    Ok(Page {
        next: next.ok_or_else(|| corrupt("SCAN gave no cursor"))?,
        keys: keys.iter().map(|it| it.as_str().map(|it| it.to_string())).collect(),
    })
}

/// What became of a family's keys.
pub(super) struct Count {
    pub(super) family: String,
    pub(super) what: String,
    pub(super) n: u64,
}

/// A job that is old, as it was then.
pub(super) struct OldJob {
    pub(super) id: JobId,
    updated_at: String,
    created_at: String,
}

/// Judges keys of one place, by their names and the rules of their families, and acts on them. Jobs that are old are
/// returned, not removed.
pub(super) async fn judge(
    redis: &Redis,
    place: Place<'_>,
    policy: &Policy,
    families: Vec<(&'static Family, Vec<String>)>,
    dry_run: bool,
) -> Result<(Vec<Count>, Vec<OldJob>)> {
    let mut args = head(redis, place.database(), dry_run);
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
    let names = keys.iter().map(|it| Key::from(it.as_str())).collect();
    let answer: Value = JUDGE.run(place, names, args).await?;
    let mut parts = answer.into_array().into_iter().skip(1);
    let counts: Vec<String> = parts.next().unwrap_or(Value::Null).convert()?;
    let old: Vec<String> = parts.next().unwrap_or(Value::Null).convert()?;
    let old_jobs = old.chunks_exact(3).filter_map(|it| {
        let key = keys.get(it[0].parse::<usize>().ok()?.checked_sub(1)?)?;
        let id = key.split_once(':')?.1.parse().ok()?;
        Some(OldJob { id, updated_at: it[1].clone(), created_at: it[2].clone() })
    });
    let counted = counts.chunks_exact(3).map(|it| Count {
        family: it[0].clone(),
        what: it[1].clone(),
        n: it[2].parse().unwrap_or(0),
    });
    Ok((counted.collect(), old_jobs.collect()))
}

/// Removes an old job whole, unless somebody wrote to it since it was judged.
pub(super) async fn remove_job(
    redis: &Redis,
    policy: &Policy,
    job: &OldJob,
    dry_run: bool,
) -> Result<Vec<(u8, Count)>> {
    let args = vec![
        mode(dry_run),
        Value::from(job.updated_at.as_str()),
        Value::from(job.created_at.as_str()),
    ];
    let answer: Value = REMOVE_JOB.run_on_job(redis, job.id, policy.lifetimes.jobs, args).await?;
    let counts: Vec<String> =
        answer.into_array().into_iter().nth(1).map_or(Ok(Vec::new()), Value::convert)?;
    let counted = counts.chunks_exact(4).map(|it| {
        let n = it[3].parse().unwrap_or(0);
        let database = it[1].parse().unwrap_or(0);
        (database, Count { family: it[0].clone(), what: it[2].clone(), n })
    });
    Ok(counted.collect())
}

/// What came of a piece of a collection.
pub(super) struct Pruned {
    pub(super) next: String,
    pub(super) n_members: u64,
    pub(super) n_keys: u64,
}

/// Takes out of a piece of the collection of this name what names something that is gone.
pub(super) async fn prune(
    redis: &Redis,
    place: Place<'_>,
    (family, key): (&Family, &str),
    cursor: &str,
    (count, dry_run): (usize, bool),
) -> Result<Pruned> {
    let names = family.members.map_or("", |it| it.as_str());
    let mut args = head(redis, place.database(), dry_run);
    args.extend([Value::from(names), Value::from(cursor), Value::from(count.to_string())]);
    let (_, next, n_members, n_keys): (String, String, u64, u64) =
        PRUNE.run(place, vec![Key::from(key)], args).await?;
    Ok(Pruned { next, n_members, n_keys })
}

fn head(redis: &Redis, database: Database, dry_run: bool) -> Vec<Value> {
    let number = (database as u8).to_string();
    vec![Value::from_static_str(redis.layout().as_str()), Value::from(number), mode(dry_run)]
}

fn mode(dry_run: bool) -> Value {
    Value::from_static_str(if dry_run { "dry" } else { "real" })
}

pub(super) async fn save(redis: &Redis, report: &Report) -> Result<()> {
    const MONTH_SECS: i64 = 30 * 24 * 3600;
    let json = serde_json::to_string(report).map_err(|error| corrupt(&error.to_string()))?;
    let (place, json) = (redis.shared(Database::Jobs), &json);
    let set = |client: Client| async move {
        let expires = Some(Expiration::EX(MONTH_SECS));
        client.set(place.key(CLEANUP_REPORT), json.as_str(), expires, None, false).await
    };
    place.read(set).await
}

/// The last report, of any process. One that says it runs, and does not hold the lock, was interrupted.
pub(super) async fn load(redis: &Redis) -> Result<Option<Report>> {
    let place = redis.shared(Database::Jobs);
    let read = |client: Client| async move {
        let keys = vec![place.key(CLEANUP_REPORT), place.key(&lock_key(&lock()))];
        client.mget::<Vec<Option<String>>, _>(keys).await
    };
    let found = place.read(read).await?;
    let text = |place: usize| found.get(place).and_then(Option::as_deref);
    let Some(json) = text(0) else { return Ok(None) };
    let mut report: Report =
        serde_json::from_str(json).map_err(|error| corrupt(&error.to_string()))?;
    let holder = text(1).and_then(|it| it.parse::<Uuid>().ok());
    if report.state == State::Running && holder != Some(report.id) {
        report.state = State::Interrupted;
    }
    Ok(Some(report))
}

fn corrupt(reason: &str) -> Error {
    Error::Corrupt { what: "cleanup", reason: reason.to_owned() }
}
