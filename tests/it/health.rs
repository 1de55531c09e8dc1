//! The health report for each problem of a real Redis, and the slow log.

use std::{net::TcpListener, time::Duration};

use fred::{
    interfaces::ClientLike as _,
    types::{ClusterHash, CustomCommand},
};
use serde_json::{Value, json};

use crate::harness::{ApiResponse, Caller, TestApp, TestRedis, config, wait_until};

const SHORT_DEADLINE: &[(&str, &str)] = &[("health.deadline", "700ms")];

async fn report(app: &TestApp) -> ApiResponse {
    app.get(Caller::Anonymous, "/health").await
}

/// Waits until the report has this status and problem, and returns it.
async fn wait_for_report(app: &TestApp, status: &str, problem: &str) -> Value {
    let mut reported = Value::Null;
    wait_until(problem, async || {
        reported = report(app).await.json();
        reported["status"] == status && reported["problems"].to_string().contains(problem)
    })
    .await;
    reported
}

async fn set(redis: &TestRedis, name: &str, value: &str) {
    redis.run(0, &["CONFIG", "SET", name, value]).await;
}

/// A Redis that also listens on a TCP port.
fn with_port() -> (TestRedis, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let redis = TestRedis::start_with(&[
        "--bind",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--repl-diskless-sync-delay",
        "0",
    ]);
    (redis, port)
}

#[tokio::test]
async fn a_healthy_redis_has_no_problems_and_every_database_is_checked() {
    let app = TestApp::start().await;
    app.create_job(1).await;
    let told = report(&app).await.ok(200);
    assert_eq!((&told["status"], &told["problems"]), (&json!("healthy"), &json!([])));
    let databases = told["checks"]["databases"].as_object().unwrap();
    assert_eq!(databases.len(), 5);
    for (name, database) in databases {
        assert_eq!(
            (&database["status"], &database["writes"]),
            (&json!("ok"), &json!("ok")),
            "{name}"
        );
        assert!(database["response_time_ms"].as_f64().unwrap() > 0.0);
    }
    // Each key of the job has a TTL, and so have the report's own keys.
    assert_eq!(databases["jobs"]["keys"], databases["jobs"]["keys_with_ttl"]);
    let members = told["checks"]["topology"]["members"].clone();
    assert_eq!(members, json!([{"role": "primary", "status": "ok", "is_ours": true}]));
    for database in 0..5 {
        let ttl: i64 = app.redis.run(database, &["TTL", "i2m:health"]).await.convert().unwrap();
        assert!(ttl > 0, "{ttl}");
    }
}

#[tokio::test]
async fn a_redis_that_is_down_or_hangs_is_unhealthy_within_the_deadline() {
    let mut app = TestApp::start_with(SHORT_DEADLINE).await;
    app.redis.signal("STOP");
    // The first request detects the hang; the others already know of it.
    for _ in 0..3 {
        let response = report(&app).await;
        assert!(response.took < Duration::from_secs(2), "{:?}", response.took);
        let told = response.ok(503);
        assert_eq!(told["status"], "unhealthy");
        assert_eq!(told["checks"]["ping"]["status"], "error");
        assert_eq!(told["checks"]["databases"]["cache"]["status"], "error");
        // A restart of this process would not help, so it stays alive.
        let alive = app.get(Caller::Anonymous, "/livez").await;
        assert!(alive.took < Duration::from_millis(500), "{:?}", alive.took);
        alive.ok(200);
    }
    let mut verbose = Value::Null;
    wait_until("the service is not ready and names the failed check", async || {
        let response = app.get(Caller::Anonymous, "/readyz?verbose").await;
        verbose = response.json();
        response.status == 503 && verbose["checks"][1] == json!({"name": "redis:jobs", "ok": false})
    })
    .await;
    let checks = verbose["checks"].as_array().unwrap();
    let failed: Vec<&Value> =
        checks.iter().filter(|check| check["ok"] == false).map(|check| &check["name"]).collect();
    assert!(!failed.contains(&&json!("started")), "{failed:?}");
    app.redis.signal("CONT");
    app.wait_until_ready().await;
    wait_for_report(&app, "healthy", "[]").await;

    app.redis.kill();
    wait_for_report(&app, "unhealthy", "Redis does not answer").await;
    app.get(Caller::Anonymous, "/livez").await.ok(200);
}

