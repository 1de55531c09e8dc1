//! The servers under comparison: the gateway with different rate limits, and `FastAPI`.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{SERVER_CORE, pinned_process::PinnedProcess, redis::Redis, workload::KEY};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(crate) enum ServerKind {
    Gateway,
    /// Another build of the gateway, to measure the effect of a change.
    Before,
    FastApi,
}

/// The executable of [`ServerKind::Before`].
pub(crate) static BEFORE_PROGRAM: OnceLock<PathBuf> = OnceLock::new();

impl ServerKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Before => "gateway before",
            Self::FastApi => "FastAPI",
        }
    }
}

/// The state of the rate limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limits {
    Off,
    /// Limits by key and by address that are never reached.
    On,
    /// The client has exceeded its limit.
    Exceeded,
}

impl Limits {
    pub(crate) const ALL: [Self; 3] = [Self::Off, Self::On, Self::Exceeded];
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: ServerKind,
    pub(crate) addr: SocketAddr,
    pub(crate) process: PinnedProcess,
}

impl Server {
    /// Empties Redis and starts the server.
    pub(crate) async fn start(
        kind: ServerKind,
        limits: Limits,
        redis: &Redis,
        dir: &Path,
    ) -> Result<Self> {
        redis.run(&["FLUSHALL"])?;
        Self::start_on(kind, limits, redis, dir).await
    }

    /// Starts the server with the existing data in Redis.
    pub(crate) async fn start_on(
        kind: ServerKind,
        limits: Limits,
        redis: &Redis,
        dir: &Path,
    ) -> Result<Self> {
        let addr = free_addr()?;
        let process = match kind {
            ServerKind::Gateway => {
                start_gateway(env!("CARGO_BIN_EXE_image2model-gateway"), addr, limits, redis, dir)?
            }
            ServerKind::Before => {
                let program = BEFORE_PROGRAM.get().context("--before is not set")?;
                start_gateway(&program.display().to_string(), addr, limits, redis, dir)?
            }
            ServerKind::FastApi => start_fastapi(addr, limits, redis, dir)?,
        };
        wait_until_listening(addr).with_context(|| format!("see the logs in {}", dir.display()))?;
        // Wait until the connections to Redis are open and the start-up work is done.
        tokio::time::sleep(Duration::from_millis(700)).await;
        Ok(Self { kind, addr, process })
    }

    /// Waits until the server is idle: it may still process requests that wrk aborted at its end.
    pub(crate) fn wait_until_idle(&self) -> Result<()> {
        const TIMEOUT: Duration = Duration::from_mins(1);
        const POLL_INTERVAL: Duration = Duration::from_millis(100);
        const IDLE_SHARE: f64 = 0.2;
        let started = Instant::now();
        loop {
            let before = self.process.cpu_seconds();
            sleep(POLL_INTERVAL);
            if self.process.cpu_seconds() - before < IDLE_SHARE * POLL_INTERVAL.as_secs_f64() {
                return Ok(());
            }
            ensure!(started.elapsed() < TIMEOUT, "{} does not become idle", self.kind.name());
        }
    }
}

fn start_gateway(
    program: &str,
    addr: SocketAddr,
    limits: Limits,
    redis: &Redis,
    dir: &Path,
) -> Result<PinnedProcess> {
    let limit = if limits == Limits::Exceeded { 1 } else { 1_000_000_000 };
    let policies = json!([
        { "name": "key", "scope": "key", "limit": limit, "window": "1h" },
        { "name": "ip", "scope": "ip", "limit": 1_000_000_000, "window": "1h" },
    ]);
    let settings = json!({ "rate_limit": {
        "enabled": limits != Limits::Off,
        "deadline": "1s",
        "policies": policies,
    }});
    let file = dir.join("gateway.toml");
    fs::write(&file, toml::to_string(&settings)?)?;
    let env = [
        ("I2M__SERVER__LISTEN", addr.to_string()),
        ("I2M__REDIS__URL", format!("redis://{}", redis.addr)),
        ("I2M__AUTH__MODE", "keys".to_owned()),
        ("I2M__AUTH__KEYS", json!([key_settings(KEY)]).to_string()),
        // The growth benchmark opens many streams from one address.
        ("I2M__SERVER__MAX_CONNECTIONS", "60000".to_owned()),
        ("I2M__SERVER__MAX_CONNECTIONS_PER_IP", "60000".to_owned()),
        ("I2M__SSE__MAX_STREAMS", "60000".to_owned()),
        ("I2M__SSE__MAX_STREAMS_PER_IP", "60000".to_owned()),
        ("I2M__SSE__MAX_STREAMS_PER_CALLER", "60000".to_owned()),
        ("I2M__LOG__LEVEL", "warn".to_owned()),
    ];
    let args = ["--config".to_owned(), file.display().to_string()];
    PinnedProcess::start(SERVER_CORE, program, &args, &env, dir)
}

/// The settings of an API key.
fn key_settings(key: &str) -> Value {
    json!({ "name": key, "sha256": owner_hash(key), "roles": ["client", "worker"] })
}

/// The owner of the jobs that `key` creates, as stored in Redis: the SHA-256 hash of the key.
pub(crate) fn owner_hash(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn start_fastapi(
    addr: SocketAddr,
    limits: Limits,
    redis: &Redis,
    dir: &Path,
) -> Result<PinnedProcess> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".cache/bench-venv/bin/python").display().to_string();
    let (app_dir, port) = (root.join("bench/peers").display().to_string(), addr.port().to_string());
    let args = [
        ["-m", "uvicorn"],
        ["--app-dir", &app_dir],
        ["--port", &port],
        ["--loop", "uvloop"],
        ["--http", "httptools"],
        ["--log-level", "warning"],
        ["--no-access-log", "fastapi_http:app"],
    ];
    let args: Vec<String> = args.into_iter().flatten().map(str::to_owned).collect();
    let limit = match limits {
        Limits::Off => "0",
        Limits::On => "1000000000",
        Limits::Exceeded => "1",
    };
    let env = [
        ("REDIS_URL", format!("redis://{}", redis.addr)),
        ("LIMIT", limit.to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ];
    PinnedProcess::start(SERVER_CORE, &python, &args, &env, dir)
}

pub(crate) fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

pub(crate) fn wait_until_listening(addr: SocketAddr) -> Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(15);
    let started = Instant::now();
    while TcpStream::connect(addr).is_err() {
        ensure!(started.elapsed() < TIMEOUT, "no server listens on {addr}");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
