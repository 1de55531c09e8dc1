//! Rate-limit counts in Redis: one round trip per request, for any number of policies.
//!
//! In a cluster, one script call reaches the counts of one key or one address only. The calls then run concurrently,
//! and if one of them rejects the request, the charges of the others are refunded. A limit is therefore never
//! exceeded, but concurrent requests may cause each other to be rejected although one of them would have fitted.
//!
//! * `rl:key:{api_key_hash}`, `rl:ip:{ip}`: the seed's counts, plain numbers; expire with their windows.
//! * `rl:{policy}:...`: the counts of other policies, see [`super::policy::Policy::key`]; expire once they no longer
//!   affect a decision.

use std::time::Duration;

use futures_util::future::try_join_all;

use super::Charge;
use crate::{
    error::{Error, Result},
    store::{
        Database, Keyspace, Partition, Redis, Script,
        client::{Key, Value},
    },
};

// Not idempotent: a repeated call would charge twice, and a marker per request would cost more than the request.
static CHARGE: Script = Script::new(include_str!("../../migrations-lua/rate_limit/charge.lua"));

/// The reply of `charge.lua`.
pub(super) struct ChargeReply {
    pub(super) is_admitted: bool,
    /// Redis' clock, in Unix milliseconds.
    pub(super) now_ms: u64,
    /// One per charge, in the same order.
    pub(super) counts: Vec<PolicyCount>,
}

/// The count of one policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct PolicyCount {
    pub(super) remaining: u64,
    /// The time until the whole limit is available again.
    pub(super) reset: Duration,
    /// The time until this policy admits the request; zero if it does now.
    pub(super) retry: Duration,
}

/// Charges all of `charges`, or none if one of them does not fit.
///
/// # Errors
///
/// [`Error::RedisUnavailable`]; the request may have been charged nevertheless.
pub(super) async fn charge(redis: &Redis, charges: &[Charge<'_>]) -> Result<ChargeReply> {
    let groups = group_by_keyspace(redis, charges);
    let reply = run_all(&groups, "charge", charges.len()).await?;
    if !reply.is_admitted && groups.len() > 1 {
        refund(&groups, &reply).await?;
    }
    Ok(reply)
}

/// The reply that `charges` would get, without charging them.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn peek(redis: &Redis, charges: &[Charge<'_>]) -> Result<ChargeReply> {
    run_all(&group_by_keyspace(redis, charges), "peek", charges.len()).await
}

/// Charges that one script call can reach, each with its index among all charges.
type Group<'a> = (Keyspace<'a>, Vec<(usize, &'a Charge<'a>)>);

fn group_by_keyspace<'a>(redis: &'a Redis, charges: &'a [Charge<'a>]) -> Vec<Group<'a>> {
    let numbered = redis.layout().is_multi_database();
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (index, charge) in charges.iter().enumerate() {
        let partition = if numbered { Partition::SHARED } else { charge.partition };
        match groups.iter_mut().find(|group| group.0.partition() == partition) {
            Some(group) => group.1.push((index, charge)),
            None => {
                groups
                    .push((redis.keyspace(Database::RateLimits, partition), vec![(index, charge)]));
            }
        }
    }
    groups
}

async fn run_all(
    groups: &[Group<'_>],
    mode: &'static str,
    charge_count: usize,
) -> Result<ChargeReply> {
    let replies = try_join_all(groups.iter().map(|group| run(group, mode))).await?;
    let empty = PolicyCount { remaining: 0, reset: Duration::ZERO, retry: Duration::ZERO };
    let mut all = ChargeReply { is_admitted: true, now_ms: 0, counts: vec![empty; charge_count] };
    for ((_, charges), reply) in groups.iter().zip(replies) {
        all.is_admitted &= reply.is_admitted;
        all.now_ms = all.now_ms.max(reply.now_ms);
        for ((index, _), count) in charges.iter().zip(reply.counts) {
            all.counts[*index] = count;
        }
    }
    Ok(all)
}

/// Refunds the charges of the groups that admitted a request that another group rejected.
async fn refund(groups: &[Group<'_>], reply: &ChargeReply) -> Result<()> {
    let was_charged = |(_, charges): &&Group<'_>| {
        charges.iter().all(|(index, _)| reply.counts[*index].retry.is_zero())
    };
    let charged = groups.iter().filter(was_charged);
    try_join_all(charged.map(|group| run(group, "refund"))).await.map(|_| ())
}

async fn run((keyspace, charges): &Group<'_>, mode: &'static str) -> Result<ChargeReply> {
    let keys = charges.iter().map(|(_, charge)| Key::from(charge.key.as_str())).collect();
    let mut args = vec![Value::from_static_str(mode)];
    for (_, charge) in charges {
        args.push(Value::from_static_str(charge.policy.algorithm.as_str()));
        args.push(Value::try_from(charge.limit)?);
        args.push(Value::try_from(millis(charge.policy.window))?);
        args.push(Value::try_from(charge.cost)?);
    }
    let (outcome, now_ms, numbers): (String, u64, Vec<u64>) =
        CHARGE.run(*keyspace, keys, args).await?;
    let is_admitted = match outcome.as_str() {
        "admitted" => true,
        "refused" => false,
        other => return Err(corrupt_reply(format!("unknown outcome {other:?}"))),
    };
    if numbers.len() != 3 * charges.len() {
        let (got, expected) = (numbers.len(), charges.len());
        return Err(corrupt_reply(format!("{got} numbers for {expected} policies")));
    }
    let counts = numbers.chunks_exact(3).map(|count| PolicyCount {
        remaining: count[0],
        reset: Duration::from_millis(count[1]),
        retry: Duration::from_millis(count[2]),
    });
    Ok(ChargeReply { is_admitted, now_ms, counts: counts.collect() })
}

fn corrupt_reply(reason: String) -> Error {
    Error::CorruptData { what: "rate_limit/charge reply", reason }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
