//! Measures one workload on one server: runs wrk and reads CPU times and Redis counters.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    LOAD_CORE,
    pinned_process::{cpu_seconds_of_all, cpu_seconds_of_children},
    redis::Redis,
    servers::{Server, ServerKind},
    workload::{Request, Workload, lua_table},
};

/// The number of connections that the targets refer to.
pub(crate) const CONNECTIONS: usize = 32;
/// The maximal CPU usage of other programs, as a fraction of a core. A measurement above it is repeated.
pub(crate) const MAX_BACKGROUND_SHARE: f64 = 0.15;

/// Durations and sizes of the measurements.
pub(crate) struct Plan {
    /// Duration with [`CONNECTIONS`] connections.
    pub(crate) long: Duration,
    /// Duration with fewer or more connections.
    pub(crate) short: Duration,
    /// Duration for requests that take seconds.
    pub(crate) slow: Duration,
    /// Calls of the Redis baseline.
    pub(crate) baseline_requests: usize,
    /// Total time to wait for other programs and to repeat measurements, for one kind of server.
    pub(crate) max_quiet_wait: Duration,
}

impl Plan {
    pub(crate) fn new(is_quick: bool) -> Self {
        let (long, short, slow) = if is_quick { (2, 1, 6) } else { (6, 3, 15) };
        Self {
            long: Duration::from_secs(long),
            short: Duration::from_secs(short),
            slow: Duration::from_secs(slow),
            baseline_requests: if is_quick { 10_000 } else { 80_000 },
            max_quiet_wait: Duration::from_secs(if is_quick { 0 } else { 90 }),
        }
    }
}

/// The environment of one kind of server: its Redis and a directory for files.
pub(crate) struct Bench {
    pub(crate) kind: ServerKind,
    pub(crate) redis: Redis,
    pub(crate) dir: PathBuf,
    pub(crate) plan: Plan,
    waited: Cell<Duration>,
}

/// The result of one measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    /// CPU time per request, of the server and of Redis.
    pub(crate) cpu_us: f64,
    pub(crate) redis_cpu_us: f64,
    /// Redis commands per request, including those in scripts and the background commands of the server.
    pub(crate) commands: f64,
    /// Size of a response, including its head.
    pub(crate) bytes: f64,
    /// Resident memory of the server after the measurement.
    pub(crate) rss_mib: f64,
    /// CPU usage as fractions of a core: the server, Redis and the load generator together, other programs.
    pub(crate) server_share: f64,
    pub(crate) load_share: f64,
    pub(crate) background_share: f64,
}

/// The output of wrk.lua; times in microseconds.
#[derive(Debug, Deserialize)]
pub(crate) struct WrkResult {
    requests: u64,
    micros: f64,
    bytes: f64,
    failed: u64,
    error_statuses: u64,
    p50: f64,
    p99: f64,
    p999: f64,
}

impl Bench {
    pub(crate) fn new(kind: ServerKind, dir: &Path, is_quick: bool) -> Result<Self> {
        let dir = dir.join(kind.name());
        fs::create_dir(&dir)?;
        let redis = Redis::start(LOAD_CORE, &dir)?;
        Ok(Self { kind, redis, dir, plan: Plan::new(is_quick), waited: Cell::default() })
    }

    /// Waits until other programs are idle, then measures. Repeats a measurement with too much background load, within
    /// the time limit of the plan, and returns the one with the least.
    pub(crate) fn measure(
        &self,
        server: &Server,
        workload: Workload,
        requests: &[Request],
        connection_count: usize,
    ) -> Result<Measurement> {
        self.wait_for_quiet(server);
        let mut best = self.measure_once(server, workload, requests, connection_count)?;
        while best.background_share > MAX_BACKGROUND_SHARE && self.may_wait_for_quiet() {
            eprintln!(
                "      repeated: background load of {:.0} % of a core",
                best.background_share * 100.0
            );
            let started = Instant::now();
            let another = self.measure_once(server, workload, requests, connection_count)?;
            self.waited.set(self.waited.get() + started.elapsed());
            if another.background_share < best.background_share {
                best = another;
            }
        }
        Ok(best)
    }

    fn may_wait_for_quiet(&self) -> bool {
        self.waited.get() < self.plan.max_quiet_wait
    }

    fn wait_for_quiet(&self, server: &Server) {
        const POLL_INTERVAL: Duration = Duration::from_millis(200);
        let background_seconds = || {
            let own = server.process.cpu_seconds() + self.redis.process.cpu_seconds();
            cpu_seconds_of_all() - own
        };
        while self.may_wait_for_quiet() {
            let before = background_seconds();
            sleep(POLL_INTERVAL);
            if background_seconds() - before < MAX_BACKGROUND_SHARE * POLL_INTERVAL.as_secs_f64() {
                return;
            }
            self.waited.set(self.waited.get() + POLL_INTERVAL);
        }
    }

