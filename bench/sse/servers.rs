//! The servers under comparison: the gateway, nginx with nchan, and `FastAPI`.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::{pinned_process::PinnedProcess, redis::Redis};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerKind {
    Gateway,
    /// nginx with nchan, which stores messages in memory.
    Nchan,
    /// nginx with nchan, which stores messages in Redis.
    NchanRedis,
    FastApi,
}

impl ServerKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Nchan => "nchan",
            Self::NchanRedis => "nchan + Redis",
            Self::FastApi => "FastAPI",
        }
    }

    /// Whether the server reads events from Redis streams.
    pub(crate) fn reads_redis(self) -> bool {
        matches!(self, Self::Gateway | Self::FastApi)
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: ServerKind,
    pub(crate) addr: SocketAddr,
    pub(crate) process: PinnedProcess,
}

/// A stream that browsers can watch.
#[derive(Clone)]
pub(crate) struct Topic {
    pub(crate) id: String,
    /// The request path of a browser.
    pub(crate) path: String,
}

impl Server {
    pub(crate) async fn start(
        kind: ServerKind,
        core: usize,
        redis: &Redis,
        dir: &Path,
    ) -> Result<Self> {
        redis.run(&["FLUSHALL"])?;
        let addr = free_addr()?;
        let process = match kind {
            ServerKind::Gateway => start_gateway(core, addr, redis, dir)?,
            ServerKind::Nchan | ServerKind::NchanRedis => {
                start_nginx(kind, core, addr, redis, dir)?
            }
            ServerKind::FastApi => start_fastapi(core, addr, redis, dir)?,
        };
        wait_until_listening(addr).with_context(|| format!("see the logs in {}", dir.display()))?;
        // Wait until the connections to Redis are open and the start-up work is done.
        tokio::time::sleep(Duration::from_millis(700)).await;
        Ok(Self { kind, addr, process })
    }

    pub(crate) async fn topics(&self, count: usize) -> Result<Vec<Topic>> {
        if self.kind == ServerKind::Gateway {
            return self.create_jobs(count).await;
        }
        let id = |_| uuid::Uuid::new_v4().to_string();
        let path = |id: &String| match self.kind {
            ServerKind::FastApi => format!("/jobs/{id}/stream"),
            _ => format!("/sub/{id}"),
        };
        Ok((0..count).map(id).map(|id| Topic { path: path(&id), id }).collect())
    }

    async fn create_jobs(&self, count: usize) -> Result<Vec<Topic>> {
        const MAX_CONCURRENCY: usize = 32;
        let client = reqwest::Client::new();
        let url = format!("http://{}/api/v1/jobs", self.addr);
        let body = json!({ "files": [{ "filename": "picture.jpg" }] });
        let create = |_| {
            let request = client.post(&url).bearer_auth("benchmark").json(&body);
            async move {
                let job: Value = request.send().await?.error_for_status()?.json().await?;
                let text = |value: &Value| value.as_str().map(str::to_owned);
                let id = text(&job["job_id"]).or_else(|| text(&job["id"]));
                let stream = text(&job["links"]["stream"]);
                id.zip(stream)
                    .with_context(|| format!("the response has no job id or no stream link: {job}"))
            }
        };
        let jobs = stream::iter(0..count).map(create).buffer_unordered(MAX_CONCURRENCY);
        // The link may be an absolute URL.
        let path = |link: String| {
            let start = link.find("/api/").unwrap_or(0);
            link[start..].to_owned()
        };
        jobs.map_ok(|(id, link)| Topic { id, path: path(link) }).try_collect().await
    }
}

fn start_gateway(
    core: usize,
    addr: SocketAddr,
    redis: &Redis,
    dir: &Path,
) -> Result<PinnedProcess> {
    let env = [
        ("I2M__SERVER__LISTEN", addr.to_string()),
        ("I2M__SERVER__MAX_CONNECTIONS", "60000".to_owned()),
        ("I2M__SERVER__MAX_CONNECTIONS_PER_IP", "60000".to_owned()),
        ("I2M__REDIS__URL", format!("redis://{}", redis.addr)),
        ("I2M__SSE__MAX_STREAMS", "60000".to_owned()),
        ("I2M__SSE__MAX_STREAMS_PER_IP", "60000".to_owned()),
        ("I2M__SSE__MAX_STREAMS_PER_CALLER", "60000".to_owned()),
        // All requests come from one address: count them, but do not refuse any.
        ("I2M__RATE_LIMIT__DRY_RUN", "true".to_owned()),
        ("I2M__LOG__LEVEL", "warn".to_owned()),
    ];
    PinnedProcess::start(core, env!("CARGO_BIN_EXE_image2model-gateway"), &[], &env, dir)
}

fn start_nginx(
    kind: ServerKind,
    core: usize,
    addr: SocketAddr,
    redis: &Redis,
    dir: &Path,
) -> Result<PinnedProcess> {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
    let (upstream, store) = match kind {
        ServerKind::NchanRedis => (
            format!("upstream store {{ nchan_redis_server redis://{}; }}", redis.addr),
            "nchan_redis_pass store;",
        ),
        _ => (String::new(), ""),
    };
    let module = if Path::new(MODULE).exists() {
        format!("load_module {MODULE};")
    } else {
        bail!("{MODULE} does not exist; run scripts/setup nchan")
    };
    let text = include_str!("../nchan.conf")
        .replace("@load_module@", &module)
        .replace("@dir@", &dir.display().to_string())
        .replace("@files@", "15000")
        .replace("@connections@", "14000")
        .replace("@upstream@", &upstream)
        .replace("@store@", store)
        .replace("@port@", &addr.port().to_string());
    let config = dir.join("nginx.conf");
    fs::write(&config, text)?;
    let args = ["-p", &dir.display().to_string(), "-c", &config.display().to_string()];
    PinnedProcess::start(core, "nginx", &args.map(str::to_owned), &[], dir)
}

fn start_fastapi(
    core: usize,
    addr: SocketAddr,
    redis: &Redis,
    dir: &Path,
) -> Result<PinnedProcess> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".cache/bench-venv/bin/python");
    let port = addr.port().to_string();
    let app_dir = root.join("bench/peers").display().to_string();
    let args = [
        "-m",
        "uvicorn",
        "--app-dir",
        &app_dir,
        "--port",
        &port,
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--log-level",
        "warning",
        "--backlog",
        "4096",
        "fastapi_sse:app",
    ];
    let env = [
        ("REDIS_URL", format!("redis://{}/2", redis.addr)),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ];
    PinnedProcess::start(core, &python.display().to_string(), &args.map(str::to_owned), &env, dir)
}

pub(crate) fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

pub(crate) fn wait_until_listening(addr: SocketAddr) -> Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(15);
    let started = Instant::now();
    while started.elapsed() < TIMEOUT {
        if TcpStream::connect(addr).is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(20));
    }
    bail!("no server listens on {addr}")
}
