//! Two versions of the service on one Redis. `make test-upgrade FROM=…` builds the other version.

use std::path::{Path, PathBuf};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{
    ApiResponse, Caller, Event, EventSource, GatewayProcess, TestRedis, id_of, path_of, wait_until,
};

struct Version {
    process: GatewayProcess,
    base: String,
    http: reqwest::Client,
}

impl Version {
    async fn start(program: &Path, redis: &TestRedis) -> Self {
        let environment = [
            redis.settings()[0],
            redis.settings()[1],
            ("I2M__AUTH__TICKET_SECRETS", "the same for both versions"),
            ("I2M__SERVER__DRAIN_SPREAD", "100ms"),
        ];
        let process = GatewayProcess::start_program(program, redis.dir(), &[], &environment);
        let version = Self { base: process.base.clone(), process, http: reqwest::Client::new() };
        let ready = format!("{}/readyz", version.base);
        wait_until("the service is ready", async || match version.http.get(&ready).send().await {
            Ok(response) => response.status() == 200,
            Err(error) => panic!("{error}; it said {}", version.process.log.lock().unwrap()),
        })
        .await;
        version
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> ApiResponse {
        let request = self.http.request(method, format!("{}{path}", self.base));
        let request = request.bearer_auth(Caller::Alice.key().unwrap());
        ApiResponse::send(body.iter().fold(request, RequestBuilder::json)).await
    }

    async fn follow(&self, job: &Value) -> EventSource {
        self.follow_after(job, None).await
    }

    /// Opens a stream as a browser whose last event is `last`.
    async fn follow_after(&self, job: &Value, last: Option<&Event>) -> EventSource {
        let url = format!("{}{}", self.base, job["links"]["stream"].as_str().unwrap());
        let last_id = last.map(|event| event.id.as_str());
        let request = self.http.get(url);
        let request =
            last_id.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        EventSource::new(request.send().await.unwrap(), last_id)
    }

    async fn report(&self, job: &Value, percent: u64) {
        let path = format!("{}/files/file_000/progress", path_of(job));
        let report = json!({"progress": percent, "message": percent.to_string()});
        self.ask(Method::POST, &path, Some(report)).await.ok(200);
    }

    /// Stops the service as Kubernetes does: requests in flight may finish.
    fn stop(mut self) {
        self.process.signal("TERM");
        assert!(self.process.wait().success());
    }
}

/// A worker's result.
fn result() -> Value {
    json!({"status": "completed", "result": {
        "filename": "a.glb", "size": 1, "mime_type": "model/gltf-binary", "url": "https://example.com/a.glb"}})
}

/// Runs a job whose steps alternate between the versions.
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
            let event = stream.wait_for("file_update").await;
            assert_eq!(event.data["file_progress"], json!(10 * (n + 1)));
        }
    }
    let file = |n: usize| format!("{path}/files/file_00{n}/result");
    second.ask(Method::PUT, &file(0), Some(result())).await.ok(200);
    let failed = json!({"status": "failed", "error": "no luck"});
    first.ask(Method::PUT, &file(1), Some(failed)).await.ok(200);
    for stream in [&mut here, &mut there] {
        let end = stream.wait_for("task_completed").await;
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

/// The program of the other version.
fn other() -> PathBuf {
    PathBuf::from(std::env::var_os("I2M_OTHER_VERSION").unwrap())
}

/// Whether both versions have a path, even if not for GET.
async fn both_know(versions: [&Version; 2], path: &str) -> bool {
    for version in versions {
        if version.ask(Method::GET, path, None).await.status == 404 {
            return false;
        }
    }
    true
}

/// One version grants a lock; the other extends it, denies it to others, and releases it.
async fn share_locks(first: &Version, second: &Version) {
    let path = "/api/v1/locks/shared";
    let wanted = json!({"ttl_secs": 60});
    let held = first.ask(Method::POST, path, Some(wanted.clone())).await.ok(201);
    second.ask(Method::POST, path, Some(wanted.clone())).await.problem(409, "LOCK_UNAVAILABLE");
    let extension = json!({"token": held["token"], "ttl_secs": 60});
    let extended = second.ask(Method::PATCH, path, Some(extension)).await.ok(200);
    assert_eq!(extended["fencing_token"], held["fencing_token"]);
    let release = format!("{path}?token={}", held["token"].as_str().unwrap());
    assert_eq!(second.ask(Method::DELETE, &release, None).await.status, 204);
    let next = first.ask(Method::POST, path, Some(wanted)).await.ok(201);
    assert!(next["fencing_token"].as_u64() > held["fencing_token"].as_u64());
    let release = format!("{path}?token={}", next["token"].as_str().unwrap());
    assert_eq!(first.ask(Method::DELETE, &release, None).await.status, 204);
}

/// One version creates an API key; the other shows and revokes it.
async fn share_keys(first: &Version, second: &Version) {
    let path = "/api/v1/admin/keys";
    let order = json!({"name": "shared", "roles": ["client"]});
    let made = first.ask(Method::POST, path, Some(order)).await.ok(201);
    let listed = second.ask(Method::GET, path, None).await.text;
    let id = made["id"].as_str().unwrap();
    assert!(listed.contains(id), "{id} is not in {listed}");
    let one = format!("{path}/{id}");
    assert_eq!(second.ask(Method::DELETE, &one, None).await.status, 204);
    first.ask(Method::DELETE, &one, None).await.problem(404, "KEY_NOT_FOUND");
}

#[tokio::test]
#[ignore = "needs another version, which `make test-upgrade` builds"]
async fn two_versions_share_one_redis() {
    let other = other();
    let redis = TestRedis::start();
    let new = Version::start(&GatewayProcess::program(), &redis).await;
    let old = Version::start(&other, &redis).await;
    for _ in 0..3 {
        hand_over(&old, &new).await;
        hand_over(&new, &old).await;
    }
    if both_know([&new, &old], "/api/v1/locks/shared").await {
        share_locks(&old, &new).await;
        share_locks(&new, &old).await;
    }
    if both_know([&new, &old], "/api/v1/admin/keys").await {
        share_keys(&old, &new).await;
        share_keys(&new, &old).await;
    }
    // Each version has removed all keys that the other created.
    let prefixes =
        ["job:", "session:", "progress:", "stream:progress:", "cache:status:", "i2m:task:"];
    for database in 0..5 {
        let keys = redis.keys(database).await;
        let left: Vec<_> = keys
            .iter()
            .filter(|key| prefixes.iter().any(|prefix| key.starts_with(prefix)))
            .collect();
        assert_eq!(left, Vec::<&String>::new());
    }
}

/// Reconnects a browser to `to` after its last event. The browser then receives exactly the new report.
async fn move_over(job: &Value, last: &Event, to: &Version, percent: u64) -> (EventSource, Event) {
    to.report(job, percent).await;
    let mut stream = to.follow_after(job, Some(last)).await;
    let event = stream.wait_for("file_update").await;
    assert_eq!(event.data["message"], json!(percent.to_string()), "after {last:?}");
    (stream, event)
}

#[tokio::test]
#[ignore = "needs another version, which `make test-upgrade` builds"]
async fn a_rollout_and_its_rollback_lose_nothing() {
    let redis = TestRedis::start();
    let new_job = json!({"files": [{"filename": "a.png"}]});
    let old = Version::start(&other(), &redis).await;
    let first = old.ask(Method::POST, "/api/v1/jobs", Some(new_job.clone())).await.ok(201);
    let mut stream = old.follow(&first).await;
    old.report(&first, 10).await;
    let seen = stream.wait_for("file_update").await;

    // Rollout: the new version is ready before the old one stops.
    let new = Version::start(&GatewayProcess::program(), &redis).await;
    old.stop();
    assert!(stream.rest().await.iter().all(|event| event.name != "file_update"));
    let (mut stream, seen) = move_over(&first, &seen, &new, 20).await;
    let second = new.ask(Method::POST, "/api/v1/jobs", Some(new_job)).await.ok(201);
    let mut of_second = new.follow(&second).await;
    new.report(&second, 10).await;
    let seen_of_second = of_second.wait_for("file_update").await;

    // Rollback, with data that the new version has written.
    let old = Version::start(&other(), &redis).await;
    new.stop();
    for stream in [&mut stream, &mut of_second] {
        assert!(stream.rest().await.iter().all(|event| event.name != "file_update"));
    }
    for (job, seen, percent) in [(&first, &seen, 30), (&second, &seen_of_second, 20)] {
        let (mut stream, _) = move_over(job, seen, &old, percent).await;
        let path = format!("{}/files/file_000/result", path_of(job));
        old.ask(Method::PUT, &path, Some(result())).await.ok(200);
        stream.wait_for("task_completed").await;
        let job = old.ask(Method::GET, path_of(job), None).await.ok(200);
        assert_eq!(job["status"], "completed", "{job}");
    }
}
