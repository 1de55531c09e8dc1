//! Keys of many kinds, quickly: scripts that loop, sent by redis-cli.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

/// What a cleanup has to do.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Percents, and counters. Of what belongs to old jobs any part may be adopted first.
    pub(crate) adopted: [u64; 2],
    pub(crate) removed: u64,
    pub(crate) pruned: u64,
}

/// Jobs of years ago, without a TTL: eight keys each, in two databases, and a set for each hundred.
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
/// Jobs of today, whose percents have lost their TTL.
const LIVE_JOBS: &str = "local id = string.format('22222222-0000-4000-8000-%012d', i) \
    redis.call('HSET', 'job:' .. id, 'job_id', id, 'status', 'processing', 'total_files', 4, \
        'created_at', '2999-01-01T00:00:00.5', 'updated_at', '2999-01-02T00:00:00.5') \
    redis.call('EXPIRE', 'job:' .. id, 86400) \
    redis.call('SELECT', 2) \
    for f = 0, 3 do redis.call('SET', 'progress:' .. id .. ':file_00' .. f, 40) end \
    redis.call('SELECT', 1)";
/// Percents of jobs that are gone.
const ORPHANS: &str = "redis.call('SET', string.format('progress:11111111-0000-4000-8000-%012d:file_000', i), 1, 'EX', 9999)";
const COUNTERS: &str = "redis.call('SET', 'metric:m' .. i .. ':count', i)";
const MODELS: &str = "redis.call('SET', 'cache:model:' .. i, i, 'EX', 9999)";
const FOREIGN: &str = "redis.call('SET', 'celery-task-meta-' .. i, i)";

/// Fills all databases with about a thousand times `thousands` keys.
pub(crate) fn fill(socket: &Path, thousands: usize) -> Result<Expected> {
    let share = |of_thousand: usize| thousands * of_thousand;
    let (old, live, orphans, counters) = (share(20), share(50), share(300), share(200));
    for (database, body, n) in [
        (1, OLD_JOBS, old),
        (1, LIVE_JOBS, live),
        (2, ORPHANS, orphans),
        (4, COUNTERS, counters),
        (4, MODELS, share(20)),
        (0, FOREIGN, share(70)),
    ] {
        loop_over(socket, database, body, n)?;
    }
    let [old, live, orphans, counters] = [old, live, orphans, counters].map(|it| it as u64);
    let n_sets = old.min(200);
    Ok(Expected { adopted: [4 * live, counters], removed: 8 * old + n_sets + orphans, pruned: old })
}

fn loop_over(socket: &Path, database: u8, body: &str, n: usize) -> Result<()> {
    let script = format!("for i = 1, ARGV[1] do {body} end");
    let said =
        redis_cli(socket, &["-n", &database.to_string(), "EVAL", &script, "0", &n.to_string()])?;
    ensure!(!said.contains("ERR"), "{said}");
    Ok(())
}

/// From now on counts what keeps Redis from answering others for longer than 3 ms.
pub(crate) fn watch_for_slow_commands(socket: &Path) -> Result<()> {
    redis_cli(socket, &["CONFIG", "SET", "slowlog-log-slower-than", "3000"])?;
    redis_cli(socket, &["CONFIG", "SET", "slowlog-max-len", "10000"])?;
    redis_cli(socket, &["SLOWLOG", "RESET"]).map(|_| ())
}

pub(crate) fn n_slow_commands(socket: &Path) -> Result<String> {
    redis_cli(socket, &["SLOWLOG", "LEN"]).map(|it| it.trim().to_owned())
}

pub(crate) fn n_keys(socket: &Path) -> Result<u64> {
    let mut sum = 0;
    for database in 0..5 {
        let said = redis_cli(socket, &["-n", &database.to_string(), "DBSIZE"])?;
        sum += said.trim().parse::<u64>().context(said)?;
    }
    Ok(sum)
}

fn redis_cli(socket: &Path, command: &[&str]) -> Result<String> {
    let output = Command::new("redis-cli").arg("-s").arg(socket).args(command).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
