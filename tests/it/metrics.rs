//! `/metrics`: its values, its match with the documentation, and its independence of Redis.

use std::{collections::BTreeSet, path::Path};

use reqwest::Method;
use serde_json::json;

use crate::{
    cleanup::{PATH, clean},
    harness::{
        ApiResponse, Caller, TestApp, TestRedis, config, is_on_cluster, path_of, wait_until,
    },
};

/// The page as Prometheus reads it.
async fn page(app: &TestApp) -> String {
    let response = app.get(Caller::Anonymous, "/metrics").await;
    assert_eq!(response.status, 200, "{}", response.text);
    response.text
}

/// The values of a metric's samples that have all `labels`, in the form `name="value"`.
fn samples<'a>(page: &'a str, metric: &str, labels: &[&str]) -> impl Iterator<Item = &'a str> {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix(metric)?;
        let is_it = rest.starts_with(['{', ' ']) && labels.iter().all(|label| line.contains(label));
        is_it.then(|| line.rsplit_once(' ').unwrap().1)
    })
}

/// The sum of integer samples.
fn sum(page: &str, metric: &str, labels: &[&str]) -> u64 {
    samples(page, metric, labels).map(|value| value.parse::<u64>().unwrap()).sum()
}

/// The names of the metrics that the page declares.
fn declared(page: &str) -> BTreeSet<&str> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[tokio::test]
async fn exactly_the_documented_metrics_exist() {
    let app = TestApp::start_with(&[("celery.enabled", "true")]).await;
    app.get(Caller::Anonymous, "/nothing").await;
    for body in [json!({"increment": 1}), json!({"value": 1})] {
        assert_eq!(app.post(Caller::Worker, "/api/v1/metrics/m", &body).await.status, 202);
    }
    app.get(Caller::Admin, "/api/v1/metrics/m").await.ok(200);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let documented: BTreeSet<&str> =
        text.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    let page = page(&app).await;
    assert_eq!(declared(&page), documented);
    // The last cell of each row is the HELP text.
    for line in page.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').unwrap();
        let row = text.lines().find(|row| row.starts_with(&format!("| `{name}` |"))).unwrap();
        let description = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let description = description.trim_start_matches("| ");
        assert_eq!(description, help.trim_end_matches('.'), "{name} in docs/METRICS.md");
    }
    for name in documented {
        assert!(name.starts_with("i2m_") || name.starts_with("process_"), "{name}");
    }
}

#[tokio::test]
async fn both_text_formats_are_served() {
    let app = TestApp::start().await;
    let plain = app.get(Caller::Anonymous, "/metrics").await;
    assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(plain.text.contains("# TYPE i2m_jobs_created_total counter\n"));
    assert!(!plain.text.contains("# EOF"));
    let request = app.request(Caller::Anonymous, Method::GET, "/metrics");
    let open =
        ApiResponse::send(request.header("accept", "application/openmetrics-text;version=1.0.0"))
            .await;
    assert!(open.header("content-type").starts_with("application/openmetrics-text"));
    assert!(open.text.contains("# TYPE i2m_jobs_created counter\n"));
    assert!(open.text.ends_with("# EOF\n"));
    assert_eq!(app.get(Caller::Anonymous, "/api/v1/health/metrics").await.status, 200);
}

