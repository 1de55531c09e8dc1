//! How much Redis does by itself: what the gateway sent for one request, sent over and over by redis-benchmark.

use std::{process::Command as Program, time::Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::{
    bench::{Bench, CONNECTIONS, n_calls},
    monitor::Command,
    process::{cpu_seconds_of_all, cpu_seconds_of_children},
    workload::{MARK, Workload},
};

/// Replaced by twelve digits, at random out of as many numbers as redis-benchmark can be asked for.
const RANDOM: &str = "__rand_int__";

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Raw {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of Redis, for each call.
    pub(crate) redis_cpu_us: f64,
    /// Of any kind, for each call: those inside of the script, too.
    pub(crate) commands: f64,
    /// Other programs, the idle servers among them, of a core.
    pub(crate) others_share: f64,
}

/// `sent` is what the gateway sent for one request of `workload` about the job `id`.
pub(crate) fn measure(
    bench: &Bench,
    workload: Workload,
    (sent, id): (&Command, &str),
) -> Result<Raw> {
    let n = if workload == Workload::PostBatch { bench.plan.n_raw / 10 } else { bench.plan.n_raw };
    let cpu =
        || [bench.redis.process.cpu_seconds(), cpu_seconds_of_children(), cpu_seconds_of_all()];
    let (calls, before, begin) = (n_calls(&bench.redis, None)?, cpu(), Instant::now());
    let output = Program::new("redis-benchmark")
        .args(["-p", &bench.redis.addr.port().to_string(), "-c", &CONNECTIONS.to_string()])
        .args(["-n", &n.to_string(), "-r", "2000000000", "--csv"])
        .args(["--dbnum", &sent.database])
        .args(sent.words.iter().map(|it| varied(it, workload, id)))
        .output()
        .context("redis-benchmark is not there")?;
    let (after, seconds) = (cpu(), begin.elapsed().as_secs_f64());
    let spent = |i: usize| after[i] - before[i];
    let calls = n_calls(&bench.redis, None)? - calls;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success() && !error.contains("rror"),
        "redis-benchmark said: {text}{error}"
    );
    // A line of headings, and one of figures in quotes: the command, rps, then avg, min, p50, p95, p99, max latency.
    let figure = |from_end: usize| -> Option<f64> {
        text.lines().last()?.trim_end_matches('"').rsplit("\",\"").nth(from_end)?.parse().ok()
    };
    let said = || format!("redis-benchmark said: {text}");
    Ok(Raw {
        per_second: figure(6).with_context(said)?,
        p50_ms: figure(3).with_context(said)?,
        p99_ms: figure(1).with_context(said)?,
        redis_cpu_us: spent(0) * 1e6 / n as f64,
        commands: calls / n as f64,
        others_share: ((spent(2) - spent(0) - spent(1)) / seconds).max(0.0),
    })
}

/// New jobs get names of their own, and reports another text each.
fn varied(word: &str, workload: Workload, id: &str) -> String {
    if workload == Workload::PostJob {
        let new = format!("{}{RANDOM}", &id[..id.len() - RANDOM.len()]);
        return word.replace(id, &new);
    }
    word.replace(MARK, RANDOM)
}
