//! Creates many jobs quickly: the gateway creates one job, and a Lua script copies all its keys.

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::Bench,
    fixture::Fixture,
    jobs::{job_count, owner_set_key},
    workload::FILES_PER_JOB,
};

/// Jobs per script call. A call must not block Redis for longer than the ping timeout of the gateway.
const BATCH_SIZE: usize = 2000;

/// Returns the keys of a job in the two databases that contain job data.
const KEYS: &str = "
    local all = {}
    for _, db in ipairs({ 1, 2 }) do
        redis.call('SELECT', db)
        for _, key in ipairs(redis.call('KEYS', '*' .. ARGV[1] .. '*')) do all[#all + 1] = db .. ' ' .. key end
    end
    return table.concat(all, '\\n')";
/// KEYS: the owner's set of jobs. ARGV: the job id, the number of the first copy, the number of copies, the result of
/// the script `KEYS`. Each copy is a millisecond older than the one before.
const COPY: &str = "
    local template, first, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
    local names = {}
    for db, key in string.gmatch(ARGV[4], '(%d) ([^\\n]+)') do
        local at, last = string.find(key, template, 1, true)
        names[#names + 1] = { db, key, string.sub(key, 1, at - 1), string.sub(key, last + 1) }
    end
    redis.call('SELECT', 1)
    local by_time, db = KEYS[1] .. ':by_time', '1'
    local created = tonumber(redis.call('ZSCORE', by_time, template))
    for i = first, first + count - 1 do
        local id = string.format('%08x-0000-4000-8000-%012x', i * 2654435761 % 4294967296, i)
        for _, name in ipairs(names) do
            if name[1] ~= db then db = name[1] redis.call('SELECT', db) end
            redis.call('COPY', name[2], name[3] .. id .. name[4])
        end
        if db ~= '1' then db = '1' redis.call('SELECT', db) end
        redis.call('HSET', 'job:' .. id, 'job_id', id)
        redis.call('SADD', KEYS[1], id)
        redis.call('ZADD', by_time, created - i, id)
    end
    return count";

/// Creates `count` jobs in a Redis without jobs.
pub(crate) async fn fill(fixture: &Fixture<'_>, count: usize) -> Result<()> {
    let bench = fixture.bench;
    let job = fixture.create(FILES_PER_JOB, 1).await?.pop().context("no job was created")?;
    let before = key_count(bench)?;
    let keys = bench.redis.run(&["EVAL", KEYS, "0", &job.id])?;
    let keys_per_job = keys.lines().count();
    // Record, status, files, session and stream, and one percent per file.
    ensure!(keys_per_job == 5 + FILES_PER_JOB, "a job has {keys_per_job} keys: {keys}");
    for first in (1..count).step_by(BATCH_SIZE) {
        let batch = BATCH_SIZE.min(count - first);
        let numbers = [first.to_string(), batch.to_string()];
        let copied = bench.redis.run(&[
            "EVAL",
            COPY,
            "1",
            &owner_set_key(),
            &job.id,
            &numbers[0],
            &numbers[1],
            &keys,
        ])?;
        ensure!(copied.trim() == format!(":{batch}"), "unexpected reply of Redis: {copied}");
    }
    ensure!(job_count(bench)? == count, "{} jobs instead of {count}", job_count(bench)?);
    let copied = key_count(bench)? - before;
    ensure!(copied == keys_per_job * (count - 1), "{copied} new keys for {} jobs", count - 1);
    Ok(())
}

/// Number of keys in the two databases that contain job data.
fn key_count(bench: &Bench) -> Result<usize> {
    let script = "local count = 0
        for _, db in ipairs({ 1, 2 }) do redis.call('SELECT', db) count = count + redis.call('DBSIZE') end
        return count";
    let reply = bench.redis.run(&["EVAL", script, "0"])?;
    let digits = reply.trim().trim_start_matches(':');
    digits.parse().with_context(|| format!("unexpected reply of Redis: {reply}"))
}