#[tokio::test]
async fn low_memory_and_evictions_are_reported() {
    let app = TestApp::start_with(&[("health.memory_warning", "0.5")]).await;
    let info: String = app.redis.run(0, &["INFO", "memory"]).await.convert().unwrap();
    let used = info.lines().find_map(|line| line.trim().strip_prefix("used_memory:")).unwrap();
    let used: u64 = used.parse().unwrap();
    set(&app.redis, "maxmemory", &(used + 100_000_000).to_string()).await;
    wait_for_report(&app, "healthy", "[]").await;

    for policy in ["allkeys-lru", "volatile-ttl"] {
        set(&app.redis, "maxmemory-policy", policy).await;
        wait_for_report(&app, "degraded", "drops jobs").await;
    }
    set(&app.redis, "maxmemory-policy", "noeviction").await;
    wait_for_report(&app, "healthy", "[]").await;
    set(&app.redis, "maxmemory", &(used + used / 2).to_string()).await;
    wait_for_report(&app, "degraded", "% of its maxmemory").await;
    set(&app.redis, "maxmemory", "1").await;
    let told = wait_for_report(&app, "degraded", "out of memory").await;
    assert_eq!(told["checks"]["writes"]["status"], "error");
    assert_eq!(told["checks"]["databases"]["jobs"]["writes"], "error");
    assert_eq!(report(&app).await.status, 200);
}

#[tokio::test]
async fn a_redis_that_cannot_save_is_reported_and_still_read() {
    let app = TestApp::start_with(&[("redis.reconnect_after", "500ms")]).await;
    let job = app.create_job(1).await;
    // Connects now, because a new client sends a ping, which Redis will reject.
    let client = app.redis.client(0).await;
    let save = async || -> String {
        let save = CustomCommand::new_static("BGSAVE", ClusterHash::FirstKey, false);
        client.custom(save, Vec::<String>::new()).await.unwrap()
    };
    // A folder in place of the file, so that not even root can write it.
    std::fs::create_dir_all(app.redis.dir().join("dump.rdb/in-the-way")).unwrap();
    set(&app.redis, "save", "3600 1").await;
    app.redis.run(1, &["SET", "k", "v", "EX", "60"]).await;
    save().await;
    let told = wait_for_report(&app, "degraded", "snapshot could not be saved").await;
    // Redis itself rejects writes after a failed snapshot.
    assert_eq!(told["checks"]["persistence"]["rdb_last_bgsave_status"], "err");
    assert_eq!(told["checks"]["writes"]["error"], "Redis cannot save its data to disk");
    let new = json!({"files": [{"filename": "a.png"}]});
    app.post(Caller::Alice, "/api/v1/jobs", &new).await.problem(503, "REDIS_UNAVAILABLE");
    // Redis rejects pings, too, for longer than redis.reconnect_after.
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        app.get(Caller::Alice, crate::harness::path_of(&job)).await.ok(200);
        assert_eq!(app.get(Caller::Anonymous, "/readyz").await.status, 200);
    }
    std::fs::remove_dir_all(app.redis.dir().join("dump.rdb")).unwrap();
    save().await;
    wait_for_report(&app, "healthy", "[]").await;
    client.quit().await.unwrap();
}