#[tokio::test]
async fn requests_are_measured_by_route_and_never_by_id() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    for _ in 0..3 {
        app.get(Caller::Alice, path_of(&job)).await.ok(200);
    }
    app.get(Caller::Bob, path_of(&job)).await.problem(404, "JOB_NOT_FOUND");
    app.get(Caller::Anonymous, "/some/where").await.problem(404, "NOT_FOUND");
    let odd = Method::from_bytes(b"BREW").unwrap();
    app.send(Caller::Anonymous, odd, "/coffee", &json!({})).await.problem(404, "NOT_FOUND");

    let page = page(&app).await;
    let count = "i2m_http_request_duration_seconds_count";
    let route = "route=\"/api/v1/jobs/{job_id}\"";
    assert_eq!(sum(&page, count, &[route, "method=\"GET\"", "status=\"2xx\""]), 3);
    assert_eq!(sum(&page, count, &[route, "method=\"GET\"", "status=\"4xx\""]), 1);
    assert_eq!(sum(&page, count, &["route=\"none\""]), 2);
    assert_eq!(sum(&page, count, &["route=\"none\"", "method=\"other\""]), 1);
    assert_eq!(sum(&page, "i2m_http_problems_total", &["code=\"JOB_NOT_FOUND\""]), 1);
    // The request for the page itself.
    assert_eq!(sum(&page, "i2m_http_requests_in_flight", &[]), 1);
    for secret in [crate::harness::id_of(&job), "coffee", "BREW", "some/where"] {
        assert!(!page.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn rejected_requests_are_counted_by_reason() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.get(Caller::Anonymous, path_of(&job)).await.problem(403, "AUTHENTICATION_REQUIRED");
    let wrong = app.http.get(format!("{}{}", app.base, path_of(&job))).bearer_auth("wrong");
    ApiResponse::send(wrong).await.problem(403, "INVALID_API_KEY");
    let stream = format!("{}/progress/stream?ticket=wrong", path_of(&job));
    app.get(Caller::Anonymous, &stream).await.problem(403, "INVALID_API_KEY");
    app.post(Caller::Worker, "/api/v1/jobs", &json!({}))
        .await
        .problem(403, "INSUFFICIENT_PERMISSIONS");
    let page = page(&app).await;
    for (reason, times) in [("no_key", 1), ("invalid_credential", 2), ("wrong_role", 1)] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(sum(&page, "i2m_auth_failures_total", &[&label]), times, "{reason}");
    }
}

#[tokio::test]
async fn jobs_are_measured_where_they_begin_and_end() {
    let app = TestApp::start().await;
    let (done, failed, half, gone) = (
        app.create_job(1).await,
        app.create_job(1).await,
        app.create_job(2).await,
        app.create_job(1).await,
    );
    app.report(&done, 0, &json!({"progress": 10})).await.ok(200);
    app.complete(&done, 0).await.ok(200);
    app.complete(&done, 0).await.ok(200);
    app.fail(&failed, 0, "no mesh").await.ok(200);
    app.complete(&half, 0).await.ok(200);
    app.fail(&half, 1, "no mesh").await.ok(200);
    app.post(Caller::Alice, gone["links"]["cancel"].as_str().unwrap(), &json!({})).await.ok(200);
    let retry = format!("{}/retry", path_of(&failed));
    app.post(Caller::Alice, &retry, &json!({})).await.ok(200);
    app.complete(&failed, 0).await.ok(200);

    let page = page(&app).await;
    assert_eq!(sum(&page, "i2m_jobs_created_total", &[]), 4);
    let ends = [("completed", 2), ("failed", 1), ("partial", 1), ("cancelled", 1)];
    for (status, times) in ends {
        let label = format!("status=\"{status}\"");
        assert_eq!(sum(&page, "i2m_jobs_ended_total", &[&label]), times, "{status}");
    }
    // The wait of the second attempt after a retry is not a job's wait for its first start. A job that was cancelled
    // before its start did not run.
    assert_eq!(sum(&page, "i2m_job_wait_seconds_count", &[]), 3);
    assert_eq!(sum(&page, "i2m_job_run_seconds_count", &[]), 4);
    for metric in ["i2m_job_wait_seconds_sum", "i2m_job_run_seconds_sum"] {
        let secs: f64 = samples(&page, metric, &[]).next().unwrap().parse().unwrap();
        assert!(secs > 0.0 && secs < 60.0, "{secs}");
    }
}

