//! Load: wrk for HTTP, redis-benchmark for Redis.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    redis::Redis,
    servers::{JOB, KEY, Server},
};

/// Requests under way at once.
const CONNECTIONS: &str = "64";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    GetJob,
    PostJob,
    /// GET of a job by a caller that is over its limit.
    Refused,
}

pub(crate) struct Load<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p99_ms: f64,
    /// Of the server's own time, for each request.
    pub(crate) cpu_us: f64,
}

/// How much Redis does by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRedis {
    pub(crate) gets_per_second: f64,
    /// The limiter's script with two policies.
    pub(crate) charges_per_second: f64,
}

impl Load<'_> {
    pub(crate) fn run(&self, server: &Server, what: What, job: &str) -> Result<Measured> {
        let path = if what == What::PostJob { "/api/v1/jobs" } else { job };
        let script = self.dir.join("wrk.lua");
        let method = if what == What::PostJob { "POST" } else { "GET" };
        let body = if what == What::PostJob { JOB } else { "" };
        fs::write(
            &script,
            format!(
                "wrk.method = '{method}'\nwrk.body = '{body}'\n\
                 wrk.headers['Content-Type'] = 'application/json'\n\
                 wrk.headers['Authorization'] = 'Bearer {KEY}'\n"
            ),
        )?;
        let cpu_before = server.process.cpu_seconds();
        let output = Command::new("wrk")
            .args(["--threads", "1", "--connections", CONNECTIONS, "--latency"])
            .args(["--duration", &format!("{}s", self.time.as_secs()), "--script"])
            .arg(&script)
            .arg(format!("http://{}{path}", server.addr))
            .output()
            .context("wrk is not there; scripts/setup wrk installs it")?;
        let cpu = server.process.cpu_seconds() - cpu_before;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        measured(&text, what, cpu).with_context(|| format!("wrk said: {text}"))
    }
}

fn measured(text: &str, what: What, cpu: f64) -> Result<Measured> {
    let word_after = |label: &str| {
        let rest = &text[text.find(label)? + label.len()..];
        rest.split_whitespace().next()
    };
    let per_second: f64 = word_after("Requests/sec:").context("no rate")?.parse()?;
    let n: f64 = text
        .lines()
        .find_map(|it| it.trim().split_once(" requests in "))
        .context("no count")?
        .0
        .parse()?;
    let refused: f64 =
        word_after("Non-2xx or 3xx responses:").map_or(Ok(0.0), str::parse).context("refused")?;
    let is_as_expected = if what == What::Refused { refused > n * 0.99 } else { refused == 0.0 };
    ensure!(is_as_expected, "{refused} of {n} requests were refused");
    let p99_ms = millis(word_after("99%").context("no latency")?)?;
    Ok(Measured { per_second, p99_ms, cpu_us: cpu * 1e6 / n })
}

/// Of `512.00us`, `1.20ms` or `2.1s`.
fn millis(text: &str) -> Result<f64> {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * factor);
        }
    }
    bail!("what time is {text:?}")
}

pub(crate) fn raw_redis(redis: &Redis, is_quick: bool) -> Result<RawRedis> {
    let script = include_str!("../../migrations-lua/rate_limit/charge.lua");
    let sha = redis.run(&["SCRIPT", "LOAD", script])?;
    let policy = ["fixed_window", "1000000000", "3600000", "1"];
    let charge = [&["EVALSHA", &sha, "2", "rl:key:benchmark", "rl:ip:benchmark", "charge"][..]];
    let charge = [charge[0], &policy, &policy].concat();
    redis.run(&["SET", "benchmark", "value"])?;
    Ok(RawRedis {
        gets_per_second: redis_benchmark(redis, is_quick, &["GET", "benchmark"])?,
        charges_per_second: redis_benchmark(redis, is_quick, &charge)?,
    })
}

fn redis_benchmark(redis: &Redis, is_quick: bool, command: &[&str]) -> Result<f64> {
    let n = if is_quick { "50000" } else { "200000" };
    let output = Command::new("redis-benchmark")
        .args(["-p", &redis.addr.port().to_string(), "-c", CONNECTIONS, "-n", n, "--csv"])
        .args(command)
        .output()
        .context("redis-benchmark is not there")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A line of headings, and one of figures in quotes: test, rps, ...
    let rate = text.lines().last().and_then(|it| it.rsplit("\",\"").nth(6)?.parse().ok());
    rate.with_context(|| format!("redis-benchmark said: {text}"))
}
