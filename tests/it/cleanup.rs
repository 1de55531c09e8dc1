//! The cleanup: the keys that it adopts, removes, prunes and leaves alone, in every database.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{
    Caller, GatewayProcess, TIMEOUT, TestApp, TestRedis, config, id_of, is_on_cluster, path_of,
    wait_until,
};

pub(crate) const PATH: &str = "/api/v1/admin/cleanup";
/// The id of a job that does not exist, and the hash of an owner.
const GONE: &str = "00000000-0000-4000-8000-000000000000";
const OWNER: &str = "72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20";
const LONG_AGO: &str = "2020-01-01T00:00:00";

/// Runs a cleanup and returns its report.
pub(crate) async fn clean(app: &TestApp, query: &str) -> Value {
    let begun = app.post(Caller::Admin, &format!("{PATH}{query}"), &json!({})).await;
    assert_eq!(begun.header("location"), PATH, "{}", begun.text);
    let begun = begun.ok(202);
    let mut report = Value::Null;
    wait_until("the cleanup ends", async || {
        report = app.get(Caller::Admin, PATH).await.ok(200);
        report["state"] != "running"
    })
    .await;
    assert_eq!((&report["id"], &report["state"]), (&begun["id"], &json!("finished")), "{report}");
    report
}

async fn number(redis: &TestRedis, database: u8, command: &[&str]) -> i64 {
    redis.run(database, command).await.convert().unwrap()
}

/// Sets the idle time of a key to `secs`.
async fn idle(redis: &TestRedis, database: u8, key: &str, secs: &str) {
    const AGE: &str = "local ttl = math.max(redis.call('PTTL', KEYS[1]), 0) \
        return redis.call('RESTORE', KEYS[1], ttl, redis.call('DUMP', KEYS[1]), 'REPLACE', 'IDLETIME', ARGV[1])";
    redis.run(database, &["EVAL", AGE, "1", key, secs]).await;
}

async fn exists(redis: &TestRedis, database: u8, key: &str) -> bool {
    number(redis, database, &["EXISTS", key]).await == 1
}

#[tokio::test]
async fn keys_without_a_ttl_get_the_ttl_of_their_kind() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let id = id_of(&job);
    let left = [
        (1, format!("job:{id}"), "job", 86_400),
        (1, format!("job:{id}:files"), "job_files", 86_400),
        (1, format!("session:{id}"), "session", 86_400),
        (1, format!("user_jobs:{OWNER}"), "user_jobs", 86_400),
        (2, format!("progress:{id}:file_000"), "progress", 86_400),
        (2, format!("stream:progress:{id}"), "stream", 86_400),
    ];
    for (database, key, ..) in &left {
        app.redis.run(*database, &["PERSIST", key]).await;
    }
    let ghost = format!("job:{GONE}");
    app.redis
        .run(1, &["HSET", &ghost, "status", "processing", "updated_at", "2999-01-01T00:00:00"])
        .await;
    app.redis.run(1, &["SET", "lock:job:x", "token"]).await;
    app.redis.run(2, &["SET", &format!("progress:{GONE}:a.png"), "40"]).await;
    app.redis.run(3, &["SET", "rl:key:abc", "6000"]).await;
    app.redis.run(4, &["SET", "cache:model:chair", "{}"]).await;
    app.redis.run(4, &["SADD", "tag:chairs", "cache:model:chair"]).await;
    app.redis.run(4, &["INCR", "metric:jobs:count"]).await;
    app.redis.run(4, &["SET", "metric:queue:value", "3"]).await;
    let more = [
        (1, ghost, "job", 86_400),
        (1, "lock:job:x".to_owned(), "lock", 3600),
        (2, format!("progress:{GONE}:a.png"), "progress", 86_400),
        (3, "rl:key:abc".to_owned(), "rate_limit", 1),
        (4, "cache:model:chair".to_owned(), "cached_model", 86_400),
        (4, "tag:chairs".to_owned(), "tag", 86_400),
        (4, "metric:jobs:count".to_owned(), "counter", 604_800),
        (4, "metric:queue:value".to_owned(), "gauge", 604_800),
    ];
    let all: Vec<_> = left.into_iter().chain(more).collect();

    let report = clean(&app, "").await;
    assert_eq!(report["totals"]["adopted"], all.len());
    assert_eq!((&report["totals"]["removed"], &report["totals"]["pruned"]), (&json!(0), &json!(0)));
    for (database, key, family, secs) in all {
        let ttl = number(&app.redis, database, &["TTL", &key]).await;
        // -2: the key with a TTL of a second has expired.
        assert!((secs - 60..=secs).contains(&ttl) || (secs == 1 && ttl == -2), "{key}: {ttl}");
        let counts = &report["families"][family][database.to_string()];
        assert!(counts["adopted"].as_u64() >= Some(1), "{family}: {report}");
    }
    let again = clean(&app, "").await;
    assert_eq!(again["totals"]["adopted"], 0);
}

