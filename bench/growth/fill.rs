//! Many jobs, quickly: the service creates one, and a script copies it, with all its keys.

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::Bench,
    jobs::{n_jobs, owned},
    stage::Stage,
    workload::N_FILES,
};

/// So many at once that Redis is not away for longer than a ping of the service may take.
const AT_ONCE: usize = 2000;

/// Names of the one job's keys, in each of the two databases that have some.
const KEYS: &str = "
    local all = {}
    for _, db in ipairs({ 1, 2 }) do
        redis.call('SELECT', db)
        for _, key in ipairs(redis.call('KEYS', '*' .. ARGV[1] .. '*')) do all[#all + 1] = db .. ' ' .. key end
    end
    return table.concat(all, '\\n')";
/// KEYS: the owner's set of jobs. ARGV: the job, number of the first copy, how many, then what KEYS above returned. Each copy
/// is a millisecond older than the one before.
const COPY: &str = "
    local template, first, n = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
    local names = {}
    for db, key in string.gmatch(ARGV[4], '(%d) ([^\\n]+)') do
        local at, last = string.find(key, template, 1, true)
        names[#names + 1] = { db, key, string.sub(key, 1, at - 1), string.sub(key, last + 1) }
    end
    redis.call('SELECT', 1)
    local by_time, db = KEYS[1] .. ':by_time', '1'
    local created = tonumber(redis.call('ZSCORE', by_time, template))
    for i = first, first + n - 1 do
        local id = string.format('%08x-0000-4000-8000-%012x', i * 2654435761 % 4294967296, i)
        for _, it in ipairs(names) do
            if it[1] ~= db then db = it[1] redis.call('SELECT', db) end
            redis.call('COPY', it[2], it[3] .. id .. it[4])
        end
        if db ~= '1' then db = '1' redis.call('SELECT', db) end
        redis.call('HSET', 'job:' .. id, 'job_id', id)
        redis.call('SADD', KEYS[1], id)
        redis.call('ZADD', by_time, created - i, id)
    end
    return n";

/// To a Redis without jobs.
pub(crate) async fn fill(stage: &Stage<'_>, n: usize) -> Result<()> {
    let bench = stage.bench;
    let job = stage.create(N_FILES, 1).await?.pop().context("no job was created")?;
    let before = n_keys(bench)?;
    let keys = bench.redis.run(&["EVAL", KEYS, "0", &job.id])?;
    let n_each = keys.lines().count();
    // Record, status, files, session, stream; and a percent a file.
    ensure!(n_each == 5 + N_FILES, "a job has {n_each} keys: {keys}");
    for first in (1..n).step_by(AT_ONCE) {
        let count = AT_ONCE.min(n - first);
        let numbers = [first.to_string(), count.to_string()];
        let copied = bench.redis.run(&[
            "EVAL",
            COPY,
            "1",
            &owned(),
            &job.id,
            &numbers[0],
            &numbers[1],
            &keys,
        ])?;
        ensure!(copied.trim() == format!(":{count}"), "Redis says {copied}");
    }
    ensure!(n_jobs(bench)? == n, "{} jobs instead of {n}", n_jobs(bench)?);
    let grown = n_keys(bench)? - before;
    ensure!(grown == n_each * (n - 1), "{grown} new keys of {} jobs", n - 1);
    Ok(())
}

/// Of the two databases.
fn n_keys(bench: &Bench) -> Result<usize> {
    let script = "local n = 0
        for _, db in ipairs({ 1, 2 }) do redis.call('SELECT', db) n = n + redis.call('DBSIZE') end
        return n";
    let said = bench.redis.run(&["EVAL", script, "0"])?;
    said.trim().trim_start_matches(':').parse().with_context(|| format!("Redis says {said}"))
}
