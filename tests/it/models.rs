//! Cached models over HTTP.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{ApiResponse, Caller, TestApp, TestRedis, wait_until};

pub(crate) const MODEL: &str = "/api/v1/models/chair-1";
pub(crate) const KEY: &str = "cache:model:chair-1";

pub(crate) async fn put(app: &TestApp, path: &str, body: &Value) -> ApiResponse {
    app.send(Caller::Worker, Method::PUT, path, body).await
}

pub(crate) async fn remove(app: &TestApp, path: &str) -> ApiResponse {
    ApiResponse::send(app.request(Caller::Worker, Method::DELETE, path)).await
}

/// Reads the model and returns the status and `X-Cache`.
pub(crate) async fn look(app: &TestApp) -> (u16, String) {
    let response = app.get(Caller::Alice, MODEL).await;
    (response.status, response.header("x-cache").to_owned())
}

pub(crate) fn is(status: u16, x_cache: &str) -> (u16, String) {
    (status, x_cache.to_owned())
}

async fn pttl(redis: &TestRedis) -> i64 {
    redis.run(4, &["PTTL", KEY]).await.convert().unwrap()
}

#[tokio::test]
async fn a_model_is_stored_read_and_removed() {
    let app = TestApp::start().await;
    assert_eq!(look(&app).await, is(404, "miss"));
    let data = json!({"vertices": 8123, "format": "glb", "name": "Stuhl ä"});
    let body = json!({"data": data, "ttl_secs": 100, "tags": ["job:1", "glb"]});
    let stored = put(&app, MODEL, &body).await.ok(200);
    assert_eq!(
        (&stored["model_id"], &stored["tags"]),
        (&json!("chair-1"), &json!(["job:1", "glb"]))
    );
    assert_eq!(stored["fresh_until"], stored["expires_at"]);
    // Jitter shortens the TTL by up to a tenth.
    assert!((89_000..=100_000).contains(&pttl(&app.redis).await));
    let value = app.redis.run(4, &["GET", KEY]).await.as_string().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&value).unwrap(), data);

    let shown = app.get(Caller::Alice, MODEL).await;
    assert_eq!(shown.header("x-cache"), "hit");
    assert_eq!(shown.header("cache-control"), "private, max-age=30");
    assert_eq!(shown.header("content-type"), "application/json");
    let etag = shown.header("etag").to_owned();
    assert_eq!(shown.ok(200), data);
    for (known, status) in [(etag.as_str(), 304), ("\"x\"", 200), ("*", 304)] {
        let request = app.request(Caller::Alice, Method::GET, MODEL).header("if-none-match", known);
        let response = ApiResponse::send(request).await;
        assert_eq!((response.status, response.header("etag")), (status, etag.as_str()), "{known}");
    }
    put(&app, MODEL, &json!({"data": null})).await.ok(200);
    let other = app.get(Caller::Alice, MODEL).await;
    assert_ne!(other.header("etag"), etag);
    assert_eq!(other.text, "null");

    assert_eq!(remove(&app, MODEL).await.status, 204);
    remove(&app, MODEL).await.problem(404, "MODEL_NOT_FOUND");
    assert_eq!(look(&app).await, is(404, "miss"));
    assert_eq!(app.redis.keys(4).await, Vec::<String>::new());
}

