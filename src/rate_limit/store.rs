//! Counts in Redis: one request, one round trip, whatever the number of policies.
//!
//! In a cluster one script reaches what is counted of one caller only: its key, or its address. Then each is charged,
//! all at once, and what was charged of a request that is refused is given back. So nobody is ever let in above a
//! limit, and requests that come at the same moment may refuse one another where one of them would have fitted.
//!
//! * `rl:key:{api_key_hash}`, `rl:ip:{ip}`: the seed's, a plain number; expires with its window.
//! * `rl:{policy}:…`: what other policies count, see [`super::policy::Policy::key`]; expires when it no longer
//!   matters.

use std::time::Duration;

use fred::types::{Key, Value};
use futures_util::future::try_join_all;

use super::Charge;
use crate::{
    error::{Error, Result},
    store::{Database, Keyspace, Partition, Redis, Script},
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
    let groups = by_place(redis, charges);
    let answer = run_all(&groups, "charge", charges.len()).await?;
    if !answer.is_admitted && groups.len() > 1 {
        give_back(&groups, &answer).await?;
    }
    Ok(answer)
}

/// Says how `charges` would fare.
///
/// # Errors
///
/// [`Error::RedisUnavailable`].
pub(super) async fn peek(redis: &Redis, charges: &[Charge<'_>]) -> Result<Answer> {
    run_all(&by_place(redis, charges), "peek", charges.len()).await
}

/// Charges that one script reaches, each with its place among all.
type Group<'a> = (Keyspace<'a>, Vec<(usize, &'a Charge<'a>)>);

fn by_place<'a>(redis: &'a Redis, charges: &'a [Charge<'a>]) -> Vec<Group<'a>> {
    let numbered = redis.layout().is_multi_database();
    let mut groups: Vec<Group<'a>> = Vec::new();
    for it in charges.iter().enumerate() {
        let partition = if numbered { Partition::SHARED } else { it.1.partition };
        match groups.iter_mut().find(|group| group.0.partition() == partition) {
            Some(group) => group.1.push(it),
            None => groups.push((redis.keyspace(Database::RateLimits, partition), vec![it])),
        }
    }
    groups
}

async fn run_all(groups: &[Group<'_>], mode: &'static str, n: usize) -> Result<Answer> {
    let answers = try_join_all(groups.iter().map(|group| run(group, mode))).await?;
    let nothing = Count { remaining: 0, reset: Duration::ZERO, retry: Duration::ZERO };
    let mut all = Answer { is_admitted: true, now_ms: 0, counts: vec![nothing; n] };
    for ((_, charges), answer) in groups.iter().zip(answers) {
        all.is_admitted &= answer.is_admitted;
        all.now_ms = all.now_ms.max(answer.now_ms);
        for ((at, _), count) in charges.iter().zip(answer.counts) {
            all.counts[*at] = count;
        }
    }
    Ok(all)
}

/// Undoes what was charged of a request that another group has refused.
async fn give_back(groups: &[Group<'_>], answer: &Answer) -> Result<()> {
    let was_charged =
        |group: &&Group<'_>| group.1.iter().all(|(at, _)| answer.counts[*at].retry.is_zero());
    let charged = groups.iter().filter(was_charged);
    try_join_all(charged.map(|group| run(group, "refund"))).await.map(|_| ())
}

async fn run((keyspace, charges): &Group<'_>, mode: &'static str) -> Result<Answer> {
    let keys = charges.iter().map(|it| Key::from(it.1.key.as_str())).collect();
    let mut args = vec![Value::from_static_str(mode)];
    for (_, charge) in charges {
        args.push(Value::from_static_str(charge.policy.algorithm.as_str()));
        args.push(Value::try_from(charge.limit)?);
        args.push(Value::try_from(millis(charge.policy.window))?);
        args.push(Value::try_from(charge.cost)?);
    }
    let (outcome, now_ms, numbers): (String, u64, Vec<u64>) =
        CHARGE.run(*keyspace, keys, args).await?;
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