#[rstest]
#[case::naive("2020-01-01T00:00:00.123456")]
#[case::no_fraction("2020-01-01T00:00:00")]
#[case::utc("2020-01-01T00:00:00.123456Z")]
#[case::offset("2020-01-01T00:00:00+02:00")]
#[tokio::test]
async fn an_old_job_is_removed_completely(#[case] updated_at: &str) {
    let app = TestApp::start().await;
    let (old, young) = (app.create_job(3).await, app.create_job(1).await);
    app.report(&old, 1, &json!({"progress": 10})).await.ok(200);
    app.complete(&old, 0).await.ok(200);
    app.get(Caller::Alice, &format!("{}/status", path_of(&old))).await.ok(200);
    let key = format!("job:{}", id_of(&old));
    app.redis.run(1, &["HSET", &key, "updated_at", updated_at, "created_at", LONG_AGO]).await;
    let mut of_old = Vec::new();
    for database in [1, 2, 4] {
        let keys = app.redis.keys(database).await;
        of_old.extend(keys.into_iter().filter(|key| key.contains(id_of(&old))));
    }

    for query in ["?dry_run=true", ""] {
        let report = clean(&app, query).await;
        assert_eq!(report["totals"]["removed"], of_old.len(), "{report}");
        assert_eq!(report["families"]["progress"]["2"]["removed"], 3);
        // In a cluster the next read of the owner's list removes it from there.
        let list_count = u8::from(!is_on_cluster());
        for family in ["user_jobs", "user_jobs_by_time"] {
            assert_eq!(report["families"][family]["1"]["pruned"], list_count);
        }
        let status = app.get(Caller::Alice, path_of(&old)).await.status;
        assert_eq!(status, if query.is_empty() { 404 } else { 200 });
    }
    for database in [1, 2, 4] {
        let keys = app.redis.keys(database).await;
        assert!(!keys.iter().any(|key| key.contains(id_of(&old))), "{keys:?}");
    }
    app.get(Caller::Alice, path_of(&young)).await.ok(200);
    let listed = app.get(Caller::Alice, "/api/v1/jobs").await.ok(200);
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn unused_keys_of_deleted_jobs_are_removed() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let id = id_of(&job);
    let young = "11111111-1111-4111-8111-111111111111";
    app.redis.run(1, &["SADD", &format!("user_jobs:{OWNER}"), GONE, "not-a-uuid"]).await;
    app.redis.run(1, &["ZADD", &format!("user_jobs:{OWNER}:by_time"), "1", GONE]).await;
    app.redis.run(1, &["RPUSH", &format!("job:{GONE}:files"), "{}"]).await;
    app.redis.run(1, &["SET", &format!("job:{GONE}:file:file_000"), "{}", "EX", "86400"]).await;
    app.redis.run(1, &["SET", &format!("session:{GONE}"), OWNER, "EX", "86400"]).await;
    app.redis
        .run(2, &["SET", &format!("progress:{GONE}:file_000"), "no number", "EX", "86400"])
        .await;
    app.redis.run(2, &["SET", &format!("progress:{young}:file_000"), "1", "EX", "86400"]).await;
    app.redis
        .run(2, &["XADD", &format!("stream:progress:{GONE}"), "1600000000000-0", "a", "b"])
        .await;
    app.redis.run(2, &["XADD", &format!("stream:progress:{young}"), "*", "a", "b"]).await;
    app.redis.run(4, &["SET", &format!("cache:status:{GONE}"), "{}", "EX", "86400"]).await;
    app.redis.run(4, &["SADD", "tag:t", "cache:gone", "cache:here"]).await;
    app.redis.run(4, &["SADD", "tag:empty", "cache:gone"]).await;
    app.redis.run(4, &["SET", "cache:here", "1", "EX", "86400"]).await;
    let doomed = [
        (1, format!("job:{GONE}:files")),
        (1, format!("job:{GONE}:file:file_000")),
        (1, format!("session:{GONE}")),
        (2, format!("progress:{GONE}:file_000")),
        (4, format!("cache:status:{GONE}")),
    ];
    for (database, key) in &doomed {
        idle(&app.redis, *database, key, "4000").await;
    }
    // Small numbers are shared objects without an idle time; most of this key's TTL has passed.
    app.redis.run(2, &["SET", &format!("progress:{GONE}:file_001"), "1", "EX", "80000"]).await;

    let report = clean(&app, "").await;
    assert!(!exists(&app.redis, 2, &format!("progress:{GONE}:file_001")).await);
    for (database, key) in &doomed {
        assert!(!exists(&app.redis, *database, key).await, "{key}");
    }
    assert!(!exists(&app.redis, 2, &format!("stream:progress:{GONE}")).await);
    assert!(!exists(&app.redis, 4, "tag:empty").await);
    // Including the stream and the tag that lost its last member. In a cluster a tag has one set per partition.
    let tag_count = 1 + usize::from(is_on_cluster());
    assert_eq!(report["totals"]["removed"], doomed.len() + 2 + tag_count, "{report}");
    // In a cluster reads prune the lists of owners.
    assert_eq!(report["totals"]["pruned"], if is_on_cluster() { 2 } else { 4 }, "{report}");
    // The writer of these keys may be about to create the job.
    assert!(exists(&app.redis, 2, &format!("progress:{young}:file_000")).await);
    assert!(exists(&app.redis, 2, &format!("stream:progress:{young}")).await);
    if is_on_cluster() {
        return;
    }
    let mut members: Vec<String> =
        app.redis.run(1, &["SMEMBERS", &format!("user_jobs:{OWNER}")]).await.convert().unwrap();
    members.sort();
    assert_eq!(members, [id, "not-a-uuid"]);
    assert_eq!(number(&app.redis, 4, &["SISMEMBER", "tag:t", "cache:here"]).await, 1);
}

