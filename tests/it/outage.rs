//! Outages of Redis: it is down, hangs, or has lost its data.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Caller, GatewayProcess, TestApp, TestRedis, config, id_of, path_of, wait_until,
};

/// The longest duration of a request without Redis: the command timeout plus a margin for a busy machine.
const BOUND: Duration = Duration::from_secs(3);

#[tokio::test]
async fn requests_fail_fast_during_an_outage_and_recover_after_it() {
    let mut app = TestApp::start().await;
    let (job, other) = (app.create_job(1).await, app.create_job(1).await);
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    app.report(&job, 0, &json!({"progress": 10})).await.ok(200);
    stream.wait_for("task_progress").await;

    app.redis.kill();
    for _ in 0..5 {
        let refused = app.get(Caller::Alice, path_of(&job)).await;
        assert!(refused.took < BOUND, "{:?}", refused.took);
        assert_eq!(refused.header("retry-after"), "1");
        refused.problem(503, "REDIS_UNAVAILABLE");
    }
    assert_eq!(app.get(Caller::Anonymous, "/livez").await.status, 200);
    assert_eq!(app.get(Caller::Anonymous, "/readyz").await.status, 503);
    let report = app.get(Caller::Anonymous, "/health").await.ok(503);
    assert_eq!(report["status"], "unhealthy");
    // A new client gets the state of a watched job from memory, and for another job only a retry time.
    assert_eq!(app.follow(&job, None).await.next().await.unwrap().data["progress"], 10);
    let mut late = app.follow(&other, None).await;
    assert_eq!((late.response.status().as_u16(), late.next().await), (200, None));
    assert!(late.retry_ms.is_some());

    app.redis.start_again();
    app.wait_until_ready().await;
    for percent in [20, 30] {
        app.report(&job, 0, &json!({"progress": percent})).await.ok(200);
        let event = stream.wait_for("file_update").await;
        assert_eq!(event.data["file_progress"], percent);
    }
    app.complete(&job, 0).await.ok(200);
    stream.wait_for("task_completed").await;
}

#[tokio::test]
async fn a_hung_redis_is_detected_and_recovers() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.redis.signal("STOP");
    // Further requests must not delay the detection of the hang.
    wait_until("requests are rejected without waiting", async || {
        let response = app.get(Caller::Alice, path_of(&job)).await;
        assert!(response.took < BOUND, "{:?}", response.took);
        response.status == 503 && response.took < Duration::from_millis(100)
    })
    .await;
    assert_eq!(app.get(Caller::Anonymous, "/readyz").await.status, 503);
    app.redis.signal("CONT");
    app.wait_until_ready().await;
    app.get(Caller::Alice, path_of(&job)).await.ok(200);
}

#[tokio::test]
async fn events_of_other_writers_during_an_outage_of_the_reader_are_not_lost() {
    let mut app = TestApp::start().await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    app.redis.kill();
    app.redis.start_again();
    // The service is not connected again yet and receives no notification of these events.
    let key = format!("stream:progress:{}", id_of(&job));
    for percent in ["10", "20", "30"] {
        let add = [
            "XADD",
            key.as_str(),
            "*",
            "file_id",
            "file_000",
            "progress",
            percent,
            "timestamp",
            "x",
        ];
        app.redis.run(2, &add).await;
    }
    for percent in [10, 20, 30] {
        assert_eq!(stream.wait_for("file_update").await.data["file_progress"], percent);
    }
}

#[tokio::test]
async fn streams_are_resynchronised_after_redis_lost_its_data() {
    let mut app = TestApp::start_with(&[("sse.status_check_interval", "50ms")]).await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    app.redis.kill();
    app.redis.delete_data();
    app.redis.start_again();
    assert_eq!(stream.wait_for("task_failed").await.data["status"], "expired");
}

#[tokio::test]
async fn scripts_missing_from_redis_are_loaded_again() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.redis.run(0, &["SCRIPT", "FLUSH"]).await;
    app.report(&job, 0, &json!({"progress": 10})).await.ok(200);
    app.get(Caller::Alice, path_of(&job)).await.ok(200);
}

#[tokio::test]
async fn a_service_starts_before_its_redis() {
    let redis = TestRedis::prepare(&[]);
    let config = config(&redis, &[]);
    let mut app = TestApp::start_on(redis, config).await;
    assert_eq!(app.get(Caller::Anonymous, "/startupz").await.status, 503);
    app.post(Caller::Alice, "/api/v1/jobs", &json!({"files": [{"filename": "a"}]}))
        .await
        .problem(503, "REDIS_UNAVAILABLE");
    app.redis.start_again();
    app.wait_until_ready().await;
    app.create_job(1).await;
    assert_eq!(app.get(Caller::Anonymous, "/startupz").await.status, 200);
}

#[tokio::test]
async fn a_full_redis_is_reported_as_full() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.redis.run(0, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let new = json!({"files": [{"filename": "a"}]});
    app.post(Caller::Alice, "/api/v1/jobs", &new).await.problem(503, "REDIS_UNAVAILABLE");
    let report = app.get(Caller::Anonymous, "/health").await.ok(200);
    assert_eq!(report["status"], "degraded");
    assert_eq!(report["checks"]["writes"]["error"], "Redis is out of memory");
    app.get(Caller::Alice, path_of(&job)).await;
}

#[tokio::test]
async fn a_key_of_a_wrong_type_fails_one_request_and_leaves_no_partial_job() {
    let app = TestApp::start().await;
    let owner = "72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20";
    app.redis.run(1, &["SET", &format!("user_jobs:{owner}"), "not a set"]).await;
    let new = json!({"files": [{"filename": "a"}]});
    let problem = app.post(Caller::Alice, "/api/v1/jobs", &new).await.problem(500, "INTERNAL");
    assert!(!problem.to_string().contains("WRONGTYPE"));
    assert_eq!(app.redis.keys(1).await, [format!("user_jobs:{owner}")]);
}

#[tokio::test]
async fn an_evicting_redis_is_refused_if_configured() {
    let redis = TestRedis::start();
    redis.run(0, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let mut environment = redis.settings().to_vec();
    let warned = GatewayProcess::start(redis.dir(), &environment);
    wait_until("the service is ready nevertheless", async || {
        reqwest::get(format!("{}/readyz", warned.base)).await.unwrap().status() == 200
    })
    .await;
    environment.push(("I2M__REDIS__ON_UNSAFE_EVICTION_POLICY", "refuse"));
    let mut refused = GatewayProcess::start(redis.dir(), &environment);
    assert!(!refused.wait().success());
    environment.push(("I2M__REDIS__ALLOWED_EVICTION_POLICIES", "noeviction,allkeys-lru"));
    let allowed = GatewayProcess::start(redis.dir(), &environment);
    wait_until("the service is ready", async || {
        reqwest::get(format!("{}/readyz", allowed.base)).await.unwrap().status() == 200
    })
    .await;
}
