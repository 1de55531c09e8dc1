//! Data migrations: run once, in order, by one process, and never after a change of the file.

use serde_json::{Value, json};

use crate::harness::{Caller, GatewayProcess, TestApp, TestRedis, config, wait_until};

const OWNER: &str = "72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20";
const FIRST: &str = "0001_adopt_python_data";

async fn text(redis: &TestRedis, database: u8, command: &[&str]) -> String {
    redis.run(database, command).await.convert::<Option<String>>().unwrap().unwrap_or_default()
}

async fn ttl(redis: &TestRedis, database: u8, key: &str) -> i64 {
    redis.run(database, &["TTL", key]).await.convert().unwrap()
}

/// Creates `n` jobs as the seed's `JobStore` does, without the TTLs that its other classes remove.
async fn fill(redis: &TestRedis, n: usize) {
    const FILL: &str = "for i = 1, ARGV[1] do \
        local id = string.format('00000000-0000-4000-8000-%012d', i) \
        redis.call('HSET', 'job:' .. id, 'job_id', id, 'api_key_hash', ARGV[2], 'status', 'pending', \
            'total_files', 2, 'completed_files', 0, 'failed_files', 0, \
            'created_at', '2026-11-23T00:58:58.252605', 'updated_at', '2026-11-23T00:58:58.252611') \
        redis.call('RPUSH', 'job:' .. id .. ':files', '{\"filename\": \"a.png\"}', '{\"filename\": \"b.png\"}') \
        redis.call('SADD', 'user_jobs:' .. ARGV[2], id) \
        redis.call('SELECT', 2) \
        redis.call('SET', 'progress:' .. id .. ':file_000', 40) \
        redis.call('XADD', 'stream:progress:' .. id, '*', 'file_id', 'file_000', 'progress', 40) \
        redis.call('SELECT', 1) end";
    redis.run(1, &["EVAL", FILL, "0", &n.to_string(), OWNER]).await;
}

#[tokio::test]
async fn data_of_the_python_service_is_adopted_at_startup() {
    let redis = TestRedis::start();
    fill(&redis, 300).await;
    redis
        .run(1, &["HSET", "job:ffffffff-0000-4000-8000-000000000000", "status", "processing"])
        .await;
    redis.run(1, &["SET", "session:somebody-elses", "1"]).await;
    redis.run(4, &["INCR", "metric:jobs:count"]).await;
    let settings = config(&redis, &[("cleanup.duty_cycle", "1")]);
    let app = TestApp::start_on(redis, settings).await;
    app.wait_until_ready().await;

    for database in 1..=4 {
        for key in app.redis.keys(database).await {
            let expected = key != "session:somebody-elses";
            assert_eq!(ttl(&app.redis, database, &key).await > 0, expected, "{key}");
        }
    }
    let id = "00000000-0000-4000-8000-000000000007";
    assert_eq!(text(&app.redis, 1, &["HGET", &format!("job:{id}"), "attempt"]).await, "1");
    assert_eq!(text(&app.redis, 1, &["GET", &format!("job:{id}:status")]).await, "pending");
    assert_eq!(text(&app.redis, 1, &["GET", &format!("session:{id}")]).await, OWNER);
    assert_eq!(text(&app.redis, 2, &["GET", &format!("progress:{id}:file_000")]).await, "40");
    assert_eq!(text(&app.redis, 2, &["GET", &format!("progress:{id}:file_001")]).await, "0");
    let by_time = format!("user_jobs:{OWNER}:by_time");
    assert_eq!(text(&app.redis, 1, &["ZSCORE", &by_time, id]).await, "1795395538252");
    let n: i64 = app.redis.run(1, &["ZCARD", &by_time]).await.convert().unwrap();
    assert_eq!(n, 300);
    let page = app.get(Caller::Alice, "/api/v1/jobs?limit=50").await.ok(200);
    assert_eq!(page["jobs"].as_array().unwrap().len(), 50);
    let names = ["ZSCORE", "i2m:metrics:names", "metric:jobs:count"];
    assert!(!text(&app.redis, 4, &names).await.is_empty());
    let lives_for = ttl(&app.redis, 1, "i2m:schema").await;
    assert!(lives_for > 365 * 24 * 3600, "{lives_for}");
}

