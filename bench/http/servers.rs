//! The servers that are compared: the gateway with several limits, and `FastAPI`.

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

use crate::{SERVER_CORE, process::Process, redis::Redis, workload::KEY};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(crate) enum Kind {
    Gateway,
    /// Another build of it, to see what a change has done.
    Before,
    FastApi,
}

/// The program of [`Kind::Before`].
pub(crate) static BEFORE: OnceLock<PathBuf> = OnceLock::new();

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Before => "gateway before",
            Self::FastApi => "FastAPI",
        }
    }
}

/// How callers are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limits {
    Off,
    /// By key and by address, and nobody comes to the limit.
    On,
    /// The caller is over its limit.
    Over,
}

impl Limits {
    pub(crate) const ALL: [Self; 3] = [Self::Off, Self::On, Self::Over];
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) addr: SocketAddr,
    pub(crate) process: Process,
}

impl Server {
    pub(crate) async fn start(
        kind: Kind,
        limits: Limits,
        redis: &Redis,
        dir: &Path,
    ) -> Result<Self> {
        redis.run(&["FLUSHALL"])?;
        Self::start_on(kind, limits, redis, dir).await
    }

    /// With what there is in Redis.
    pub(crate) async fn start_on(
        kind: Kind,
        limits: Limits,
        redis: &Redis,
        dir: &Path,
    ) -> Result<Self> {
        let addr = free_addr()?;
        let process = match kind {
            Kind::Gateway => {
                start_gateway(env!("CARGO_BIN_EXE_image2model-gateway"), addr, limits, redis, dir)?
            }
            Kind::Before => {
                let program = BEFORE.get().context("no build to compare with")?;
                start_gateway(&program.display().to_string(), addr, limits, redis, dir)?
            }
            Kind::FastApi => start_fastapi(addr, limits, redis, dir)?,
        };
        wait_for(addr).with_context(|| format!("see the logs in {}", dir.display()))?;
        // Connections to Redis are made, and what start-up costs is over.
        tokio::time::sleep(Duration::from_millis(700)).await;
        Ok(Self { kind, addr, process })
    }

    /// Waits until what nobody waits for any more is done: a load ends in the middle of its last requests.
    pub(crate) fn settle(&self) -> Result<()> {
        const PATIENCE: Duration = Duration::from_mins(1);
        const LOOK: Duration = Duration::from_millis(100);
        const IDLE: f64 = 0.2;
        let begin = Instant::now();
        loop {
            let before = self.process.cpu_seconds();
            sleep(LOOK);
            if self.process.cpu_seconds() - before < IDLE * LOOK.as_secs_f64() {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "{} does not come to rest", self.kind.name());
        }
    }
}

fn start_gateway(
    program: &str,
    addr: SocketAddr,
    limits: Limits,
    redis: &Redis,
    dir: &Path,
) -> Result<Process> {
    let limit = if limits == Limits::Over { 1 } else { 1_000_000_000 };
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
        ("I2M__AUTH__KEYS", json!([key(KEY)]).to_string()),
        // For the benchmark that opens many streams.
        ("I2M__SERVER__MAX_CONNECTIONS", "60000".to_owned()),
        ("I2M__SERVER__MAX_CONNECTIONS_PER_IP", "60000".to_owned()),
        ("I2M__SSE__MAX_STREAMS", "60000".to_owned()),
        ("I2M__SSE__MAX_STREAMS_PER_IP", "60000".to_owned()),
        ("I2M__SSE__MAX_STREAMS_PER_CALLER", "60000".to_owned()),
        ("I2M__LOG__LEVEL", "warn".to_owned()),
    ];
    let args = ["--config".to_owned(), file.display().to_string()];
    Process::start(SERVER_CORE, program, &args, &env, dir)
}

/// A key as the settings have it.
fn key(key: &str) -> Value {
    json!({ "name": key, "sha256": owner(key), "roles": ["client", "worker"] })
}

/// Whose jobs they are that `key` creates, as it stands in Redis.
pub(crate) fn owner(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn start_fastapi(addr: SocketAddr, limits: Limits, redis: &Redis, dir: &Path) -> Result<Process> {
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
        Limits::Over => "1",
    };
    let env = [
        ("REDIS_URL", format!("redis://{}", redis.addr)),
        ("LIMIT", limit.to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ];
    Process::start(SERVER_CORE, &python, &args, &env, dir)
}

pub(crate) fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

pub(crate) fn wait_for(addr: SocketAddr) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(15);
    let begin = Instant::now();
    while TcpStream::connect(addr).is_err() {
        ensure!(begin.elapsed() < PATIENCE, "nothing came to listen on {addr}");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