#[tokio::test]
async fn locks_and_the_cache_are_counted() {
    let app = TestApp::start().await;
    // The service has acquired its own locks before.
    let before = page(&app).await;
    let lock = app.post(Caller::Worker, "/api/v1/locks/a", &json!({"ttl_secs": 10})).await.ok(201);
    app.post(Caller::Worker, "/api/v1/locks/a", &json!({"ttl_secs": 10}))
        .await
        .problem(409, "LOCK_UNAVAILABLE");
    let release = format!("/api/v1/locks/a?token={}", lock["token"].as_str().unwrap());
    for _ in 0..2 {
        app.send(Caller::Worker, Method::DELETE, &release, &json!({})).await;
    }
    let job = app.create_job(1).await;
    for _ in 0..3 {
        app.get(Caller::Alice, &format!("{}/status", path_of(&job))).await.ok(200);
    }
    let page = page(&app).await;
    let more =
        |metric: &str, labels: &[&str]| sum(&page, metric, labels) - sum(&before, metric, labels);
    for outcome in ["acquired", "unavailable", "released", "lost"] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(more("i2m_lock_operations_total", &[&label]), 1, "{outcome}");
    }
    assert_eq!(more("i2m_lock_wait_seconds_count", &[]), 2);
    assert_eq!(sum(&page, "i2m_cache_lookups_total", &["outcome=\"miss\""]), 1);
    assert_eq!(sum(&page, "i2m_cache_lookups_total", &["outcome=\"hit\""]), 2);
}

#[tokio::test]
async fn cleanups_are_counted_and_every_process_knows_the_last() {
    const LAST: &str = "i2m_cleanup_last_finished_timestamp_seconds";
    let app = TestApp::start().await;
    clean(&app, "?dry_run=true").await;
    let changes = |page: &str| sum(page, "i2m_cleanup_changes_total", &["change=\"adopted\""]);
    let before = page(&app).await;
    assert_eq!((sum(&before, "i2m_cleanups_total", &[]), sum(&before, LAST, &[])), (0, 0));
    app.redis.run(1, &["SET", "lock:job:x", "token"]).await;
    clean(&app, "").await;
    let after = page(&app).await;
    assert_eq!(sum(&after, "i2m_cleanups_total", &["outcome=\"finished\""]), 1);
    assert_eq!(sum(&after, "i2m_cleanups_total", &[]), 1);
    assert_eq!(changes(&after), 1);
    let at = sum(&after, LAST, &[]);
    assert!(at > 0);

    let settings = config(&app.redis, &[]);
    let other = TestApp::start_on(TestRedis::prepare(&[]), settings).await;
    other.wait_until_ready().await;
    other.get(Caller::Admin, PATH).await.ok(200);
    assert_eq!(sum(&page(&other).await, LAST, &[]), at);
    other.stop().await.unwrap();
}

#[tokio::test]
async fn open_streams_are_counted() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = app.follow(&job, None).await;
        stream.wait_for("task_queued").await;
        streams.push(stream);
    }
    assert_eq!(sum(&page(&app).await, "i2m_sse_streams_open", &[]), 3);
    drop(streams);
    wait_until("the streams are closed", async || {
        sum(&page(&app).await, "i2m_sse_streams_open", &[]) == 0
    })
    .await;
}

