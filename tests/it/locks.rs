//! Locks over HTTP: holders, waiters, and compatibility with the seed's protocol.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{ApiResponse, Caller, TestApp, TestRedis, config, config_with, wait_until},
    rate_limit::policy,
};

const LOCK: &str = "/api/v1/locks/job:4711";
const KEY: &str = "lock:job:4711";

async fn take(app: &TestApp, path: &str, ttl_secs: i64, wait_secs: i64) -> ApiResponse {
    let body = json!({"ttl_secs": ttl_secs, "wait_secs": wait_secs});
    app.post(Caller::Worker, path, &body).await
}

async fn extend(app: &TestApp, lock: &Value, ttl_secs: i64) -> ApiResponse {
    let body = json!({"token": lock["token"], "ttl_secs": ttl_secs});
    app.send(Caller::Worker, Method::PATCH, LOCK, &body).await
}

async fn release(app: &TestApp, path: &str, lock: &Value) -> ApiResponse {
    let path = format!("{path}?token={}", lock["token"].as_str().unwrap());
    ApiResponse::send(app.request(Caller::Worker, Method::DELETE, &path)).await
}

fn fence(lock: &Value) -> u64 {
    lock["fencing_token"].as_u64().unwrap()
}

async fn holder(redis: &TestRedis) -> Option<String> {
    redis.run(1, &["GET", KEY]).await.as_string()
}

async fn pttl(redis: &TestRedis) -> i64 {
    redis.run(1, &["PTTL", KEY]).await.convert().unwrap()
}

/// Starts several services on one Redis.
async fn services(redis: &TestRedis, n: usize, settings: &[(&str, &str)]) -> Vec<TestApp> {
    let mut apps = Vec::new();
    for _ in 0..n {
        let app = TestApp::start_on(TestRedis::prepare(&[]), config(redis, settings)).await;
        app.wait_until_ready().await;
        apps.push(app);
    }
    apps
}

#[tokio::test]
async fn a_lock_has_one_holder_until_it_is_released() {
    let app = TestApp::start().await;
    let lock = take(&app, LOCK, 30, 0).await.ok(201);
    assert_eq!(lock["resource"], "job:4711");
    assert_eq!(holder(&app.redis).await.as_deref(), lock["token"].as_str());
    assert!((29_000..=30_000).contains(&pttl(&app.redis).await));
    let ends: chrono::DateTime<chrono::Utc> = lock["expires_at"].as_str().unwrap().parse().unwrap();
    let time: Vec<i64> = app.redis.run(1, &["TIME"]).await.convert().unwrap();
    assert!((29..=31).contains(&(ends.timestamp() - time[0])), "{ends}");

    let refused = take(&app, LOCK, 30, 0).await.problem(409, "LOCK_UNAVAILABLE");
    assert_eq!(refused["details"]["resource"], "job:4711");
    assert!((29_000..=30_000).contains(&refused["details"]["expires_in_ms"].as_i64().unwrap()));
    let other = take(&app, "/api/v1/locks/file:4711", 30, 0).await.ok(201);

    // Extending sets the remaining time, even to a shorter one.
    for ttl_secs in [60, 5] {
        let extended = extend(&app, &lock, ttl_secs).await.ok(200);
        assert_eq!((&extended["token"], fence(&extended)), (&lock["token"], fence(&lock)));
        assert!((ttl_secs * 1000 - 1000..=ttl_secs * 1000).contains(&pttl(&app.redis).await));
    }
    extend(&app, &other, 30).await.problem(409, "LOCK_LOST");
    release(&app, LOCK, &other).await.problem(409, "LOCK_LOST");
    assert_eq!(holder(&app.redis).await.as_deref(), lock["token"].as_str());

    assert_eq!(release(&app, LOCK, &lock).await.status, 204);
    release(&app, LOCK, &lock).await.problem(409, "LOCK_LOST");
    extend(&app, &lock, 30).await.problem(409, "LOCK_LOST");
    assert!(fence(&take(&app, LOCK, 30, 0).await.ok(201)) > fence(&lock));
    for key in app.redis.keys(1).await {
        let ttl: i64 = app.redis.run(1, &["TTL", &key]).await.convert().unwrap();
        assert!(ttl > 0, "{key} never expires");
    }
}

