//! Shutdown: the service is not ready first, streams get a retry time, and requests finish within a limit.

use crate::harness::{
    Caller, EventSource, GatewayProcess, TIMEOUT, TestApp, TestRedis, wait_until,
};

#[tokio::test]
async fn an_open_stream_gets_a_retry_time_and_does_not_delay_the_stop() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    stream.retry_ms = None;
    app.stop().await.unwrap();
    assert_eq!(stream.next().await, None);
    assert!(stream.retry_ms.is_some());
}

#[tokio::test]
async fn the_service_is_not_ready_while_it_still_serves() {
    let mut app = TestApp::start_with(&[("server.shutdown_delay", "500ms")]).await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    app.begin_stop();
    wait_until("the service is not ready", async || {
        app.get(Caller::Anonymous, "/readyz").await.status == 503
    })
    .await;
    app.get(Caller::Alice, crate::harness::path_of(&job)).await.ok(200);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn sigterm_stops_cleanly_and_a_restart_loses_nothing() {
    let redis = TestRedis::start();
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__SSE__RETRY", "10ms"),
        ("I2M__SERVER__DRAIN_SPREAD", "0s"),
    ];
    let mut first = GatewayProcess::start(redis.dir(), &environment);
    let http = reqwest::Client::builder().timeout(TIMEOUT).build().unwrap();
    let ready = async |base: &str| {
        wait_until("the service is ready", async || {
            http.get(format!("{base}/readyz"))
                .send()
                .await
                .is_ok_and(|response| response.status() == 200)
        })
        .await;
    };
    ready(&first.base).await;
    let new = serde_json::json!({"files": [{"filename": "a.png"}]});
    let created = http
        .post(format!("{}/api/v1/jobs", first.base))
        .bearer_auth("k")
        .json(&new)
        .send()
        .await
        .unwrap();
    let job: serde_json::Value = created.json().await.unwrap();
    let link = job["links"]["stream"].as_str().unwrap();
    let mut stream = open(&http, &first.base, link, None).await;
    stream.wait_for("task_queued").await;

    first.signal("TERM");
    assert_eq!(stream.next().await, None);
    assert!(first.wait().success());

    let second = GatewayProcess::start(redis.dir(), &environment);
    ready(&second.base).await;
    let report = format!(
        "{}/api/v1/jobs/{}/files/file_000/progress",
        second.base,
        job["job_id"].as_str().unwrap()
    );
    let body = serde_json::json!({"progress": 70});
    assert_eq!(http.post(report).bearer_auth("k").json(&body).send().await.unwrap().status(), 200);
    // The ticket is valid after a restart of the process that signed it.
    let mut again = open(&http, &second.base, link, Some(&stream.last_id)).await;
    assert_eq!(again.wait_for("file_update").await.data["file_progress"], 70);
}

async fn open(http: &reqwest::Client, base: &str, link: &str, after: Option<&str>) -> EventSource {
    let mut request = http.get(format!("{base}{link}"));
    if let Some(id) = after {
        request = request.header("last-event-id", id);
    }
    EventSource::new(request.send().await.unwrap(), after)
}
