//! Webhooks in Redis: one function, one round trip.
//!
//! * `i2m:webhooks` sorted set: `job_id:attempt` by when it is due
//! * `i2m:webhook:{job_id:attempt}` hash: url, type, payload, state, tries, `created_at`, noted, the last
//!   call that noted an attempt; `…:log` list of attempts

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use fred::types::{Key, Value};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::delivery::Outcome;
use crate::{
    error::{Error, Result},
    ids::JobId,
    redis::{Database, Partition, Place, Redis, Retention, Script, WEBHOOK_PREFIX, WEBHOOKS},
};

// Not repeatable: those that the lost answer named are leased, and it would lease others. The next tick does no less.
static CLAIM: Script = Script::new(include_str!("../../migrations-lua/webhooks/claim.lua"));
static SETTLE: Script =
    Script::new(include_str!("../../migrations-lua/webhooks/record_attempt.lua")).repeatable();
static READ: Script =
    Script::about_job(include_str!("../../migrations-lua/webhooks/read.lua")).repeatable();

/// Attempts and attempts of jobs that the log keeps.
const MAX_LOG: usize = 50;
/// Places that are looked at together.
const AT_ONCE: usize = 32;

/// A webhook that this process has taken.
#[derive(Debug)]
pub(super) struct Claimed {
    /// `job_id:attempt`.
    pub(super) of: String,
    pub(super) url: String,
    pub(super) payload: String,
    /// Attempts that went before.
    pub(super) tries: u32,
}

pub(super) struct Batch {
    /// Unix seconds by Redis.
    pub(super) now_secs: u64,
    /// With those that are taken.
    pub(super) n_waiting: u64,
    pub(super) claimed: Vec<Claimed>,
}

/// Takes at most `n` webhooks that are due, for the time of `lease`.
pub(super) async fn claim(redis: &Redis, n: usize, lease: Duration) -> Result<Batch> {
    let mut all = Batch { now_secs: 0, n_waiting: 0, claimed: Vec::new() };
    let places: Vec<Place<'_>> = redis.places(Database::Jobs).collect();
    let mut rest = places.as_slice();
    while !rest.is_empty() && all.claimed.len() < n {
        // Those of one round share what is left, so that they do not take more than there is room for.
        let left = n - all.claimed.len();
        let (some, others) = rest.split_at(rest.len().min(AT_ONCE).min(left));
        rest = others;
        let claims = some.iter().map(|place| claim_at(*place, left / some.len(), lease));
        for batch in try_join_all(claims).await? {
            all.now_secs = all.now_secs.max(batch.now_secs);
            all.n_waiting += batch.n_waiting;
            all.claimed.extend(batch.claimed);
        }
    }
    Ok(all)
}

async fn claim_at(place: Place<'_>, n: usize, lease: Duration) -> Result<Batch> {
    let keys = vec![Key::from_static_str(WEBHOOKS), Key::from_static_str(WEBHOOK_PREFIX)];
    let args = vec![Value::from(n.to_string()), Value::from(lease.as_millis().to_string())];
    let (_, now_secs, n_waiting, flat): (String, u64, u64, Vec<String>) =
        CLAIM.run(place, keys, args).await?;
    let claimed = flat.chunks_exact(4).map(|it| Claimed {
        of: it[0].clone(),
        url: it[1].clone(),
        payload: it[2].clone(),
        tries: it[3].parse().unwrap_or(0),
    });
    Ok(Batch { now_secs, n_waiting, claimed: claimed.collect() })
}

/// What has become of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Delivered,
    Pending,
    GivenUp,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Pending => "pending",
            Self::GivenUp => "given_up",
        }
    }
}

/// Notes how an attempt went, what that makes of the webhook, and when the next is due.
pub(super) async fn settle(
    redis: &Redis,
    retention: Retention,
    of: &str,
    (state, delay): (State, Duration),
    (outcome, took): (Outcome, Duration),
) -> Result<()> {
    let record = format!("{WEBHOOK_PREFIX}{of}");
    let log = format!("{record}:log");
    let keys = vec![Key::from_static_str(WEBHOOKS), Key::from(record), Key::from(log)];
    let mut entry = json!({
        "outcome": outcome.to_string(),
        "duration_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    });
    if let Outcome::Answered(status) = outcome {
        entry["status"] = json!(status);
    }
    let args = vec![
        Value::from(of),
        Value::from(state.as_str()),
        Value::from(delay.as_millis().to_string()),
        Value::from(entry.to_string()),
        Value::from(retention.ttl_secs.to_string()),
        Value::from(MAX_LOG.to_string()),
        // By this a repeated call is told from another one.
        Value::from(Uuid::new_v4().to_string()),
    ];
    let job: JobId = of.split(':').next().unwrap_or_default().parse()?;
    let place = redis.at(Database::Jobs, Partition::of_job(job));
    SETTLE.run::<Value>(place, keys, args).await.map(|_| ())
}

/// A webhook as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Webhook {
    webhook_id: String,
    attempt: u64,
    r#type: String,
    url: String,
    /// `pending`, `delivered` or `given_up`.
    state: String,
    tries: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try_at: Option<DateTime<Utc>>,
    log: Vec<LogEntry>,
}

/// An attempt to deliver.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookAttempt)]
struct LogEntry {
    at: Option<DateTime<Utc>>,
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    duration_ms: u64,
}

/// The webhooks of a job.
///
/// # Errors
///
/// [`Error::JobNotFound`].
pub(super) async fn read(redis: &Redis, retention: Retention, job: JobId) -> Result<Vec<Webhook>> {
    let args = vec![Value::from(MAX_LOG.to_string())];
    let answer: Value = READ.run_on_job(redis, job, retention, args).await?;
    let mut parts = answer.into_array().into_iter();
    if parts.next().and_then(|it| it.as_string()).as_deref() != Some("webhooks") {
        return Err(Error::JobNotFound(job));
    }
    let found = parts.next().map(Value::into_array).unwrap_or_default();
    let parsed: Result<Vec<_>, _> = found.into_iter().map(|it| parse(job, it)).collect();
    parsed.map_err(|error| Error::Corrupt { what: "webhook", reason: error.to_string() })
}

fn parse(job: JobId, webhook: Value) -> Result<Webhook, fred::error::Error> {
    let mut parts = webhook.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    let attempt: u64 = next().convert()?;
    let flat: Vec<String> = next().convert()?;
    let log: Vec<String> = next().convert()?;
    let due: Option<f64> = next().convert()?;
    let fields: HashMap<&str, &str> =
        flat.chunks_exact(2).map(|it| (it[0].as_str(), it[1].as_str())).collect();
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
    let next_try_at = due.and_then(|it| DateTime::from_timestamp_millis(it as i64));
    Ok(Webhook {
        webhook_id: format!("msg_{job}_{attempt}"),
        attempt,
        r#type: field("type").to_owned(),
        url: field("url").to_owned(),
        state: field("state").to_owned(),
        tries: field("tries").parse().unwrap_or(0),
        next_try_at,
        log: log.iter().filter_map(|it| LogEntry::parse(it)).collect(),
    })
}

impl LogEntry {
    fn parse(json: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Stored {
            at_ms: f64,
            outcome: String,
            status: Option<u16>,
            duration_ms: u64,
        }
        let stored: Stored = serde_json::from_str(json).ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
        let at = DateTime::from_timestamp_millis(stored.at_ms as i64);
        Some(Self {
            at,
            outcome: stored.outcome,
            status: stored.status,
            duration_ms: stored.duration_ms,
        })
    }
}
