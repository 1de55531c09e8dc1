//! Webhooks in Redis: one function, one round trip.
//!
//! * `i2m:webhooks` sorted set: `job_id:attempt` by the time of the next delivery attempt
//! * `i2m:webhook:{job_id:attempt}` hash: url, type, payload, state, tries, `created_at`, and noted: the id of the call
//!   that recorded the last delivery attempt
//! * `i2m:webhook:{job_id:attempt}:log` list: delivery attempts as JSON

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::delivery::DeliveryOutcome;
use crate::{
    error::{Error, Result},
    ids::JobId,
    store::{
        Database, JobRetention, Keyspace, Partition, Redis, Script, WEBHOOK_PREFIX, WEBHOOKS,
        client::{Key, Value},
    },
};

// Not repeatable: a repeated call would lease other webhooks than the call whose reply was lost. The next tick claims
// them instead.
static CLAIM: Script = Script::new(include_str!("../../migrations-lua/webhooks/claim.lua"));
static RECORD_ATTEMPT: Script =
    Script::new(include_str!("../../migrations-lua/webhooks/record_attempt.lua")).idempotent();
static READ: Script =
    Script::job_write(include_str!("../../migrations-lua/webhooks/read.lua")).idempotent();

/// Maximum number of delivery attempts in a log, and of attempts of a job that are listed.
const MAX_LOG: usize = 50;
/// Keyspaces that are queried concurrently.
const MAX_CONCURRENCY: usize = 32;

/// A webhook that this process has claimed.
#[derive(Debug)]
pub(super) struct Claimed {
    /// `job_id:attempt`.
    pub(super) webhook_id: String,
    pub(super) url: String,
    pub(super) payload: String,
    /// Number of earlier delivery attempts.
    pub(super) tries: u32,
}

pub(super) struct Batch {
    /// Unix time of Redis in seconds.
    pub(super) now_secs: u64,
    /// Number of queued webhooks, including claimed ones.
    pub(super) queued: u64,
    pub(super) claimed: Vec<Claimed>,
}

/// Claims at most `max` due webhooks for the time of `lease`.
pub(super) async fn claim(redis: &Redis, max: usize, lease: Duration) -> Result<Batch> {
    let mut all = Batch { now_secs: 0, queued: 0, claimed: Vec::new() };
    let keyspaces: Vec<Keyspace<'_>> = redis.all_keyspaces(Database::Jobs).collect();
    let mut rest = keyspaces.as_slice();
    while !rest.is_empty() && all.claimed.len() < max {
        // The keyspaces of a round share the remaining number, so that together they do not claim more than `max`.
        let remaining = max - all.claimed.len();
        let (round, later) = rest.split_at(rest.len().min(MAX_CONCURRENCY).min(remaining));
        rest = later;
        let claims =
            round.iter().map(|keyspace| claim_in(*keyspace, remaining / round.len(), lease));
        for batch in try_join_all(claims).await? {
            all.now_secs = all.now_secs.max(batch.now_secs);
            all.queued += batch.queued;
            all.claimed.extend(batch.claimed);
        }
    }
    Ok(all)
}

async fn claim_in(keyspace: Keyspace<'_>, max: usize, lease: Duration) -> Result<Batch> {
    let keys = vec![Key::from_static_str(WEBHOOKS), Key::from_static_str(WEBHOOK_PREFIX)];
    let args = vec![Value::from(max.to_string()), Value::from(lease.as_millis().to_string())];
    let (_, now_secs, queued, fields): (String, u64, u64, Vec<String>) =
        CLAIM.run(keyspace, keys, args).await?;
    let claimed = fields.chunks_exact(4).map(|webhook| Claimed {
        webhook_id: webhook[0].clone(),
        url: webhook[1].clone(),
        payload: webhook[2].clone(),
        tries: webhook[3].parse().unwrap_or(0),
    });
    Ok(Batch { now_secs, queued, claimed: claimed.collect() })
}

/// The state of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Delivered,
    /// Waits for its next delivery attempt.
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

/// Records a delivery attempt, the new state of the webhook, and the time of the next attempt.
pub(super) async fn record_attempt(
    redis: &Redis,
    retention: JobRetention,
    webhook_id: &str,
    (state, delay): (State, Duration),
    (outcome, duration): (DeliveryOutcome, Duration),
) -> Result<()> {
    let record = format!("{WEBHOOK_PREFIX}{webhook_id}");
    let log = format!("{record}:log");
    let keys = vec![Key::from_static_str(WEBHOOKS), Key::from(record), Key::from(log)];
    let mut entry = json!({
        "outcome": outcome.to_string(),
        "duration_ms": u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
    });
    if let DeliveryOutcome::Responded(status) = outcome {
        entry["status"] = json!(status);
    }
    let args = vec![
        Value::from(webhook_id),
        Value::from(state.as_str()),
        Value::from(delay.as_millis().to_string()),
        Value::from(entry.to_string()),
        Value::from(retention.ttl_secs.to_string()),
        Value::from(MAX_LOG.to_string()),
        // The id of this call, by which the script detects that the call is repeated.
        Value::from(Uuid::new_v4().to_string()),
    ];
    let job: JobId = webhook_id.split(':').next().unwrap_or_default().parse()?;
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_job(job));
    RECORD_ATTEMPT.run::<Value>(keyspace, keys, args).await.map(|_| ())
}

/// A webhook, as its owner sees it.
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

/// A delivery attempt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookAttempt)]
struct LogEntry {
    at: Option<DateTime<Utc>>,
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    duration_ms: u64,
}

/// The webhooks of a job, of its last attempt first.
///
/// # Errors
///
/// [`Error::JobNotFound`].
pub(super) async fn read(
    redis: &Redis,
    retention: JobRetention,
    job: JobId,
) -> Result<Vec<Webhook>> {
    let args = vec![Value::from(MAX_LOG.to_string())];
    let reply: Value = READ.run_for_job(redis, job, retention, args).await?;
    let mut parts = reply.into_array().into_iter();
    let outcome = parts.next().and_then(|word| word.as_string()).unwrap_or_default();
    match outcome.as_str() {
        "webhooks" => {
            let webhooks = parts.next().map(Value::into_array).unwrap_or_default();
            let parsed: Result<Vec<_>, _> =
                webhooks.into_iter().map(|webhook| parse_webhook(job, webhook)).collect();
            parsed
                .map_err(|error| Error::CorruptData { what: "webhook", reason: error.to_string() })
        }
        "missing" => Err(Error::JobNotFound(job)),
        other => Err(Error::CorruptData {
            what: "webhooks/read reply",
            reason: format!("unknown outcome {other:?}"),
        }),
    }
}

fn parse_webhook(job: JobId, webhook: Value) -> Result<Webhook, crate::store::client::ClientError> {
    let mut parts = webhook.into_array().into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    let attempt: u64 = next().convert()?;
    let flat: Vec<String> = next().convert()?;
    let log: Vec<String> = next().convert()?;
    let due_ms: Option<f64> = next().convert()?;
    let fields: HashMap<&str, &str> =
        flat.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
    let next_try_at = due_ms.and_then(|ms| DateTime::from_timestamp_millis(ms as i64));
    Ok(Webhook {
        webhook_id: format!("msg_{job}_{attempt}"),
        attempt,
        r#type: field("type").to_owned(),
        url: field("url").to_owned(),
        state: field("state").to_owned(),
        tries: field("tries").parse().unwrap_or(0),
        next_try_at,
        log: log.iter().filter_map(|entry| LogEntry::parse(entry)).collect(),
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