#[tokio::test]
async fn a_replica_is_degraded_and_is_not_written_to() {
    let (primary, port) = with_port();
    let app = TestApp::start().await;
    app.redis.run(0, &["REPLICAOF", "127.0.0.1", &port.to_string()]).await;
    let told = wait_for_report(&app, "degraded", "is a replica").await;
    assert_eq!(told["checks"]["writes"]["error"], "this Redis is a replica");
    assert_eq!(told["checks"]["topology"]["members"][0]["role"], "replica");
    // Frequent reports do not break connections.
    for _ in 0..5 {
        report(&app).await.ok(200);
        assert_eq!(app.get(Caller::Anonymous, "/readyz").await.status, 200);
    }
    drop(primary);
    wait_for_report(&app, "degraded", "lost its primary").await;
}

#[tokio::test]
async fn replicas_that_fall_behind_are_reported() {
    let (primary, port) = with_port();
    let settings = config(&primary, &[("health.max_replication_lag", "1s")]);
    let app = TestApp::start_on(primary, settings).await;
    app.wait_until_ready().await;
    let replica = TestRedis::start();
    replica.run(0, &["REPLICAOF", "127.0.0.1", &port.to_string()]).await;
    wait_until("the replica is in sync", async || {
        let told = report(&app).await.ok(200);
        told["status"] == "healthy" && told["checks"]["topology"]["members"][1]["status"] == "ok"
    })
    .await;
    let text = report(&app).await.text;
    assert!(!text.contains("127.0.0.1") && !text.contains(&port.to_string()), "{text}");

    replica.signal("STOP");
    let told = wait_for_report(&app, "degraded", "replica 0 is lagging").await;
    assert_eq!(told["checks"]["topology"]["members"][1]["status"], "lagging");
    // With min-replicas-to-write Redis rejects writes, and the report gives the reason.
    set(&app.redis, "min-replicas-to-write", "1").await;
    set(&app.redis, "min-replicas-max-lag", "1").await;
    wait_for_report(&app, "degraded", "too few replicas are in sync").await;
    replica.signal("CONT");
    wait_for_report(&app, "healthy", "[]").await;
}

#[tokio::test]
async fn the_slow_log_is_for_admins_and_hides_secrets() {
    let app = TestApp::start().await;
    set(&app.redis, "slowlog-log-slower-than", "0").await;
    app.redis.run(4, &["SET", "cache:model:m", "hush-hush", "EX", "60"]).await;
    app.redis.run(1, &["HSET", "job:x", "params", "hush-hush"]).await;
    let job = app.create_job(1).await;
    let path = "/api/v1/admin/slow-queries";
    let told = app.get(Caller::Admin, &format!("{path}?num=100")).await.ok(200);
    let queries = told["slow_queries"].as_array().unwrap();
    let find = |command: &str| {
        let found =
            queries.iter().find(|query| query["command"].as_str().unwrap().starts_with(command));
        found.unwrap_or_else(|| panic!("no {command} in {told}"))
    };
    let set = find("SET cache:model:m");
    assert_eq!(set["command"], "SET cache:model:m <9 bytes> <2 bytes> <2 bytes>");
    assert!(set["duration_microseconds"].is_u64() && set["start_time"].is_string());
    assert!(queries.iter().any(|query| query["command"].as_str().unwrap().starts_with("EVALSHA")));
    let text = told.to_string();
    assert!(text.contains(crate::harness::id_of(&job)));
    for secret in ["hush", "picture-0.png", "quality"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let two = app.get(Caller::Admin, &format!("{path}?num=2")).await.ok(200);
    assert_eq!(two["slow_queries"].as_array().unwrap().len(), 2);
    for num in ["0", "101", "-1", "x"] {
        app.get(Caller::Admin, &format!("{path}?num={num}")).await.problem(422, "VALIDATION_ERROR");
    }
    for who in [Caller::Alice, Caller::Worker] {
        app.get(who, path).await.problem(403, "INSUFFICIENT_PERMISSIONS");
    }
    app.get(Caller::Anonymous, path).await.problem(403, "AUTHENTICATION_REQUIRED");
    app.redis.run(0, &["ACL", "SETUSER", "default", "-slowlog"]).await;
    app.get(Caller::Admin, path).await.problem(501, "NOT_PERMITTED_BY_REDIS");
}