#[rstest]
#[case::no_time(json!({"ttl_secs": 0}), "ttl_secs: 0 is not between 1 and 3600")]
#[case::past(json!({"ttl_secs": -5}), "ttl_secs: -5 is not")]
#[case::for_ever(json!({"ttl_secs": 3601}), "ttl_secs: 3601 is not")]
#[case::fraction(json!({"ttl_secs": 0.5}), "at ttl_secs")]
#[case::text(json!({"ttl_secs": "10"}), "at ttl_secs")]
#[case::missing(json!({}), "ttl_secs")]
#[case::too_long(json!({"ttl_secs": 1, "wait_secs": 9}), "wait_secs: 9 is not between 0 and 8")]
#[case::backwards(json!({"ttl_secs": 1, "wait_secs": -1}), "wait_secs: -1")]
#[case::unknown(json!({"ttl_secs": 1, "timeout": 1}), "timeout")]
#[tokio::test]
async fn invalid_requests_are_rejected(#[case] body: Value, #[case] words: &str) {
    let app = TestApp::start().await;
    let problem = app.post(Caller::Worker, LOCK, &body).await.problem(422, "VALIDATION_ERROR");
    assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    assert_eq!(app.redis.keys(1).await, Vec::<String>::new());
}

#[tokio::test]
async fn names_and_tokens_are_validated() {
    let app = TestApp::start().await;
    for name in ["i2m:celery-leader", "a%20b", "a%0Ab", &"x".repeat(201)] {
        let path = format!("/api/v1/locks/{name}");
        take(&app, &path, 1, 0).await.problem(422, "VALIDATION_ERROR");
    }
    // Words that fred mistakes for pub/sub, and characters that are special elsewhere.
    for name in ["message", "subscribe", "*", "a%2Fb", "job:%C3%A4"] {
        let path = format!("/api/v1/locks/{name}");
        let lock = take(&app, &path, 1, 0).await.ok(201);
        assert_eq!(release(&app, &path, &lock).await.status, 204, "{name}");
    }
    let lock = take(&app, LOCK, 30, 0).await.ok(201);
    extend(&app, &lock, 0).await.problem(422, "VALIDATION_ERROR");
    extend(&app, &lock, -1).await.problem(422, "VALIDATION_ERROR");
    extend(&app, &json!({"token": "banana"}), 1).await.problem(422, "VALIDATION_ERROR");
    release(&app, LOCK, &json!({"token": ""})).await.problem(422, "VALIDATION_ERROR");
    ApiResponse::send(app.request(Caller::Worker, Method::DELETE, LOCK))
        .await
        .problem(422, "VALIDATION_ERROR");
    assert!(pttl(&app.redis).await > 29_000);
    app.post(Caller::Alice, LOCK, &json!({"ttl_secs": 1}))
        .await
        .problem(403, "INSUFFICIENT_PERMISSIONS");
}

