//! Test harness: the real service in the test's process, with its own Redis.

mod celery;
mod certificate;
mod cluster;
mod command_counter;
mod gateway_process;
mod layout;
mod origin;
mod proxy;
mod redis;
mod response;
mod sentinel;
mod sse;
mod traffic;

use std::{net::SocketAddr, time::Duration};

use image2model_gateway::{App, Config};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

pub(crate) use self::{
    celery::CeleryWorker,
    certificate::{Certificate, write_certificate},
    cluster::{ClusterSetup, ConnectVia},
    command_counter::{CommandCost, CommandCounter},
    gateway_process::GatewayProcess,
    origin::FakeOrigin,
    proxy::{NetworkFault, Proxy},
    redis::{TestRedis, is_on_cluster},
    response::ApiResponse,
    sentinel::{SentinelSetup, Topology},
    sse::{Event, EventSource},
    traffic::Traffic,
};

/// The longest time that a test waits for a condition.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// The sender of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    Alice,
    Bob,
    Worker,
    Admin,
    Anonymous,
}

impl Caller {
    pub(crate) fn key(self) -> Option<&'static str> {
        match self {
            Self::Alice => Some("alice-key"),
            Self::Bob => Some("bob-key"),
            Self::Worker => Some("worker-key"),
            Self::Admin => Some("admin-key"),
            Self::Anonymous => None,
        }
    }
}

/// A running service.
pub(crate) struct TestApp {
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    pub(crate) redis: TestRedis,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<anyhow::Result<()>>,
}

/// A configuration for `redis` with these settings, such as `("jobs.ttl", "10s")`.
pub(crate) fn config(redis: &TestRedis, settings: &[(&str, &str)]) -> Config {
    config_with(redis, settings, "")
}

/// [`config`] with further settings in TOML, for those that environment variables cannot express.
pub(crate) fn config_with(redis: &TestRedis, settings: &[(&str, &str)], toml: &str) -> Config {
    config_at(redis, &[&redis.settings(), settings].concat(), toml)
}

/// A configuration whose `settings` contain the address of Redis. Only the folder of `redis` is used.
pub(crate) fn config_for(redis: &TestRedis, settings: &[(&str, &str)]) -> Config {
    config_at(redis, settings, "")
}

