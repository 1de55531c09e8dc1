//! The seed's counters and gauges: shared by processes and programs, written in batches, each change applied once.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Caller, TestApp, TestRedis, config, wait_until};

const NAME: &str = "/api/v1/metrics/models.rendered";
const COUNT: &str = "metric:models.rendered:count";

async fn add(app: &TestApp, by: u32) {
    let response = app.post(Caller::Worker, NAME, &json!({"increment": by})).await;
    assert_eq!(response.status, 202, "{}", response.text);
}

async fn stored(redis: &TestRedis, key: &str) -> Option<String> {
    redis.run(4, &["GET", key]).await.convert().unwrap()
}

#[tokio::test]
async fn processes_and_python_count_together() {
    let app = TestApp::start_with(&[("shared_metrics.flush_interval", "20ms")]).await;
    let second = TestApp::start_on(TestRedis::prepare(&[]), config(&app.redis, &[])).await;
    second.wait_until_ready().await;
    // The seed increments counters this way.
    app.redis.run(4, &["INCRBY", COUNT, "1000"]).await;
    let adds = (0..100).map(async |i| {
        add(&app, 1).await;
        add(&second, i % 3 + 1).await;
    });
    futures_util::future::join_all(adds).await;
    let sum = 1000 + 100 + (0..100).map(|i| i % 3 + 1).sum::<u32>();
    // A process reads its own changes at once, and the changes of others soon.
    second.get(Caller::Admin, NAME).await.ok(200);
    let shown = app.get(Caller::Admin, NAME).await.ok(200);
    assert_eq!(shown, json!({"name": "models.rendered", "count": f64::from(sum)}));
    assert_eq!(stored(&app.redis, COUNT).await, Some(sum.to_string()));
    let ttl: i64 = app.redis.run(4, &["TTL", COUNT]).await.convert().unwrap();
    assert!((604_700..=604_800).contains(&ttl), "{ttl}");
    let page = second.get(Caller::Anonymous, "/metrics").await.text;
    assert!(
        page.contains(&format!("i2m_shared_counter_total{{name=\"models.rendered\"}} {sum}\n"))
    );
}

#[tokio::test]
async fn a_gauge_has_the_value_written_last() {
    let app = TestApp::start().await;
    for value in [json!(3), json!(-1.5), json!(0.25)] {
        let response =
            app.post(Caller::Worker, "/api/v1/metrics/gpu", &json!({"value": value})).await;
        assert_eq!(response.status, 202);
    }
    let shown = app.get(Caller::Admin, "/api/v1/metrics/gpu").await.ok(200);
    assert_eq!(shown, json!({"name": "gpu", "value": 0.25}));
    assert_eq!(stored(&app.redis, "metric:gpu:value").await.as_deref(), Some("0.25"));
    let page = app.get(Caller::Anonymous, "/metrics").await.text;
    assert!(page.contains("i2m_shared_gauge{name=\"gpu\"} 0.25\n"));
    // Expired metrics are no longer listed.
    app.redis.run(4, &["DEL", "metric:gpu:value"]).await;
    assert!(!app.get(Caller::Anonymous, "/metrics").await.text.contains("name=\"gpu\""));
    app.get(Caller::Admin, "/api/v1/metrics/gpu").await.problem(404, "METRIC_NOT_FOUND");
}

#[rstest]
#[case::colon("a:files")]
#[case::blank("a%20b")]
#[case::quote("a%22")]
#[case::newline("a%0Ab")]
#[case::unicode("%C3%BC")]
#[tokio::test]
async fn a_name_is_checked(#[case] name: &str) {
    let app = TestApp::start().await;
    let path = format!("/api/v1/metrics/{name}");
    app.post(Caller::Worker, &path, &json!({"increment": 1}))
        .await
        .problem(422, "VALIDATION_ERROR");
    app.get(Caller::Admin, &path).await.problem(422, "VALIDATION_ERROR");
}