/// A service that counts workers' requests, so that a test knows when a request has arrived.
async fn counting(settings: &[(&str, &str)]) -> TestApp {
    let fields = [("scope", "ip_route"), ("routes", r#"["report"]"#), ("limit", "1000")];
    let policy = policy("seen", &[&fields[..], &[("window", "1h")]].concat());
    let redis = TestRedis::start();
    let patient = [("rate_limit.deadline", "10s"), ("locks.check_interval", "60s")];
    let config = config_with(&redis, &[&patient[..], settings].concat(), &policy);
    let app = TestApp::start_on(redis, config).await;
    app.wait_until_ready().await;
    app
}

async fn until_seen(app: &TestApp, n: i64) {
    wait_until("the request has arrived", async || {
        let seen = app.redis.run(3, &["GET", "rl:seen:report:127.0.0.1"]).await;
        seen.as_i64().unwrap_or_default() >= n
    })
    .await;
}

#[tokio::test]
async fn waiters_get_the_lock_in_order() {
    let app = counting(&[]).await;
    let first = take(&app, LOCK, 60, 0).await.ok(201);
    let served = Mutex::new(Vec::new());
    let waiters = (0..5).map(|i| {
        let (app, served) = (&app, &served);
        async move {
            until_seen(app, 1 + i).await;
            let lock = take(app, LOCK, 60, 8).await.ok(201);
            served.lock().unwrap().push(i);
            release(app, LOCK, &lock).await.ok_status(204);
        }
    });
    let give_back = async {
        until_seen(&app, 6).await;
        let started = Instant::now();
        release(&app, LOCK, &first).await.ok_status(204);
        started
    };
    let (_, started) = tokio::join!(join_all(waiters), give_back);
    assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3, 4]);
    // Only a notification ends a wait before its timeout here.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_waiter_that_disconnects_leaves_the_queue() {
    let app = counting(&[]).await;
    let first = take(&app, LOCK, 60, 0).await.ok(201);
    let impatient = take(&app, LOCK, 60, 8);
    tokio::select! {
        _ = impatient => panic!("the lock is held"),
        () = until_seen(&app, 2) => (),
    }
    let patient = async {
        let lock = take(&app, LOCK, 60, 8).await.ok(201);
        release(&app, LOCK, &lock).await.ok_status(204);
    };
    let give_back = async {
        until_seen(&app, 3).await;
        release(&app, LOCK, &first).await.ok_status(204);
    };
    tokio::join!(patient, give_back);
    assert_eq!(holder(&app.redis).await, None);
}

#[tokio::test]
async fn a_wait_ends_at_its_timeout_or_with_the_lock() {
    let app = TestApp::start_with(&[("locks.check_interval", "60s")]).await;
    take(&app, LOCK, 60, 0).await.ok(201);
    let refused = take(&app, LOCK, 60, 1).await;
    assert!((900..3000).contains(&refused.took.as_millis()), "{:?}", refused.took);
    let problem = refused.problem(409, "LOCK_UNAVAILABLE");
    assert!(problem["details"]["expires_in_ms"].as_i64().unwrap() > 50_000);
    // A lock that is not released is granted when it expires.
    app.redis.run(1, &["PEXPIRE", KEY, "300"]).await;
    let lock = take(&app, LOCK, 60, 8).await;
    assert!(lock.took < Duration::from_secs(4), "{:?}", lock.took);
    lock.ok(201);
}

#[tokio::test]
async fn three_services_grant_a_lock_to_one_holder_at_a_time() {
    const N_WORKERS: usize = 18;
    const ROUNDS: usize = 3;
    let redis = TestRedis::start();
    let apps = services(&redis, 3, &[("locks.check_interval", "60s")]).await;
    let (inside, fences) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = (0..N_WORKERS).map(|i| {
        let (app, inside, fences) = (&apps[i % 3], &inside, &fences);
        async move {
            for _ in 0..ROUNDS {
                // On a slow machine one wait may not be enough.
                let lock = loop {
                    let response = take(app, LOCK, 60, 8).await;
                    if response.status != 409 {
                        break response.ok(201);
                    }
                };
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                fences.lock().unwrap().push(fence(&lock));
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                release(app, LOCK, &lock).await.ok_status(204);
            }
        }
    });
    join_all(workers).await;
    let fences = fences.into_inner().unwrap();
    assert_eq!(fences.len(), N_WORKERS * ROUNDS);
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}

