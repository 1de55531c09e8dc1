//! Removing cached values by tag and by pattern.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ApiResponse, Caller, TestApp, id_of, path_of, wait_until};

async fn put(app: &TestApp, model: &str, ttl_secs: u64, tags: &[&str]) {
    let body = json!({"data": model, "ttl_secs": ttl_secs, "tags": tags});
    app.send(Caller::Worker, Method::PUT, &format!("/api/v1/models/{model}"), &body).await.ok(200);
}

async fn ask(app: &TestApp, what: &Value) -> ApiResponse {
    app.post(Caller::Admin, "/api/v1/admin/cache/invalidate", what).await
}

async fn invalidate(app: &TestApp, what: Value) -> u64 {
    let response = ask(app, &what).await.ok(200);
    assert_eq!(response["complete"], true);
    response["removed"].as_u64().unwrap()
}

async fn values(app: &TestApp) -> Vec<String> {
    let mut keys = app.redis.keys(4).await;
    keys.retain(|key| key.starts_with("cache:"));
    keys
}

/// Adds a key to a tag as the seed's `cache_with_tags` does.
async fn python_tags(app: &TestApp, key: &str, ttl: &str, tag: &str) {
    for command in [
        &["SETEX", key, ttl, "1"][..],
        &["SADD", &format!("tag:{tag}"), key],
        &["EXPIRE", &format!("tag:{tag}"), ttl],
    ] {
        app.redis.run(4, command).await;
    }
}

#[tokio::test]
async fn invalidating_a_tag_removes_and_counts_its_members() {
    let app = TestApp::start().await;
    put(&app, "a", 600, &["job:1", "glb"]).await;
    put(&app, "b", 600, &["job:1"]).await;
    put(&app, "c", 600, &["glb"]).await;
    put(&app, "d", 600, &[]).await;
    // A member that is already deleted does not count.
    put(&app, "e", 600, &["job:1"]).await;
    app.redis.run(4, &["DEL", "cache:model:e"]).await;
    // A value that was stored again without the tag does not count either, and stays.
    put(&app, "f", 600, &["job:1"]).await;
    put(&app, "f", 600, &["glb"]).await;
    assert_eq!(invalidate(&app, json!({"tag": "job:1"})).await, 2);
    assert_eq!(values(&app).await, ["cache:model:c", "cache:model:d", "cache:model:f"]);
    assert_eq!(invalidate(&app, json!({"tag": "job:1"})).await, 0);
    assert_eq!(invalidate(&app, json!({"tag": "glb"})).await, 2);
    assert_eq!(app.redis.keys(4).await, ["cache:model:d", "i2m:cache:cache:model:d"]);
    assert_eq!(invalidate(&app, json!({"tag": "unknown"})).await, 0);
}

#[tokio::test]
async fn a_tag_lives_as_long_as_its_longest_member() {
    let app = TestApp::start().await;
    put(&app, "long", 600, &["t"]).await;
    put(&app, "short", 1, &["t"]).await;
    // The seed sets the TTL of the whole set to that of the last member.
    python_tags(&app, "cache:python", "1", "t").await;
    wait_until("the set expires", async || !app.redis.keys(4).await.contains(&"tag:t".to_owned()))
        .await;
    wait_until("the short-lived values expire", async || {
        values(&app).await == ["cache:model:long"]
    })
    .await;
    assert_eq!(invalidate(&app, json!({"tag": "t"})).await, 1);
    assert_eq!(app.redis.keys(4).await, Vec::<String>::new());
}

#[tokio::test]
async fn tag_members_of_the_seed_are_removed_and_other_keys_are_not() {
    let app = TestApp::start().await;
    put(&app, "a", 600, &["t"]).await;
    python_tags(&app, "cache:model:b", "500", "t").await;
    python_tags(&app, "metric:x:count", "500", "t").await;
    assert_eq!(invalidate(&app, json!({"tag": "t"})).await, 2);
    assert_eq!(app.redis.keys(4).await, ["metric:x:count", "tag:t"]);
    for key in app.redis.keys(4).await {
        let ttl: i64 = app.redis.run(4, &["TTL", &key]).await.convert().unwrap();
        assert!(ttl > 0, "{key} never expires");
    }
}