    fn measure_once(
        &self,
        server: &Server,
        workload: Workload,
        requests: &[Request],
        connection_count: usize,
    ) -> Result<Measurement> {
        server.wait_until_idle()?;
        let cpu = || {
            [
                server.process.cpu_seconds(),
                self.redis.process.cpu_seconds(),
                cpu_seconds_of_children(),
                cpu_seconds_of_all(),
            ]
        };
        let entries = call_count(&self.redis, Some("xadd"))?;
        let (calls, before) = (call_count(&self.redis, None)?, cpu());
        let result = self.wrk(
            server,
            requests,
            connection_count,
            self.duration(server, workload, connection_count),
        )?;
        let after = cpu();
        let calls = call_count(&self.redis, None)? - calls;
        let entries = call_count(&self.redis, Some("xadd"))? - entries;
        result.validate(workload, entries)?;
        let (requests, seconds) = (result.requests as f64, result.micros / 1e6);
        let cpu_seconds = |index: usize| after[index] - before[index];
        Ok(Measurement {
            per_second: requests / seconds,
            p50_ms: result.p50 / 1e3,
            p99_ms: result.p99 / 1e3,
            p999_ms: result.p999 / 1e3,
            cpu_us: cpu_seconds(0) * 1e6 / requests,
            redis_cpu_us: cpu_seconds(1) * 1e6 / requests,
            commands: calls / requests,
            bytes: result.bytes / requests,
            rss_mib: server.process.rss_kib() / 1024.0,
            server_share: cpu_seconds(0) / seconds,
            load_share: (cpu_seconds(1) + cpu_seconds(2)) / seconds,
            background_share: ((cpu_seconds(3) - cpu_seconds(0) - cpu_seconds(1) - cpu_seconds(2))
                / seconds)
                .max(0.0),
        })
    }

    fn duration(&self, server: &Server, workload: Workload, connection_count: usize) -> Duration {
        let is_seed = server.kind == ServerKind::FastApi;
        match (workload, connection_count) {
            (Workload::GetProgressAmongMany, CONNECTIONS..) if is_seed => self.plan.slow,
            (Workload::GetProgressAmongMany, _) if is_seed => self.plan.long,
            (Workload::PostBatch, _) | (_, CONNECTIONS) => self.plan.long,
            _ => self.plan.short,
        }
    }

    /// Runs wrk against the server for `duration`.
    pub(crate) fn wrk(
        &self,
        server: &Server,
        requests: &[Request],
        connection_count: usize,
        duration: Duration,
    ) -> Result<WrkResult> {
        let file = self.dir.join("requests.lua");
        fs::write(&file, lua_table(requests))?;
        let output = Command::new("wrk")
            .args(["--threads", "1", "--connections", &connection_count.to_string()])
            .args(["--duration", &format!("{}s", duration.as_secs()), "--timeout", "60s"])
            .args(["--script", concat!(env!("CARGO_MANIFEST_DIR"), "/bench/http/wrk.lua")])
            .args([&format!("http://{}", server.addr), "--"])
            .arg(&file)
            .output()
            .context("wrk is not installed; run scripts/setup wrk")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
        let result = result.with_context(|| format!("unexpected output of wrk: {text}{error}"))?;
        serde_json::from_str(result).with_context(|| format!("unexpected output of wrk: {text}"))
    }
}

impl WrkResult {
    /// Fails unless all requests succeeded and, with 1 % tolerance, all reports were recorded.
    fn validate(&self, workload: Workload, entries: f64) -> Result<()> {
        let Self { requests, failed, error_statuses, .. } = *self;
        ensure!(requests > 0, "no request was completed");
        ensure!(failed == 0, "{failed} of {requests} requests failed");
        let expected = if workload == Workload::Refused { requests } else { 0 };
        ensure!(
            error_statuses == expected,
            "{error_statuses} of {requests} responses have an error status, expected {expected}"
        );
        let expected = (requests * workload.entries_per_request()) as f64;
        ensure!(entries >= expected * 0.99, "{entries} of {expected} reports were recorded");
        Ok(())
    }
}

/// The number of commands that Redis has run since its start, of all kinds or of one.
pub(crate) fn call_count(redis: &Redis, name: Option<&str>) -> Result<f64> {
    let info = redis.run(&["INFO", "commandstats"])?;
    let calls = |line: &str| {
        let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let matches = name.is_none_or(|name| name == command);
        matches.then(|| rest.split(',').next()?.parse::<f64>().ok())?
    };
    Ok(info.lines().filter_map(calls).sum())
}