#[tokio::test]
async fn invalid_changes_and_unauthorized_callers_are_rejected() {
    let app = TestApp::start_with(&[
        ("shared_metrics.max_names", "2"),
        ("shared_metrics.flush_interval", "1m"),
    ])
    .await;
    let bodies = [
        json!({}),
        json!({"increment": 0}),
        json!({"increment": -1}),
        json!({"increment": 1.5}),
        json!({"increment": 1_000_000_001}),
        json!({"value": "1"}),
        json!({"increment": 1, "value": 1}),
        json!({"decrement": 1}),
    ];
    for body in bodies {
        app.post(Caller::Worker, NAME, &body).await.problem(422, "VALIDATION_ERROR");
    }
    for who in [Caller::Alice, Caller::Admin] {
        app.post(who, NAME, &json!({"increment": 1}))
            .await
            .problem(403, "INSUFFICIENT_PERMISSIONS");
    }
    app.get(Caller::Worker, NAME).await.problem(403, "INSUFFICIENT_PERMISSIONS");
    // The maximum number of pending names; further changes of the same names are accepted.
    for name in ["a", "b", "a"] {
        let path = format!("/api/v1/metrics/{name}");
        assert_eq!(app.post(Caller::Worker, &path, &json!({"increment": 1})).await.status, 202);
    }
    let full = app.post(Caller::Worker, "/api/v1/metrics/c", &json!({"increment": 1})).await;
    full.problem(503, "SERVICE_BUSY");
    assert_eq!(app.get(Caller::Admin, "/api/v1/metrics/a").await.ok(200)["count"], json!(2.0));
}

#[tokio::test]
async fn an_outage_loses_nothing() {
    let mut app = TestApp::start_with(&[("shared_metrics.flush_interval", "20ms")]).await;
    add(&app, 1).await;
    app.get(Caller::Admin, NAME).await.ok(200);
    app.redis.kill();
    for _ in 0..50 {
        add(&app, 2).await;
    }
    app.get(Caller::Admin, NAME).await.problem(503, "REDIS_UNAVAILABLE");
    add(&app, 4).await;
    app.redis.start_again();
    app.wait_until_ready().await;
    wait_until("all changes are applied", async || {
        stored(&app.redis, COUNT).await.as_deref() == Some("105")
    })
    .await;
}

#[tokio::test]
async fn a_batch_whose_response_was_lost_counts_once() {
    let settings = [("shared_metrics.flush_interval", "20ms"), ("redis.command_timeout", "150ms")];
    let app = TestApp::start_with(&settings).await;
    add(&app, 1).await;
    app.get(Caller::Admin, NAME).await.ok(200);
    // Redis delays writes beyond the service's timeout and executes them afterwards.
    app.redis.run(4, &["CLIENT", "PAUSE", "1000", "WRITE"]).await;
    add(&app, 10).await;
    wait_until("a batch failed", async || {
        let page = app.get(Caller::Anonymous, "/metrics").await.text;
        !page.contains("i2m_shared_metrics_flush_failures_total 0\n")
    })
    .await;
    add(&app, 100).await;
    wait_until("all changes are applied", async || {
        app.get(Caller::Admin, NAME).await.json()["count"] == json!(111.0)
    })
    .await;
    // Redis has now executed the delayed copies, too: this request was queued behind them.
    app.get(Caller::Admin, NAME).await.ok(200);
    assert_eq!(stored(&app.redis, COUNT).await.as_deref(), Some("111"));
}

#[tokio::test]
async fn a_stop_flushes_pending_changes() {
    let app = TestApp::start_with(&[("shared_metrics.flush_interval", "1m")]).await;
    // The first flush has happened at startup; no further flush is due.
    add(&app, 7).await;
    app.get(Caller::Admin, NAME).await.ok(200);
    add(&app, 5).await;
    let redis = app.stop_keeping_redis().await;
    assert_eq!(stored(&redis, COUNT).await.as_deref(), Some("12"));
}

#[tokio::test]
async fn a_key_of_another_type_does_not_block_the_others() {
    let app = TestApp::start_with(&[("shared_metrics.flush_interval", "20ms")]).await;
    app.redis.run(4, &["LPUSH", "metric:bad:count", "message", "subscribe"]).await;
    app.redis.run(4, &["SET", "metric:worse:count", "message"]).await;
    for name in ["bad", "models.rendered", "worse"] {
        let path = format!("/api/v1/metrics/{name}");
        assert_eq!(app.post(Caller::Worker, &path, &json!({"increment": 3})).await.status, 202);
    }
    wait_until("the valid metric is updated", async || {
        stored(&app.redis, COUNT).await.as_deref() == Some("3")
    })
    .await;
    wait_until("the failure is logged", async || {
        let page = app.get(Caller::Anonymous, "/metrics").await.text;
        page.contains("i2m_shared_metrics_dropped_total 2\n")
    })
    .await;
    for name in ["bad", "worse"] {
        app.get(Caller::Admin, &format!("/api/v1/metrics/{name}"))
            .await
            .problem(404, "METRIC_NOT_FOUND");
    }
    let other: Value = app.get(Caller::Admin, NAME).await.ok(200);
    assert_eq!(other["count"], json!(3.0));
    tokio::time::timeout(Duration::from_secs(5), app.stop()).await.unwrap().unwrap();
}