#[tokio::test]
async fn invalidation_is_atomic_for_members_that_are_being_stored() {
    let app = TestApp::start_with(&[("rate_limit.enabled", "false")]).await;
    let stores = (0..200).map(|i| {
        let app = &app;
        async move {
            let model = format!("m{}", i % 20);
            put(app, &model, 600, if i % 3 == 0 { &["t"] } else { &["t", "u"] }).await;
        }
    });
    let takes = (0..20).map(|_| invalidate(&app, json!({"tag": "t"})));
    tokio::join!(join_all(stores), join_all(takes));
    let left = values(&app).await.len() as u64;
    assert_eq!(invalidate(&app, json!({"tag": "t"})).await, left);
    assert_eq!(app.redis.keys(4).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_pattern_removes_only_matching_keys_below_cache() {
    let app = TestApp::start().await;
    let fill =
        "for i = 1, tonumber(ARGV[1]) do redis.call('SET', KEYS[1] .. i, '1', 'EX', 600) end";
    for begin in ["cache:model:bulk-", "metric:"] {
        app.redis.run(4, &["EVAL", fill, "1", begin, "3000"]).await;
    }
    put(&app, "a", 600, &["t"]).await;
    assert_eq!(invalidate(&app, json!({"pattern": "cache:model:bulk-1?"})).await, 10);
    assert_eq!(invalidate(&app, json!({"pattern": "cache:model:a"})).await, 1);
    assert_eq!(invalidate(&app, json!({"pattern": "cache:model:a"})).await, 0);
    assert_eq!(invalidate(&app, json!({"pattern": "cache:*"})).await, 2990);
    let kinds = app.redis.keys(4).await.into_iter().fold(BTreeMap::new(), |mut kinds, key| {
        *kinds.entry(key.split(':').next().unwrap().to_owned()).or_insert(0) += 1;
        kinds
    });
    assert_eq!(kinds, BTreeMap::from([("metric".to_owned(), 3000)]));
}

#[tokio::test]
async fn an_invalid_invalidation_removes_nothing() {
    let app = TestApp::start().await;
    put(&app, "a", 600, &["t"]).await;
    for what in [
        json!({}),
        json!({"tag": "t", "pattern": "cache:*"}),
        json!({"tag": "*"}),
        json!({"tag": ""}),
        json!({"tag": "t", "cursor": "7"}),
        json!({"pattern": "*"}),
        json!({"pattern": "metric:*"}),
        json!({"pattern": "cach*"}),
        json!({"pattern": "cache:*", "cursor": "x"}),
        json!({"pattern": format!("cache:{}", "x".repeat(300))}),
    ] {
        ask(&app, &what).await.problem(422, "VALIDATION_ERROR");
    }
    let what = json!({"tag": "t"});
    let by_worker = app.post(Caller::Worker, "/api/v1/admin/cache/invalidate", &what).await;
    by_worker.problem(403, "INSUFFICIENT_PERMISSIONS");
    assert_eq!(values(&app).await, ["cache:model:a"]);
}

#[tokio::test]
async fn every_change_of_a_job_invalidates_its_cached_status() {
    let app = TestApp::start_with(&[("jobs.status_cache_ttl", "1h")]).await;
    let job = app.create_job(2).await;
    let path = path_of(&job).to_owned();
    let cached = format!("cache:status:{}", id_of(&job));
    let status = async |wanted: &str| {
        let first = app.get(Caller::Alice, &format!("{path}/status")).await;
        assert_eq!(first.header("x-cache"), "miss", "before {wanted}");
        let second = app.get(Caller::Alice, &format!("{path}/status")).await;
        assert_eq!(second.header("x-cache"), "hit", "before {wanted}");
        assert_eq!(second.ok(200)["status"], wanted);
        assert_eq!(values(&app).await, std::slice::from_ref(&cached));
    };
    status("pending").await;
    app.send(Caller::Worker, Method::PATCH, &path, &json!({"status": "processing"})).await.ok(200);
    status("processing").await;
    app.report(&job, 0, &json!({"progress": 40})).await.ok(200);
    status("processing").await;
    let many = json!({"files": [{"file_id": "file_001", "progress": 10}]});
    let many = app.post(Caller::Worker, &format!("{path}/progress"), &many).await;
    assert_eq!(many.status, 200, "{}", many.text);
    status("processing").await;
    app.complete(&job, 0).await.ok(200);
    status("processing").await;
    app.fail(&job, 1, "no").await.ok(200);
    status("partial").await;
    let retried = app.post(Caller::Alice, &format!("{path}/retry"), &json!({})).await;
    assert!(retried.status < 300, "{}", retried.text);
    let restarted =
        app.get(Caller::Alice, &path).await.ok(200)["status"].as_str().unwrap().to_owned();
    status(&restarted).await;
    let cancelled = app.post(Caller::Alice, &format!("{path}/cancel"), &json!({})).await;
    assert!(cancelled.status < 300, "{}", cancelled.text);
    status("cancelled").await;
    let deleted = ApiResponse::send(app.request(Caller::Alice, Method::DELETE, &path)).await;
    assert!(deleted.status < 300, "{}", deleted.text);
    assert_eq!(values(&app).await, Vec::<String>::new());
}
