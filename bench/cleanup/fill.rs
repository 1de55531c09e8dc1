//! Fills Redis with keys of many kinds, using Lua scripts that redis-cli sends.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

/// The changes that a cleanup has to make.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Keys that receive a TTL: progress percents and counters. Not counted are the keys of old jobs, of which a
    /// cleanup may adopt any number before it removes them.
    pub(crate) adopted: [u64; 2],
    pub(crate) removed: u64,
    pub(crate) pruned: u64,
}

/// Old jobs without a TTL: eight keys each in two databases, and 200 owner sets for all of them.
const OLD_JOBS: &str = "local id = string.format('00000000-0000-4000-8000-%012d', i) \
    local owner = string.format('%064d', i % 200) \
    redis.call('HSET', 'job:' .. id, 'job_id', id, 'api_key_hash', owner, 'status', 'processing', \
        'total_files', 4, 'created_at', '2020-01-01T00:00:00.5', 'updated_at', '2020-01-02T00:00:00.5') \
    redis.call('RPUSH', 'job:' .. id .. ':files', '{}', '{}', '{}', '{}') \
    redis.call('SET', 'session:' .. id, owner) \
    redis.call('SADD', 'user_jobs:' .. owner, id) \
    redis.call('SELECT', 2) \
    for f = 0, 3 do redis.call('SET', 'progress:' .. id .. ':file_00' .. f, 40) end \
    redis.call('XADD', 'stream:progress:' .. id, '*', 'file_id', 'file_000', 'progress', 40) \
    redis.call('SELECT', 1)";
/// Live jobs whose percents have lost their TTL.
const LIVE_JOBS: &str = "local id = string.format('22222222-0000-4000-8000-%012d', i) \
    redis.call('HSET', 'job:' .. id, 'job_id', id, 'status', 'processing', 'total_files', 4, \
        'created_at', '2999-01-01T00:00:00.5', 'updated_at', '2999-01-02T00:00:00.5') \
    redis.call('EXPIRE', 'job:' .. id, 86400) \
    redis.call('SELECT', 2) \
    for f = 0, 3 do redis.call('SET', 'progress:' .. id .. ':file_00' .. f, 40) end \
    redis.call('SELECT', 1)";
/// Percents of jobs that do not exist.
const ORPHANS: &str = "redis.call('SET', string.format('progress:11111111-0000-4000-8000-%012d:file_000', i), 1, 'EX', 9999)";
const COUNTERS: &str = "redis.call('SET', 'metric:m' .. i .. ':count', i)";
const MODELS: &str = "redis.call('SET', 'cache:model:' .. i, i, 'EX', 9999)";
const FOREIGN: &str = "redis.call('SET', 'celery-task-meta-' .. i, i)";

/// Fills all databases with about `thousands` × 1000 keys.
pub(crate) fn fill(socket: &Path, thousands: usize) -> Result<Expected> {
    let share = |per_thousand: usize| thousands * per_thousand;
    let (old, live, orphans, counters) = (share(20), share(50), share(300), share(200));
    for (database, body, count) in [
        (1, OLD_JOBS, old),
        (1, LIVE_JOBS, live),
        (2, ORPHANS, orphans),
        (4, COUNTERS, counters),
        (4, MODELS, share(20)),
        (0, FOREIGN, share(70)),
    ] {
        run_loop(socket, database, body, count)?;
    }
    let [old, live, orphans, counters] = [old, live, orphans, counters].map(|count| count as u64);
    let set_count = old.min(200);
    Ok(Expected {
        adopted: [4 * live, counters],
        removed: 8 * old + set_count + orphans,
        pruned: old,
    })
}

/// Runs `body` for each `i` from 1 to `count`.
fn run_loop(socket: &Path, database: u8, body: &str, count: usize) -> Result<()> {
    let script = format!("for i = 1, ARGV[1] do {body} end");
    let reply = redis_cli(
        socket,
        &["-n", &database.to_string(), "EVAL", &script, "0", &count.to_string()],
    )?;
    ensure!(!reply.contains("ERR"), "{reply}");
    Ok(())
}

/// Resets the slow log and makes it record commands that take longer than 3 ms.
pub(crate) fn reset_slow_log(socket: &Path) -> Result<()> {
    redis_cli(socket, &["CONFIG", "SET", "slowlog-log-slower-than", "3000"])?;
    redis_cli(socket, &["CONFIG", "SET", "slowlog-max-len", "10000"])?;
    redis_cli(socket, &["SLOWLOG", "RESET"]).map(|_| ())
}

pub(crate) fn slow_command_count(socket: &Path) -> Result<String> {
    redis_cli(socket, &["SLOWLOG", "LEN"]).map(|reply| reply.trim().to_owned())
}

pub(crate) fn key_count(socket: &Path) -> Result<u64> {
    let mut sum = 0;
    for database in 0..5 {
        let reply = redis_cli(socket, &["-n", &database.to_string(), "DBSIZE"])?;
        sum += reply.trim().parse::<u64>().context(reply)?;
    }
    Ok(sum)
}

fn redis_cli(socket: &Path, command: &[&str]) -> Result<String> {
    let output = Command::new("redis-cli").arg("-s").arg(socket).args(command).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
