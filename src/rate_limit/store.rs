//! Counts in Redis: one request, one round trip, whatever the number of policies.
//!
//! * `rl:key:{api_key_hash}`, `rl:ip:{ip}`: the seed's, a plain number; expires with its window.
//! * `rl:{policy}:…`: what other policies count, see [`super::policy::Policy::key`]; expires when it no longer
//!   matters.

use std::time::Duration;

use fred::types::{Key, Value};

use super::Charge;
use crate::{
    error::{Error, Result},
    redis::{Database, Redis, Script},
};

// Not repeatable: it would charge twice, and a mark of each request would cost more than the request.
static CHARGE: Script = Script::new(include_str!("../../migrations-lua/rate_limit/charge.lua"));

/// What Redis said of a request.
pub(super) struct Answer {
    pub(super) is_admitted: bool,
    /// Redis' clock, in Unix milliseconds.
    pub(super) now_ms: u64,
    /// For each policy, in their order.
    pub(super) counts: Vec<Count>,
}

/// How one policy stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) remaining: u64,
    /// Until the whole limit is back.
    pub(super) reset: Duration,
    /// Until this request would be admitted by this policy; zero if it is.
    pub(super) retry: Duration,
}

/// Charges all of `charges`, or none if one of them does not fit.
///
/// # Errors
///
/// [`Error::RedisUnavailable`]; it may have been charged all the same.
pub(super) async fn charge(redis: &Redis, charges: &[Charge<'_>]) -> Result<Answer> {
    run(redis, "charge", charges).await
}

/// Says how `charges` would fare.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn peek(redis: &Redis, charges: &[Charge<'_>]) -> Result<Answer> {
    run(redis, "peek", charges).await
}

async fn run(redis: &Redis, mode: &'static str, charges: &[Charge<'_>]) -> Result<Answer> {
    let keys = charges.iter().map(|it| Key::from(it.key.as_str())).collect();
    let mut args = vec![Value::from_static_str(mode)];
    for charge in charges {
        args.push(Value::from_static_str(charge.policy.algorithm.as_str()));
        args.push(Value::try_from(charge.limit)?);
        args.push(Value::try_from(millis(charge.policy.window))?);
        args.push(Value::try_from(charge.cost)?);
    }
    let server = redis.database(Database::RateLimits);
    let (outcome, now_ms, numbers): (String, u64, Vec<u64>) =
        CHARGE.run(server, keys, args).await?;
    if numbers.len() != 3 * charges.len() {
        let reason = format!("{} numbers for {} policies", numbers.len(), charges.len());
        return Err(Error::Corrupt { what: "answer of a script", reason });
    }
    let counts = numbers.chunks_exact(3).map(|it| Count {
        remaining: it[0],
        reset: Duration::from_millis(it[1]),
        retry: Duration::from_millis(it[2]),
    });
    Ok(Answer { is_admitted: outcome == "admitted", now_ms, counts: counts.collect() })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