#[tokio::test]
async fn the_fencing_token_grows_even_if_its_record_is_lost() {
    let app = TestApp::start().await;
    let mut last = 0;
    let record = "i2m:lock:job:4711";
    for spoil in [
        &["DEL", KEY][..],
        &["DEL", KEY, record],
        &["DEL", KEY, record, "lock:x"],
        &["SET", KEY, "python", "PX", "20"],
    ] {
        let lock = take(&app, LOCK, 30, 1).await.ok(201);
        assert!(fence(&lock) > last, "{} after {last}", fence(&lock));
        last = fence(&lock);
        app.redis.run(1, spoil).await;
    }
    // A record from a clock that was an hour ahead.
    let ahead = last + 3_600_000_000;
    app.redis.run(1, &["HSET", record, "fence", &ahead.to_string()]).await;
    let lock = take(&app, LOCK, 30, 1).await.ok(201);
    assert_eq!(fence(&lock), ahead + 1);
}

#[rstest]
#[case::notified_by_redis(&["--notify-keyspace-events", "Kgx"], "60s")]
#[case::looked_at(&[], "20ms")]
#[tokio::test]
async fn a_lock_of_another_program_is_respected_and_waited_for(
    #[case] extra: &[&str],
    #[case] check_interval: &str,
) {
    let redis = TestRedis::start_with(extra);
    let settings = [("locks.check_interval", check_interval)];
    let app = TestApp::start_on(TestRedis::prepare(&[]), config(&redis, &settings)).await;
    app.wait_until_ready().await;
    let token = Uuid::new_v4().to_string();
    redis.run(1, &["SET", KEY, &token, "NX", "EX", "60"]).await;
    take(&app, LOCK, 30, 0).await.problem(409, "LOCK_UNAVAILABLE");
    // The token allows extending the lock here, too.
    let extended = extend(&app, &json!({"token": token}), 90).await.ok(200);
    assert_eq!(extended.get("fencing_token"), None);
    assert!(pttl(&redis).await > 80_000);

    let delete = async {
        wait_until("the waiter is subscribed", async || {
            let channels = redis.run(1, &["PUBSUB", "CHANNELS", "lock:*"]).await;
            !channels.into_array().is_empty()
        })
        .await;
        redis.run(1, &["DEL", KEY]).await;
        Instant::now()
    };
    let (lock, deleted) = tokio::join!(take(&app, LOCK, 30, 8), delete);
    assert!(deleted.elapsed() < Duration::from_secs(3), "{:?}", deleted.elapsed());
    assert_eq!(holder(&redis).await.as_deref(), lock.ok(201)["token"].as_str());
    wait_until("the waiter is unsubscribed", async || {
        redis.run(1, &["PUBSUB", "CHANNELS", "lock:*"]).await.into_array().is_empty()
    })
    .await;
}

#[tokio::test]
async fn requests_fail_without_redis() {
    let mut app = TestApp::start_with(&[("redis.command_timeout", "500ms")]).await;
    let lock = take(&app, LOCK, 30, 0).await.ok(201);
    app.redis.signal("STOP");
    let hung = take(&app, LOCK, 30, 5).await;
    assert!(hung.took < Duration::from_secs(3), "{:?}", hung.took);
    hung.problem(503, "REDIS_UNAVAILABLE");
    app.redis.signal("CONT");
    wait_until("the lock can be extended again", async || {
        extend(&app, &lock, 30).await.status == 200
    })
    .await;
    app.redis.kill();
    for response in [take(&app, LOCK, 30, 0).await, extend(&app, &lock, 30).await] {
        response.problem(503, "REDIS_UNAVAILABLE");
    }
    release(&app, LOCK, &lock).await.problem(503, "REDIS_UNAVAILABLE");
    app.redis.start_again();
    wait_until("the lock can be extended again", async || {
        extend(&app, &lock, 30).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn the_number_of_waiters_is_limited() {
    let app = counting(&[("locks.max_waiting", "1")]).await;
    let first = take(&app, LOCK, 60, 0).await.ok(201);
    let crowd = async {
        until_seen(&app, 2).await;
        take(&app, LOCK, 60, 5).await.problem(503, "SERVICE_BUSY");
        release(&app, LOCK, &first).await.ok_status(204);
    };
    let (lock, ()) = tokio::join!(take(&app, LOCK, 60, 8), crowd);
    lock.ok(201);
}