#[rstest]
#[case::no_data(json!({}), "data")]
#[case::no_time(json!({"data": 1, "ttl_secs": 0}), "ttl_secs: 0 is not between 1 and 86400")]
#[case::past(json!({"data": 1, "ttl_secs": -1}), "ttl_secs: -1")]
#[case::long(json!({"data": 1, "ttl_secs": 86401}), "ttl_secs: 86401")]
#[case::stale(json!({"data": 1, "stale_secs": -1}), "stale_secs: -1")]
#[case::tag(json!({"data": 1, "tags": ["a b"]}), "a tag has 1 to 100")]
#[case::tags(json!({"data": 1, "tags": vec!["a"; 17]}), "tags: 17 are more than 16")]
#[case::large(json!({"data": "x".repeat(300_000)}), "are more than 262144")]
#[case::unknown(json!({"data": 1, "ttl": 1}), "ttl")]
#[tokio::test]
async fn invalid_requests_are_rejected(#[case] body: Value, #[case] words: &str) {
    let app = TestApp::start().await;
    let problem = put(&app, MODEL, &body).await.problem(422, "VALIDATION_ERROR");
    assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    put(&app, "/api/v1/models/a%2Ab", &json!({"data": 1})).await.problem(422, "VALIDATION_ERROR");
    let by_client = app.send(Caller::Alice, Method::PUT, MODEL, &json!({"data": 1})).await;
    by_client.problem(403, "INSUFFICIENT_PERMISSIONS");
    app.get(Caller::Anonymous, MODEL).await.problem(403, "AUTHENTICATION_REQUIRED");
    assert_eq!(app.redis.keys(4).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_expired_model_is_stale_and_then_gone() {
    let app = TestApp::start_with(&[("cache.jitter_percent", "0")]).await;
    put(&app, MODEL, &json!({"data": 1, "ttl_secs": 1, "stale_secs": 1})).await.ok(200);
    wait_until("the model is stale", async || look(&app).await == is(200, "stale")).await;
    wait_until("the model is gone", async || look(&app).await == is(404, "miss")).await;
    put(&app, MODEL, &json!({"data": 1, "ttl_secs": 1, "stale_secs": 60})).await.ok(200);
    wait_until("the model is stale", async || look(&app).await == is(200, "stale")).await;
    assert_eq!(app.get(Caller::Alice, MODEL).await.header("cache-control"), "private, no-cache");
}

#[tokio::test]
async fn a_hit_extends_the_lifetime_of_a_model_if_configured() {
    let app = TestApp::start_with(&[("cache.jitter_percent", "0")]).await;
    for (refresh_on_hit, least) in [(true, 20_000), (false, 0)] {
        let body =
            json!({"data": 1, "ttl_secs": 21, "refresh_on_hit": refresh_on_hit, "tags": ["t"]});
        put(&app, MODEL, &body).await.ok(200);
        let record = "i2m:cache:cache:model:chair-1";
        // Makes the model eight seconds older.
        let age = "for _, field in ipairs({'fresh', 'ends'}) do redis.call('HINCRBY', KEYS[1], field, -8000) end
            redis.call('PEXPIREAT', KEYS[2], redis.call('HGET', KEYS[1], 'ends'))";
        app.redis.run(4, &["EVAL", age, "2", record, KEY]).await;
        app.redis.run(4, &["EXPIRE", "tag:t", "5"]).await;
        assert_eq!(look(&app).await, is(200, "hit"));
        let left = pttl(&app.redis).await;
        assert!((least..=21_000).contains(&left) && (left > 13_000) == refresh_on_hit, "{left}");
        let set: i64 = app.redis.run(4, &["PTTL", "tag:t"]).await.convert().unwrap();
        assert!(!refresh_on_hit || set > 19_000, "the tag lives as long as its member: {set}");
    }
}

#[tokio::test]
async fn a_value_that_is_not_json_is_a_miss() {
    let app = TestApp::start().await;
    for broken in
        [&["SET", KEY, "{oops"][..], &["SET", KEY, "NaN"], &["SET", KEY, ""], &["RPUSH", KEY, "1"]]
    {
        app.redis.run(4, broken).await;
        assert_eq!(look(&app).await, is(404, "miss"), "{broken:?}");
        app.redis.run(4, &["DEL", KEY]).await;
    }
    app.redis.run(4, &["RPUSH", KEY, "1"]).await;
    put(&app, MODEL, &json!({"data": 7})).await.ok(200);
    assert_eq!(look(&app).await, is(200, "hit"));
    // The seed's SETEX replaces the gateway's hash.
    app.redis.run(4, &["SETEX", KEY, "50", r#"{"by": "python"}"#]).await;
    assert_eq!(app.get(Caller::Alice, MODEL).await.ok(200), json!({"by": "python"}));
}

#[tokio::test]
async fn requests_fail_without_redis() {
    let mut app = TestApp::start().await;
    put(&app, MODEL, &json!({"data": 7})).await.ok(200);
    app.redis.kill();
    app.get(Caller::Alice, MODEL).await.problem(503, "REDIS_UNAVAILABLE");
    put(&app, MODEL, &json!({"data": 8})).await.problem(503, "REDIS_UNAVAILABLE");
    remove(&app, MODEL).await.problem(503, "REDIS_UNAVAILABLE");
    app.redis.start_again();
    wait_until("the model is served again", async || look(&app).await == is(200, "hit")).await;
}