#[tokio::test]
async fn keys_without_a_ttl_unused_for_two_days_are_removed() {
    let app = TestApp::start().await;
    for (database, key) in [(1, "lock:file:x"), (3, "rl:ip:10.0.0.1"), (4, "cache:model:old")] {
        app.redis.run(database, &["SET", key, "1"]).await;
        idle(&app.redis, database, key, "172900").await;
    }
    app.redis.run(4, &["SET", "cache:model:ends", "1", "EX", "9999"]).await;
    idle(&app.redis, 4, "cache:model:ends", "172900").await;
    let report = clean(&app, "").await;
    assert_eq!(report["totals"]["removed"], 3, "{report}");
    assert!(exists(&app.redis, 4, "cache:model:ends").await);
}

#[tokio::test]
async fn foreign_keys_are_reported_and_left_alone() {
    let app = TestApp::start().await;
    let foreign = [
        (0, "celery-task-meta-1"),
        (0, "unacked"),
        (1, "session:of-another-program"),
        (1, "job:7"),
        (2, "something"),
        (3, "else"),
        (4, "i2m:unheard-of"),
    ];
    for (database, key) in foreign {
        app.redis.run(database, &["SET", key, "1"]).await;
        idle(&app.redis, database, key, "999999").await;
    }
    // A key with a matching name and a wrong type, which makes the seed's cleanup fail.
    app.redis.run(1, &["SET", &format!("job:{GONE}"), "text"]).await;
    let report = clean(&app, "").await;
    assert_eq!(report["unknown"], json!({"0": 2, "1": 3, "2": 1, "3": 1, "4": 1}), "{report}");
    assert!(report["unknown_examples"].as_array().unwrap().contains(&json!("4 i2m:unheard-of")));
    for (database, key) in foreign {
        assert_eq!(number(&app.redis, database, &["TTL", key]).await, -1, "{key}");
    }
    assert_eq!(number(&app.redis, 1, &["TTL", &format!("job:{GONE}")]).await, -1);
}

#[tokio::test]
async fn idle_times_are_not_used_under_an_lfu_policy() {
    let redis =
        TestRedis::start_with(&["--maxmemory", "200mb", "--maxmemory-policy", "allkeys-lfu"]);
    let settings = config(&redis, &[("cleanup.orphan_grace", "0s")]);
    let app = TestApp::start_on(redis, settings).await;
    app.wait_until_ready().await;
    app.redis.run(2, &["SET", &format!("progress:{GONE}:file_000"), "1"]).await;
    app.redis.run(2, &["XADD", &format!("stream:progress:{GONE}"), "*", "a", "b"]).await;
    let report = clean(&app, "").await;
    assert_eq!(report["families"]["progress"]["2"]["adopted"], 1, "{report}");
    // The ids of a stream contain the time of the last write.
    assert_eq!(report["families"]["stream"]["2"]["removed"], 1, "{report}");
}

