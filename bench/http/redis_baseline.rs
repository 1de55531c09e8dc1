//! The throughput of Redis alone: redis-benchmark repeats the call that the gateway sent for one request.

use std::{process::Command as Process, time::Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::{
    bench::{Bench, CONNECTIONS, call_count},
    pinned_process::{cpu_seconds_of_all, cpu_seconds_of_children},
    redis_monitor::Command,
    workload::{PLACEHOLDER, Workload},
};

/// redis-benchmark replaces this with a random number of twelve digits.
const RANDOM: &str = "__rand_int__";

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RedisBaseline {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// CPU time of Redis per call.
    pub(crate) redis_cpu_us: f64,
    /// Redis commands per call, including those in the script.
    pub(crate) commands: f64,
    /// CPU usage of other programs, including the idle servers, as a fraction of a core.
    pub(crate) background_share: f64,
}

/// `call` is the command that the gateway sent for one request of `workload` on the job `id`.
pub(crate) fn measure(
    bench: &Bench,
    workload: Workload,
    (call, id): (&Command, &str),
) -> Result<RedisBaseline> {
    let calls_to_send = if workload == Workload::PostBatch {
        bench.plan.baseline_requests / 10
    } else {
        bench.plan.baseline_requests
    };
    let cpu =
        || [bench.redis.process.cpu_seconds(), cpu_seconds_of_children(), cpu_seconds_of_all()];
    let (calls, before, started) = (call_count(&bench.redis, None)?, cpu(), Instant::now());
    let output = Process::new("redis-benchmark")
        .args(["-p", &bench.redis.addr.port().to_string(), "-c", &CONNECTIONS.to_string()])
        .args(["-n", &calls_to_send.to_string(), "-r", "2000000000", "--csv"])
        .args(["--dbnum", &call.database])
        .args(call.words.iter().map(|word| randomize(word, workload, id)))
        .output()
        .context("could not start redis-benchmark")?;
    let (after, seconds) = (cpu(), started.elapsed().as_secs_f64());
    let cpu_seconds = |index: usize| after[index] - before[index];
    let calls = call_count(&bench.redis, None)? - calls;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success() && !error.contains("rror"),
        "redis-benchmark failed: {text}{error}"
    );
    // A header line and a line of quoted values: command, rps, then avg, min, p50, p95, p99 and max latency.
    let value = |from_end: usize| -> Option<f64> {
        text.lines().last()?.trim_end_matches('"').rsplit("\",\"").nth(from_end)?.parse().ok()
    };
    let unexpected = || format!("unexpected output of redis-benchmark: {text}");
    Ok(RedisBaseline {
        per_second: value(6).with_context(unexpected)?,
        p50_ms: value(3).with_context(unexpected)?,
        p99_ms: value(1).with_context(unexpected)?,
        redis_cpu_us: cpu_seconds(0) * 1e6 / calls_to_send as f64,
        commands: calls / calls_to_send as f64,
        background_share: ((cpu_seconds(2) - cpu_seconds(0) - cpu_seconds(1)) / seconds).max(0.0),
    })
}

/// Makes job ids and report messages random, so that every call creates a new job or records a new report.
fn randomize(word: &str, workload: Workload, id: &str) -> String {
    if workload == Workload::PostJob {
        let random_id = format!("{}{RANDOM}", &id[..id.len() - RANDOM.len()]);
        return word.replace(id, &random_id);
    }
    word.replace(PLACEHOLDER, RANDOM)
}
