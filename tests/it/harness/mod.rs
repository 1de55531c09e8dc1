//! The real service in this process, with a Redis of its own.

mod answer;
mod celery;
mod certificate;
mod child;
mod cluster;
mod layout;
mod meter;
mod origin;
mod proxy;
mod redis;
mod sentinel;
mod sse;
mod traffic;

use std::{net::SocketAddr, time::Duration};

use image2model_gateway::{App, Config};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

pub(crate) use self::{
    answer::Answer,
    celery::CeleryWorker,
    certificate::Certificate,
    child::ServiceProcess,
    cluster::{ClusterSetup, Way},
    meter::{Cost, Meter},
    origin::Origin,
    proxy::{Proxy, Weather},
    redis::{TestRedis, is_on_cluster},
    sentinel::{SentinelSetup, Topology},
    sse::{Event, EventSource},
    traffic::Traffic,
};

/// The longest that any condition is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum As {
    Alice,
    Bob,
    Worker,
    Admin,
    Nobody,
}

impl As {
    pub(crate) fn key(self) -> Option<&'static str> {
        match self {
            Self::Alice => Some("alice-key"),
            Self::Bob => Some("bob-key"),
            Self::Worker => Some("worker-key"),
            Self::Admin => Some("admin-key"),
            Self::Nobody => None,
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

/// Settings as a test wants them: pairs such as `("jobs.ttl", "10s")`.
pub(crate) fn config(redis: &TestRedis, settings: &[(&str, &str)]) -> Config {
    config_with(redis, settings, "")
}

/// The same with what the environment cannot say, as TOML.
pub(crate) fn config_with(redis: &TestRedis, settings: &[(&str, &str)], toml: &str) -> Config {
    config_at(redis, &[&redis.place(), settings].concat(), toml)
}

/// Settings that say where Redis is; `redis` lends its folder.
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
        // Its one node has nobody to fail over to.
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

    /// Starts a service whose settings differ from the default by `settings`.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        let redis = TestRedis::start();
        let config = config(&redis, settings);
        let app = Self::start_on(redis, config).await;
        app.until_ready().await;
        app
    }

    /// Starts a service on a Redis that may be away.
    #[expect(clippy::disallowed_methods, reason = "the service under test runs beside the test")]
    pub(crate) async fn start_on(redis: TestRedis, config: Config) -> Self {
        let app = App::bind(config).await.unwrap();
        let address: SocketAddr = app.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(app.run(async { _ = stopped.await }));
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { base: format!("http://{address}"), http, redis, stop: Some(stop), running }
    }

    /// Stops the service as SIGTERM does, and says how it went.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.begin_stop();
        tokio::time::timeout(PATIENCE, &mut self.running).await.unwrap().unwrap()
    }

    /// Stops the service, and not its Redis.
    pub(crate) async fn stop_keeping_redis(mut self) -> TestRedis {
        self.begin_stop();
        tokio::time::timeout(PATIENCE, &mut self.running).await.unwrap().unwrap().unwrap();
        std::mem::replace(&mut self.redis, TestRedis::prepare(&[]))
    }

    pub(crate) fn begin_stop(&mut self) {
        _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn until_ready(&self) {
        until("the service is ready", async || self.get(As::Nobody, "/readyz").await.status == 200)
            .await;
    }

    pub(crate) fn request(&self, who: As, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match who.key() {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn get(&self, who: As, path: &str) -> Answer {
        Answer::of(self.request(who, Method::GET, path)).await
    }

    pub(crate) async fn send(&self, who: As, method: Method, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(who, method, path).json(body)).await
    }

    pub(crate) async fn post(&self, who: As, path: &str, body: &Value) -> Answer {
        self.send(who, Method::POST, path, body).await
    }

    /// Alice's new job with `n_files` pictures.
    pub(crate) async fn create_job(&self, n_files: usize) -> Value {
        let files: Vec<Value> = (0..n_files)
            .map(|i| json!({"filename": format!("picture-{i}.png"), "size": 1000 + i, "content_type": "image/png"}))
            .collect();
        self.post(
            As::Alice,
            "/api/v1/jobs",
            &json!({"files": files, "params": {"quality": "high"}}),
        )
        .await
        .ok(201)
    }

    /// A worker's report on a file.
    pub(crate) async fn report(&self, job: &Value, file: usize, body: &Value) -> Answer {
        self.post(As::Worker, &format!("{}/files/file_{file:03}/progress", path_of(job)), body)
            .await
    }

    /// A worker's result of a file.
    pub(crate) async fn complete(&self, job: &Value, file: usize) -> Answer {
        let result = json!({"status": "completed", "result": {
            "filename": format!("model-{file}.glb"), "size": 4096, "mime_type": "model/gltf-binary",
            "url": format!("https://cdn.example.com/model-{file}.glb"),
        }});
        self.finish(job, file, &result).await
    }

    pub(crate) async fn fail(&self, job: &Value, file: usize, error: &str) -> Answer {
        self.finish(job, file, &json!({"status": "failed", "error": error})).await
    }

    async fn finish(&self, job: &Value, file: usize, result: &Value) -> Answer {
        self.send(
            As::Worker,
            Method::PUT,
            &format!("{}/files/file_{file:03}/result", path_of(job)),
            result,
        )
        .await
    }

    /// Follows a job as a browser does, from `after` on.
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

/// The path of a job as its `self` link says.
pub(crate) fn path_of(job: &Value) -> &str {
    job["links"]["self"].as_str().unwrap()
}

pub(crate) fn id_of(job: &Value) -> &str {
    job["job_id"].as_str().unwrap()
}

/// Waits for a condition, looking often.
#[track_caller]
pub(crate) fn until<F>(what: &str, mut holds: F) -> impl Future<Output = ()>
where
    F: AsyncFnMut() -> bool,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds().await {
            assert!(tokio::time::Instant::now() < deadline, "never came to be at {caller}: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
