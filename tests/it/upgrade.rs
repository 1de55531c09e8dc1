//! Two versions of the service at one Redis. `make test-upgrade FROM=…` builds the other one.

use std::path::{Path, PathBuf};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{Answer, As, EventSource, ServiceProcess, TestRedis, id_of, path_of, until};

struct Version {
    _process: ServiceProcess,
    base: String,
    http: reqwest::Client,
}

impl Version {
    async fn start(program: &Path, redis: &TestRedis) -> Self {
        let environment = [
            redis.place()[0],
            redis.place()[1],
            ("I2M__AUTH__TICKET_SECRETS", "the same for both versions"),
        ];
        let process = ServiceProcess::start_program(program, redis.dir(), &[], &environment);
        let version =
            Self { base: process.base.clone(), _process: process, http: reqwest::Client::new() };
        until("it is ready", async || {
            version.ask(Method::GET, "/readyz", None).await.status == 200
        })
        .await;
        version
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.http.request(method, format!("{}{path}", self.base));
        let request = request.bearer_auth(As::Alice.key().unwrap());
        Answer::of(body.iter().fold(request, RequestBuilder::json)).await
    }

    async fn follow(&self, job: &Value) -> EventSource {
        let url = format!("{}{}", self.base, job["links"]["stream"].as_str().unwrap());
        EventSource::of(self.http.get(url).send().await.unwrap(), None)
    }
}

/// A job that each step of is done by the other version.
async fn hand_over(first: &Version, second: &Version) {
    let new = json!({"files": [{"filename": "a.png"}, {"filename": "b.png"}], "params": {"q": 1}});
    let job = first.ask(Method::POST, "/api/v1/jobs", Some(new)).await.ok(201);
    let path = path_of(&job);
    let (mut here, mut there) = (first.follow(&job).await, second.follow(&job).await);
    for (n, version) in [first, second, first, second].into_iter().enumerate() {
        let report = json!({"progress": 10 * (n + 1), "message": "meshing"});
        let path = format!("{path}/files/file_000/progress");
        version.ask(Method::POST, &path, Some(report)).await.ok(200);
        for stream in [&mut here, &mut there] {
            let event = stream.until("file_update").await;
            assert_eq!(event.data["file_progress"], json!(10 * (n + 1)));
        }
    }
    let result = json!({"status": "completed", "result": {
        "filename": "a.glb", "size": 1, "mime_type": "model/gltf-binary", "url": "https://example.com/a.glb"}});
    let file = |n: usize| format!("{path}/files/file_00{n}/result");
    second.ask(Method::PUT, &file(0), Some(result)).await.ok(200);
    let failed = json!({"status": "failed", "error": "no luck"});
    first.ask(Method::PUT, &file(1), Some(failed)).await.ok(200);
    for stream in [&mut here, &mut there] {
        let end = stream.until("task_completed").await;
        assert_eq!(end.data["summary"]["failed_files"], 1);
    }
    second.ask(Method::POST, &format!("{path}/retry"), None).await.ok(200);
    first.ask(Method::POST, &format!("{path}/cancel"), None).await.ok(200);
    for version in [first, second] {
        let job = version.ask(Method::GET, path, None).await.ok(200);
        assert_eq!((&job["status"], &job["attempt"]), (&json!("cancelled"), &json!(2)));
        let status = version.ask(Method::GET, &format!("{path}/status"), None).await.ok(200);
        assert_eq!(status["status"], "cancelled");
        let page = version.ask(Method::GET, "/api/v1/jobs", None).await.ok(200);
        assert_eq!(page["jobs"][0]["job_id"].as_str(), Some(id_of(&job)));
    }
    assert_eq!(second.ask(Method::DELETE, path, None).await.status, 204);
    first.ask(Method::GET, path, None).await.problem(404, "JOB_NOT_FOUND");
}

#[tokio::test]
#[ignore = "needs another version, which `make test-upgrade` builds"]
async fn two_versions_share_one_redis() {
    let other = PathBuf::from(std::env::var_os("I2M_OTHER_VERSION").unwrap());
    let redis = TestRedis::start();
    let new = Version::start(&ServiceProcess::program(), &redis).await;
    let old = Version::start(&other, &redis).await;
    for _ in 0..3 {
        hand_over(&old, &new).await;
        hand_over(&new, &old).await;
    }
    // Whatever one version has made, the other has removed.
    let prefixes =
        ["job:", "session:", "progress:", "stream:progress:", "cache:status:", "i2m:task:"];
    for database in 0..5 {
        let keys = redis.keys(database).await;
        let left: Vec<_> =
            keys.iter().filter(|key| prefixes.iter().any(|it| key.starts_with(it))).collect();
        assert_eq!(left, Vec::<&String>::new());
    }
}