#[tokio::test]
async fn only_admins_run_a_cleanup_and_only_one_at_a_time() {
    let app = TestApp::start().await;
    app.get(Caller::Admin, PATH).await.problem(404, "CLEANUP_NOT_FOUND");
    for who in [Caller::Alice, Caller::Worker] {
        app.post(who, PATH, &json!({})).await.problem(403, "INSUFFICIENT_PERMISSIONS");
        app.get(who, PATH).await.problem(403, "INSUFFICIENT_PERMISSIONS");
    }
    app.post(Caller::Admin, &format!("{PATH}?dry_run=perhaps"), &json!({}))
        .await
        .problem(422, "VALIDATION_ERROR");
    app.request(Caller::Admin, Method::DELETE, PATH)
        .send()
        .await
        .map(|response| assert_eq!(response.status(), 405))
        .unwrap();
    app.redis.run(1, &["SET", "lock:i2m:cleanup", "another process", "PX", "60000"]).await;
    app.post(Caller::Admin, PATH, &json!({})).await.problem(409, "CLEANUP_RUNNING");
    app.redis.run(1, &["DEL", "lock:i2m:cleanup"]).await;
    clean(&app, "").await;
    assert!(!exists(&app.redis, 1, "lock:i2m:cleanup").await);
}

#[tokio::test]
async fn scheduled_cleanups_run_in_one_process() {
    let redis = TestRedis::start();
    let every = [("cleanup.interval", "1s")];
    let (one, other) = (config(&redis, &every), config(&redis, &every));
    let app = TestApp::start_on(redis, one).await;
    let beside = TestApp::start_on(TestRedis::prepare(&[]), other).await;
    app.wait_until_ready().await;
    app.redis.run(4, &["SET", "metric:jobs:count", "1"]).await;
    wait_until("the key is adopted", async || {
        number(&app.redis, 4, &["TTL", "metric:jobs:count"]).await > 0
    })
    .await;
    beside.stop().await.unwrap();
    app.stop().await.unwrap();
}

#[tokio::test]
async fn the_next_cleanup_starts_over_after_a_killed_one() {
    const FILL: &str = "for i = 1, 20000 do redis.call('SET', KEYS[1] .. i .. ':count', i) end";
    let redis = TestRedis::start_with(&["--appendfsync", "no"]);
    let settings = config(&redis, &[("cleanup.duty_cycle", "1")]);
    let app = TestApp::start_on(redis, settings).await;
    app.wait_until_ready().await;
    app.redis.run(4, &["EVAL", FILL, "1", "metric:m"]).await;
    let slow = [
        app.redis.settings()[0],
        app.redis.settings()[1],
        ("I2M__CLEANUP__DUTY_CYCLE", "0.2"),
        ("I2M__CLEANUP__BATCH_SIZE", "10"),
    ];
    let mut child = GatewayProcess::command(app.redis.dir(), &slow).arg("cleanup").spawn().unwrap();
    wait_until("the cleanup has started", async || {
        let report = app.get(Caller::Admin, PATH).await;
        report.status == 200 && report.json()["totals"]["adopted"].as_u64() > Some(0)
    })
    .await;
    assert_eq!(app.get(Caller::Admin, PATH).await.json()["state"], "running");
    app.post(Caller::Admin, PATH, &json!({})).await.problem(409, "CLEANUP_RUNNING");
    child.kill().unwrap();
    child.wait().unwrap();
    // Simulates the expiry of the lock.
    app.redis.run(1, &["DEL", "lock:i2m:cleanup"]).await;
    assert_eq!(app.get(Caller::Admin, PATH).await.json()["state"], "interrupted");

    let report = clean(&app, "").await;
    assert_eq!(report["families"]["counter"]["4"]["scanned"], 20_000);
    let without_end = "local n = 0 for _, key in ipairs(redis.call('KEYS', '*')) do \
        if redis.call('TTL', key) < 0 then n = n + 1 end end return n";
    assert_eq!(number(&app.redis, 4, &["EVAL", without_end, "0"]).await, 0);
}

#[test]
fn the_command_line_runs_a_cleanup_and_reports_it() {
    let redis = TestRedis::start();
    let begun_at = std::time::Instant::now();
    let output = GatewayProcess::output(redis.dir(), &["cleanup", "--dry-run"], &redis.settings());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["state"], &report["dry_run"]), (&json!("finished"), &json!(true)));
    assert!(begun_at.elapsed() < TIMEOUT);
}
