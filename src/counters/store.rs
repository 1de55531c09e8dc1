//! Shared metrics in Redis: one function, one round trip.
//!
//! * `metric:{name}:count`, `metric:{name}:value` strings: the seed's counters and gauges
//! * `i2m:metrics:names` sorted set: their keys by the time of the last change, so that they can be listed without a
//!   scan
//! * `i2m:metrics:batch:{writer}` string: the number of the last applied batch of a process

use uuid::Uuid;

use super::{Config, PendingChanges, SharedMetric};
use crate::{
    error::{Error, Result},
    ids::MetricName,
    store::{
        Database, METRIC_NAMES, Redis, Script,
        client::{Key, Value},
        metric_batch_key, metric_keys,
    },
};

static FLUSH: Script =
    Script::new(include_str!("../../migrations-lua/counters/flush.lua")).idempotent();
static LIST: Script =
    Script::new(include_str!("../../migrations-lua/counters/list.lua")).idempotent();
static READ: Script =
    Script::new(include_str!("../../migrations-lua/counters/read.lua")).idempotent();

/// Writes a batch, which is applied once even if the call is retried. Returns the number of keys that were not changed
/// because they have another type.
pub(super) async fn flush(
    redis: &Redis,
    config: &Config,
    (writer, batch): (Uuid, u64),
    changes: &PendingChanges,
) -> Result<u64> {
    let mut keys = vec![Key::from(metric_batch_key(writer)), Key::from_static_str(METRIC_NAMES)];
    let mut args = vec![
        Value::from(batch.to_string()),
        Value::from(config.ttl.as_secs().to_string()),
        Value::from(config.max_names.to_string()),
    ];
    let counts = changes.counts.iter().map(|(name, by)| {
        let [key, _] = metric_keys(name);
        (key, "count", by.to_string())
    });
    let values = changes.values.iter().map(|(name, value)| {
        let [_, key] = metric_keys(name);
        (key, "value", value.to_string())
    });
    for (key, kind, number) in counts.chain(values) {
        keys.push(Key::from(key));
        args.extend([Value::from(kind), Value::from(number)]);
    }
    let reply: Vec<Value> = FLUSH.run(redis.default_keyspace(Database::Cache), keys, args).await?;
    match reply.first().and_then(Value::as_str).as_deref().unwrap_or_default() {
        "applied" => Ok(reply.get(1).and_then(Value::as_u64).unwrap_or(0)),
        // An earlier call of a retry has applied the batch, and its count of rejected keys is lost.
        "duplicate" => Ok(0),
        other => {
            let reason = format!("unknown outcome {other:?}");
            Err(Error::CorruptData { what: "counters/flush reply", reason })
        }
    }
}

/// The counter and the gauge of a name, each `None` if it is missing or not a number.
pub(super) async fn read(
    redis: &Redis,
    config: &Config,
    name: &MetricName,
) -> Result<SharedMetric> {
    let [count, value] = metric_keys(name).map(Key::from);
    let keys = vec![count, value, Key::from_static_str(METRIC_NAMES)];
    let args = vec![Value::from(config.ttl.as_secs().to_string())];
    let reply: Vec<Option<String>> =
        READ.run(redis.default_keyspace(Database::Cache), keys, args).await?;
    let number = |index: usize| reply.get(index)?.as_deref()?.parse().ok();
    Ok(SharedMetric { count: number(1), value: number(2) })
}

/// Names and numbers, as text.
#[derive(Debug, Default)]
pub(crate) struct ListReply {
    pub(crate) counts: Vec<(String, String)>,
    pub(crate) values: Vec<(String, String)>,
}

/// The most recently changed metrics, at most `max_names`.
pub(super) async fn list(redis: &Redis, config: &Config) -> Result<ListReply> {
    let keys = vec![Key::from_static_str(METRIC_NAMES)];
    let args = vec![Value::from(config.max_names.to_string())];
    let (_, flat): (String, Vec<String>) =
        LIST.run(redis.default_keyspace(Database::Cache), keys, args).await?;
    let mut listed = ListReply::default();
    for pair in flat.chunks_exact(2) {
        let (key, number) = (&pair[0], &pair[1]);
        let name = redis.layout().parse(key).and_then(|(_, name)| name.strip_prefix("metric:"));
        let Some(name) = name.filter(|_| number.parse::<f64>().is_ok()) else { continue };
        if let Some(name) = name.strip_suffix(":count") {
            listed.counts.push((name.to_owned(), number.clone()));
        } else if let Some(name) = name.strip_suffix(":value") {
            listed.values.push((name.to_owned(), number.clone()));
        }
    }
    listed.counts.sort();
    listed.values.sort();
    Ok(listed)
}