#[tokio::test]
async fn streams_count_delivered_events_and_close_reasons() {
    let app =
        TestApp::start_with(&[("sse.ring_length", "2"), ("sse.reconcile_interval", "20ms")]).await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    let first = stream.wait_for("task_queued").await;
    for percent in 1..=5 {
        app.report(&job, 0, &json!({"progress": percent})).await.ok(200);
    }
    while stream.wait_for("file_update").await.data["file_progress"] != 5 {}
    drop(app.follow(&job, Some(&stream.last_id)).await);
    let mut again = app.follow(&job, Some(&first.id)).await;
    app.complete(&job, 0).await.ok(200);
    again.wait_for("task_completed").await;
    stream.wait_for("task_completed").await;
    let closes = async |reason: &str| {
        sum(&page(&app).await, "i2m_sse_closes_total", &[&format!("reason=\"{reason}\"")])
    };
    wait_until("both have ended", async || closes("job_over").await == 2).await;
    wait_until("one client has disconnected", async || closes("client_gone").await == 1).await;
    let page = page(&app).await;
    let resumed =
        |source: &str| sum(&page, "i2m_sse_resumes_total", &[&format!("source=\"{source}\"")]);
    assert_eq!((resumed("ring"), resumed("xrange"), resumed("resync")), (1, 1, 0));
    // The first received the start, five reports, the result and the end; the second all of these except the first.
    assert!(sum(&page, "i2m_sse_events_delivered_total", &[]) >= 8 + 7);
    assert!(sum(&page, "i2m_sse_wake_to_write_seconds_count", &[]) > 0);
}

#[tokio::test]
async fn rate_limit_decisions_are_counted() {
    let policy =
        "[[rate_limit.policies]]\nname = \"key\"\nscope = \"key\"\nlimit = 2\nwindow = \"1h\"\n";
    let redis = crate::harness::TestRedis::start();
    let config = crate::harness::config_with(&redis, &[("rate_limit.deadline", "5s")], policy);
    let app = TestApp::start_on(redis, config).await;
    app.wait_until_ready().await;
    for _ in 0..5 {
        app.get(Caller::Alice, "/api/v1/jobs").await;
    }
    app.get(Caller::Admin, "/api/v1/admin/queues").await.ok(200);
    let page = page(&app).await;
    for (verdict, times) in [("admitted", 2), ("refused", 3), ("unlimited", 1)] {
        let label = format!("verdict=\"{verdict}\"");
        assert_eq!(sum(&page, "i2m_rate_limit_verdicts_total", &[&label]), times, "{verdict}");
    }
    assert_eq!(sum(&page, "i2m_rate_limit_degraded_total", &[]), 0);
}

#[tokio::test]
async fn the_metrics_page_works_without_redis_and_reports_the_outage() {
    let mut app = TestApp::start().await;
    app.create_job(1).await;
    let before = page(&app).await;
    let (calls, jobs) = ("i2m_redis_call_duration_seconds_count", "database=\"jobs\"");
    assert!(sum(&before, calls, &[jobs, "outcome=\"answered\""]) >= 1);
    // Calls at startup may have preceded the connections.
    let refused_before = sum(&before, calls, &["outcome=\"not_connected\""]);
    // In a cluster all databases share the connections to a node.
    let pool = if is_on_cluster() { "database=\"cluster\"" } else { jobs };
    let wanted = sum(&before, "i2m_redis_connections", &[pool]);
    assert!(wanted > 0);
    wait_until("all connections are up", async || {
        sum(&page(&app).await, "i2m_redis_connections_up", &[pool]) == wanted
    })
    .await;

    app.redis.kill();
    wait_until("no connection is up", async || {
        sum(&page(&app).await, "i2m_redis_connections_up", &[]) == 0
    })
    .await;
    app.get(Caller::Alice, "/api/v1/jobs").await.problem(503, "REDIS_UNAVAILABLE");
    let during = page(&app).await;
    assert!(sum(&during, calls, &["outcome=\"not_connected\""]) > refused_before);
    assert!(sum(&during, "i2m_redis_connections_lost_total", &[pool]) >= wanted);
    assert!(sum(&during, "i2m_incomplete_scrapes_total", &[]) >= 1);
    assert!(sum(&during, "i2m_rate_limit_degraded_total", &[]) >= 1);

    app.redis.start_again();
    wait_until("all connections are up again", async || {
        sum(&page(&app).await, "i2m_redis_connections_up", &[pool]) == wanted
    })
    .await;
    wait_until("no call is in flight", async || {
        sum(&page(&app).await, "i2m_redis_calls_in_flight", &[]) == 0
    })
    .await;
}