#[tokio::test]
async fn a_migration_runs_once_when_processes_start_together() {
    let redis = TestRedis::start();
    fill(&redis, 500).await;
    let configs: Vec<_> = (0..3).map(|_| config(&redis, &[("cleanup.duty_cycle", "1")])).collect();
    let mut apps = Vec::new();
    for config in configs {
        apps.push(TestApp::start_on(TestRedis::prepare(&[]), config).await);
    }
    for app in &apps {
        app.wait_until_ready().await;
    }
    let stats = text(&redis, 1, &["INFO", "commandstats"]).await;
    // Of the scripts that run at startup only a migration uses HSETNX.
    let sets = stats.lines().find(|line| line.starts_with("cmdstat_hsetnx:")).unwrap();
    assert!(sets.contains("calls=500,"), "{sets}");
    for app in apps {
        app.stop().await.unwrap();
    }
    // The next start does not run it again.
    let again = TestApp::start_on(TestRedis::prepare(&[]), config(&redis, &[])).await;
    again.wait_until_ready().await;
    let stats = text(&redis, 1, &["INFO", "commandstats"]).await;
    assert!(stats.contains(sets), "{stats}");
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_migration_is_continued_by_another_process() {
    let redis = TestRedis::start();
    fill(&redis, 2000).await;
    let slow = [redis.settings()[0], redis.settings()[1], ("I2M__CLEANUP__DUTY_CYCLE", "0.01")];
    let mut runner = GatewayProcess::command(redis.dir(), &slow).arg("migrate").spawn().unwrap();
    wait_until("the migration has made progress", async || {
        let state = text(&redis, 1, &["HGET", "i2m:schema", FIRST]).await;
        state.starts_with("running") && !state.contains(" 1:0 ")
    })
    .await;
    let app =
        TestApp::start_on(TestRedis::prepare(&[]), config(&redis, &[("cleanup.duty_cycle", "1")]))
            .await;
    wait_until("the service is connected to Redis", async || {
        app.get(Caller::Anonymous, "/startupz").await.status == 200
    })
    .await;
    let waiting = app.get(Caller::Anonymous, "/readyz?verbose").await;
    assert_eq!(waiting.status, 503, "{}", waiting.text);
    assert!(waiting.text.contains(r#"{"name":"schema","ok":false}"#), "{}", waiting.text);
    runner.kill().unwrap();
    runner.wait().unwrap();
    let left_at = text(&redis, 1, &["HGET", "i2m:schema", FIRST]).await;
    let done_before: i64 =
        redis.run(1, &["ZCARD", &format!("user_jobs:{OWNER}:by_time")]).await.convert().unwrap();
    assert!(left_at.starts_with("running") && done_before > 0, "{left_at} {done_before}");
    // Simulates the expiry of the lock.
    redis.run(1, &["DEL", "lock:i2m:schema"]).await;
    app.wait_until_ready().await;
    let n: i64 =
        redis.run(1, &["ZCARD", &format!("user_jobs:{OWNER}:by_time")]).await.convert().unwrap();
    assert_eq!(n, 2000);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_changed_migration_stops_the_start() {
    let redis = TestRedis::start();
    let app = TestApp::start_on(TestRedis::prepare(&[]), config(&redis, &[])).await;
    app.wait_until_ready().await;
    app.stop().await.unwrap();
    let other = format!("applied {} 1795395538", "ab".repeat(32));
    redis.run(1, &["HSET", "i2m:schema", FIRST, &other]).await;
    let environment =
        [redis.settings()[0], redis.settings()[1], ("I2M__SERVER__LISTEN", "127.0.0.1:0")];
    let output = GatewayProcess::output(redis.dir(), &[], &environment);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(error.contains(FIRST) && error.contains("differs from the one applied"), "{error}");
    // An unfinished migration whose file has changed is not continued.
    redis.run(1, &["HSET", "i2m:schema", FIRST, &other.replace("applied", "running")]).await;
    let output = GatewayProcess::output(redis.dir(), &["migrate"], &environment);
    assert!(!output.status.success());
}

#[tokio::test]
async fn an_older_version_runs_beside_a_newer_one() {
    let redis = TestRedis::start();
    let newer = format!("applied {} 1795395538", "cd".repeat(32));
    redis.run(1, &["HSET", "i2m:schema", "0002_of_tomorrow", &newer]).await;
    let app = TestApp::start_on(TestRedis::prepare(&[]), config(&redis, &[])).await;
    app.wait_until_ready().await;
    let environment = redis.settings();
    let output = GatewayProcess::output(redis.dir(), &["migrate", "--status"], &environment);
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("0001_adopt_python_data  applied 20"), "{said}");
    assert!(
        lines[1].starts_with("0002_of_tomorrow  applied 2026")
            && lines[1].ends_with("by a newer version"),
        "{said}"
    );
    app.stop().await.unwrap();
}

#[test]
fn the_status_changes_nothing() {
    let redis = TestRedis::start();
    let environment = redis.settings();
    for _ in 0..2 {
        let output = GatewayProcess::output(redis.dir(), &["migrate", "--status"], &environment);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "0001_adopt_python_data  pending\n");
    }
    let output = GatewayProcess::output(redis.dir(), &["migrate"], &environment);
    assert!(String::from_utf8(output.stdout).unwrap().contains("applied"));
}

#[tokio::test]
async fn the_status_of_an_embedded_redis_can_be_read() {
    let dir = tempfile::Builder::new().prefix("i2m-embedded-").tempdir().unwrap();
    let service = GatewayProcess::start(dir.path(), &[]);
    let http = reqwest::Client::new();
    let url = format!("{}/readyz", service.base);
    wait_until("the service is ready", async || {
        http.get(&url).send().await.is_ok_and(|response| response.status() == 200)
    })
    .await;
    let output = GatewayProcess::output(dir.path(), &["migrate", "--status"], &[]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("applied"));
    let output = GatewayProcess::output(dir.path(), &["cleanup"], &[]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["state"], json!("finished"));
    assert_eq!(http.get(&url).send().await.unwrap().status(), 200);
}