fn config_at(redis: &TestRedis, settings: &[(&str, &str)], toml: &str) -> Config {
    let mut environment = vec![
        ("I2M__SERVER__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
        ("I2M__SSE__RETRY".to_owned(), "20ms".to_owned()),
        ("I2M__SERVER__DRAIN_SPREAD".to_owned(), "100ms".to_owned()),
        ("I2M__AUTH__MODE".to_owned(), "keys".to_owned()),
    ];
    if is_on_cluster() {
        // The cluster's only node has no replica to fail over to.
        environment.push(("I2M__REDIS__FAILOVER_WAIT".to_owned(), "0s".to_owned()));
    }
    environment.extend(settings.iter().map(|(name, value)| {
        let name = name.strip_prefix("I2M__").unwrap_or(name);
        (format!("I2M__{}", name.to_uppercase().replace('.', "__")), (*value).to_owned())
    }));
    let file = redis.dir().join("test.toml");
    std::fs::write(&file, format!("{KEYS}{toml}")).unwrap();
    Config::load(Some(&file), environment).unwrap()
}

/// The SHA-256 of `alice-key`, `bob-key` and `worker-key`.
const KEYS: &str = r#"
[auth]
keys = [
    { name = "alice", sha256 = "72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20", roles = ["client"] },
    { name = "bob", sha256 = "9b94dc1a51a38769f135edf04033ad7f2f487b6c25929be7a861cfc1ab10cf98", roles = ["client"] },
    { name = "worker", sha256 = "3a689b32a992b1ded53cec9fc20081eef3695855bc3f5bcad36b527840a36d90", roles = ["worker"] },
    { name = "admin", sha256 = "69a5265506c94c77b787a7d7377b7685a0eff82e33920a71e7ee22cd6154953e", roles = ["admin"] },
]
"#;

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a service with these settings in place of the defaults, and waits until it is ready.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        let redis = TestRedis::start();
        let config = config(&redis, settings);
        let app = Self::start_on(redis, config).await;
        app.wait_until_ready().await;
        app
    }

    /// Starts a service without waiting for its Redis.
    #[expect(clippy::disallowed_methods, reason = "the service under test runs beside the test")]
    pub(crate) async fn start_on(redis: TestRedis, config: Config) -> Self {
        let app = App::bind(config).await.unwrap();
        let address: SocketAddr = app.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(app.run(async { _ = stopped.await }));
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().unwrap();
        Self { base: format!("http://{address}"), http, redis, stop: Some(stop), running }
    }

    /// Stops the service as SIGTERM does and returns its result.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.begin_stop();
        tokio::time::timeout(TIMEOUT, &mut self.running).await.unwrap().unwrap()
    }

    /// Stops the service but not its Redis.
    pub(crate) async fn stop_keeping_redis(mut self) -> TestRedis {
        self.begin_stop();
        tokio::time::timeout(TIMEOUT, &mut self.running).await.unwrap().unwrap().unwrap();
        std::mem::replace(&mut self.redis, TestRedis::prepare(&[]))
    }

    pub(crate) fn begin_stop(&mut self) {
        _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn wait_until_ready(&self) {
        wait_until("the service is ready", async || {
            self.get(Caller::Anonymous, "/readyz").await.status == 200
        })
        .await;
    }

    pub(crate) fn request(&self, caller: Caller, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match caller.key() {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn get(&self, caller: Caller, path: &str) -> ApiResponse {
        ApiResponse::send(self.request(caller, Method::GET, path)).await
    }

    pub(crate) async fn send(
        &self,
        caller: Caller,
        method: Method,
        path: &str,
        body: &Value,
    ) -> ApiResponse {
        ApiResponse::send(self.request(caller, method, path).json(body)).await
    }

    pub(crate) async fn post(&self, caller: Caller, path: &str, body: &Value) -> ApiResponse {
        self.send(caller, Method::POST, path, body).await
    }

    /// Creates a job of Alice with `file_count` pictures.
    pub(crate) async fn create_job(&self, file_count: usize) -> Value {
        let files: Vec<Value> = (0..file_count)
            .map(|i| json!({"filename": format!("picture-{i}.png"), "size": 1000 + i, "content_type": "image/png"}))
            .collect();
        self.post(
            Caller::Alice,
            "/api/v1/jobs",
            &json!({"files": files, "params": {"quality": "high"}}),
        )
        .await
        .ok(201)
    }

    /// Sends a worker's progress report on a file.
    pub(crate) async fn report(&self, job: &Value, file: usize, body: &Value) -> ApiResponse {
        self.post(Caller::Worker, &format!("{}/files/file_{file:03}/progress", path_of(job)), body)
            .await
    }

    /// Sends a worker's successful result of a file.
    pub(crate) async fn complete(&self, job: &Value, file: usize) -> ApiResponse {
        let result = json!({"status": "completed", "result": {
            "filename": format!("model-{file}.glb"), "size": 4096, "mime_type": "model/gltf-binary",
            "url": format!("https://cdn.example.com/model-{file}.glb"),
        }});
        self.finish(job, file, &result).await
    }

    pub(crate) async fn fail(&self, job: &Value, file: usize, error: &str) -> ApiResponse {
        self.finish(job, file, &json!({"status": "failed", "error": error})).await
    }

    async fn finish(&self, job: &Value, file: usize, result: &Value) -> ApiResponse {
        self.send(
            Caller::Worker,
            Method::PUT,
            &format!("{}/files/file_{file:03}/result", path_of(job)),
            result,
        )
        .await
    }

    /// Opens the job's event stream as a browser does, after the event `after`.
    pub(crate) async fn follow(&self, job: &Value, after: Option<&str>) -> EventSource {
        EventSource::open(self, job["links"]["stream"].as_str().unwrap(), after).await
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if !self.running.is_finished() {
            self.running.abort();
        }
    }
}

/// The path in the job's `self` link.
pub(crate) fn path_of(job: &Value) -> &str {
    job["links"]["self"].as_str().unwrap()
}

pub(crate) fn id_of(job: &Value) -> &str {
    job["job_id"].as_str().unwrap()
}

/// Polls a condition every 5 ms until it holds. Panics after [`TIMEOUT`].
#[track_caller]
pub(crate) fn wait_until<F>(condition: &str, mut holds: F) -> impl Future<Output = ()>
where
    F: AsyncFnMut() -> bool,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        while !holds().await {
            assert!(tokio::time::Instant::now() < deadline, "timeout at {caller}: {condition}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
