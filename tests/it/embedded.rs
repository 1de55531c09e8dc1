//! The embedded Redis, which the service starts and stops.

use std::path::Path;

use serde_json::json;

use crate::harness::{GatewayProcess, wait_until};

/// Whether the embedded Redis of a folder responds.
fn is_redis_up(dir: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(dir.join("data/redis/redis.sock")).is_ok()
}

async fn wait_until_ready(service: &GatewayProcess, http: &reqwest::Client) {
    let url = format!("{}/readyz", service.base);
    wait_until("the service is ready", async || {
        http.get(&url).send().await.is_ok_and(|response| response.status() == 200)
    })
    .await;
}

#[tokio::test]
async fn jobs_survive_a_killed_service_whose_redis_stops() {
    let dir = tempfile::Builder::new().prefix("i2m-embedded-").tempdir().unwrap();
    let http = reqwest::Client::new();
    let mut service = GatewayProcess::start(dir.path(), &[]);
    wait_until_ready(&service, &http).await;
    let new = json!({"files": [{"filename": "a.png"}]});
    let job: serde_json::Value = http
        .post(format!("{}/api/v1/jobs", service.base))
        .bearer_auth("k")
        .json(&new)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(is_redis_up(dir.path()));

    service.signal("KILL");
    service.wait();
    wait_until("the embedded Redis has stopped", async || !is_redis_up(dir.path())).await;

    let mut service = GatewayProcess::start(dir.path(), &[]);
    wait_until_ready(&service, &http).await;
    let link = format!("{}{}", service.base, job["links"]["self"].as_str().unwrap());
    assert_eq!(http.get(link).bearer_auth("k").send().await.unwrap().status(), 200);
    service.signal("TERM");
    assert!(service.wait().success());
    wait_until("the embedded Redis has stopped", async || !is_redis_up(dir.path())).await;
}

#[test]
fn a_missing_redis_server_is_reported_with_install_instructions() {
    let dir = tempfile::tempdir().unwrap();
    let output = GatewayProcess::output(
        dir.path(),
        &[],
        &[("I2M__REDIS__EMBEDDED__PROGRAM", "no-such-redis-server")],
    );
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(error.contains("apt-get install redis-server"), "{error}");
}

#[test]
fn a_folder_in_use_is_not_shared() {
    let dir = tempfile::tempdir().unwrap();
    let _first = GatewayProcess::start(dir.path(), &[]);
    let settings =
        [("I2M__REDIS__EMBEDDED__START_TIMEOUT", "100ms"), ("I2M__SERVER__LISTEN", "127.0.0.1:0")];
    let second = GatewayProcess::output(dir.path(), &[], &settings);
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.contains("in use by another"), "{error}");
}
