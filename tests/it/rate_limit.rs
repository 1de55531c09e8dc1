//! Rate limits: requests are counted exactly, across processes, and rejected over the limit.

use std::{collections::HashMap, fmt::Write as _, time::Duration};

use futures_util::future::join_all;
use image2model_gateway::Config;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{
    ApiResponse, Caller, GatewayProcess, TestApp, TestRedis, config_with, id_of, path_of,
    wait_until,
};

pub(crate) const ALICE: &str = "72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20";
pub(crate) const BOB: &str = "9b94dc1a51a38769f135edf04033ad7f2f487b6c25929be7a861cfc1ab10cf98";
pub(crate) const LIST: &str = "/api/v1/jobs";

/// A policy in TOML with this name and these fields.
pub(crate) fn policy(name: &str, fields: &[(&str, &str)]) -> String {
    let mut toml = format!("\n[[rate_limit.policies]]\nname = {name:?}\n");
    for (field, value) in fields {
        let is_bare = value.starts_with('[') || value.parse::<u32>().is_ok();
        let value = if is_bare { (*value).to_owned() } else { format!("{value:?}") };
        _ = writeln!(toml, "{field} = {value}");
    }
    toml
}

pub(crate) fn by_key(limit: &str, window: &str) -> String {
    policy("key", &[("scope", "key"), ("limit", limit), ("window", window)])
}

/// A service with only these policies, and with a long deadline, so that tests pass on a slow machine.
pub(crate) async fn limited(settings: &[(&str, &str)], policies: &str) -> TestApp {
    let redis = TestRedis::start();
    let config = config_with_long_deadline(&redis, settings, policies);
    let app = TestApp::start_on(redis, config).await;
    app.wait_until_ready().await;
    app
}

fn config_with_long_deadline(
    redis: &TestRedis,
    settings: &[(&str, &str)],
    policies: &str,
) -> Config {
    let slow = [
        ("rate_limit.deadline", "10s"),
        ("redis.command_timeout", "10s"),
        ("redis.probe_timeout", "10s"),
    ];
    let settings = [&slow[..], settings].concat();
    config_with(redis, &settings, policies)
}

/// Starts the program as one of several processes that use `redis`.
fn process_on(redis: &TestRedis, policies: &str) -> GatewayProcess {
    _ = config_with_long_deadline(redis, &[], policies);
    let file = redis.dir().join("test.toml").display().to_string();
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__AUTH__MODE", "keys"),
        ("I2M__LOG__LEVEL", "info"),
        ("I2M__RATE_LIMIT__DEADLINE", "10s"),
        ("I2M__REDIS__COMMAND_TIMEOUT", "10s"),
        ("I2M__REDIS__PROBE_TIMEOUT", "10s"),
    ];
    GatewayProcess::start_with(redis.dir(), &["--config", &file], &environment)
}

/// Starts one of several services that use `redis`.
async fn start_on(redis: &TestRedis, policies: &str) -> TestApp {
    let config = config_with_long_deadline(redis, &[], policies);
    let app = TestApp::start_on(TestRedis::prepare(&[]), config).await;
    app.wait_until_ready().await;
    app
}

pub(crate) async fn number(redis: &TestRedis, command: &[&str]) -> i64 {
    redis.run(3, command).await.convert().unwrap()
}

/// The number of reads of counters: only they use PTTL.
async fn counters_read(redis: &TestRedis) -> String {
    let info: String = redis.run(3, &["INFO", "commandstats"]).await.convert().unwrap();
    let line = info.lines().find(|line| line.starts_with("cmdstat_pttl:")).unwrap_or_default();
    line.split(',').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_hundred_clients_of_three_services_get_exactly_the_limit() {
    const LIMIT: usize = 100;
    for algorithm in ["fixed_window", "sliding_window", "gcra"] {
        let fields = [("scope", "key"), ("limit", "100"), ("window", "10h")];
        let policies = policy("p", &[&fields[..], &[("algorithm", algorithm)]].concat());
        let redis = TestRedis::start();
        let services: Vec<_> = (0..3).map(|_| process_on(&redis, &policies)).collect();
        let (services, http) = (&services, &reqwest::Client::new());
        for service in services {
            let ready = || http.get(format!("{}/readyz", service.base)).send();
            wait_until("the service is ready", async || {
                ready().await.is_ok_and(|response| response.status() == 200)
            })
            .await;
        }
        let clients = (0..100).map(|i| async move {
            let mut admitted = 0;
            for j in 0..3 {
                let url = format!("{}{LIST}", services[(i + j) % 3].base);
                let response = ApiResponse::send(http.get(url).bearer_auth("alice-key")).await;
                assert!([200, 429].contains(&response.status), "{}", response.text);
                assert_eq!(response.header("x-ratelimit-degraded"), "");
                admitted += usize::from(response.status == 200);
            }
            admitted
        });
        // With every algorithm the first request is restored after six minutes or later.
        assert_eq!(join_all(clients).await.iter().sum::<usize>(), LIMIT, "{algorithm}");
        for key in redis.keys(3).await {
            assert!(number(&redis, &["PTTL", &key]).await > 0, "{key} never expires");
        }
    }
}

#[tokio::test]
async fn no_interval_contains_more_requests_than_the_limit() {
    const LIMIT: f64 = 20.0;
    const WINDOW: f64 = 1.0;
    // A fixed window may admit twice the limit around its end.
    for (algorithm, at_once, comes_back, rounds) in [
        ("fixed_window", 2.0 * LIMIT, 0.0, 1),
        ("sliding_window", LIMIT, 0.0, 3),
        ("gcra", LIMIT, LIMIT / WINDOW, 3),
    ] {
        let fields =
            [("scope", "key"), ("limit", "20"), ("window", "1s"), ("algorithm", algorithm)];
        let policies = policy("p", &fields);
        let redis = TestRedis::start();
        let apps = [
            start_on(&redis, &policies).await,
            start_on(&redis, &policies).await,
            start_on(&redis, &policies).await,
        ];
        let started = Instant::now();
        let ask = async |app: &TestApp| {
            let from = started.elapsed().as_secs_f64();
            let response = app.get(Caller::Alice, LIST).await;
            assert_eq!(response.header("x-ratelimit-degraded"), "");
            (response.status == 200).then(|| (from, started.elapsed().as_secs_f64()))
        };
        let mut admitted = Vec::new();
        for _ in 0..rounds {
            // One request starts a fixed window; most of the limit is then used around its end.
            admitted.extend(ask(&apps[0]).await);
            tokio::time::sleep(Duration::from_secs_f64(WINDOW * 0.7)).await;
            let end = Instant::now() + Duration::from_secs_f64(WINDOW * 0.7);
            while Instant::now() < end {
                let requests = (0..12).map(|i| ask(&apps[i % 3]));
                admitted.extend(join_all(requests).await.into_iter().flatten());
            }
        }
        assert!(admitted.len() > 30, "{algorithm} admits again: {}", admitted.len());
        for (from, _) in &admitted {
            for (_, to) in admitted.iter().filter(|interval| interval.1 - from < WINDOW) {
                let within = admitted
                    .iter()
                    .filter(|interval| interval.0 >= *from && interval.1 <= *to)
                    .count();
                let most = at_once + (to - from).max(0.0) * comes_back + f64::EPSILON;
                let within = f64::from(u32::try_from(within).unwrap());
                assert!(within <= most, "{algorithm}: {within} from {from} to {to}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_is_counted_by_all_policies_or_by_none() {
    let policies = by_key("9", "1h")
        + &policy("ip", &[("scope", "ip"), ("limit", "9"), ("window", "1h")])
        + &policy(
            "slow",
            &[("scope", "key_route"), ("routes", r#"["read"]"#), ("limit", "2"), ("window", "1h")],
        );
    let app = limited(&[], &policies).await;
    // The denial cache would answer all requests but the first without Redis.
    for status in [200, 200, 429, 429] {
        assert_eq!(app.get(Caller::Alice, LIST).await.status, status);
    }
    for key in [&format!("rl:key:{ALICE}"), "rl:ip:127.0.0.1", &format!("rl:slow:read:{ALICE}")] {
        assert_eq!(number(&app.redis, &["GET", key]).await, 2, "{key}");
    }
    // The policy does not apply to other routes and other keys.
    app.post(Caller::Alice, LIST, &json!({"files": [{"filename": "a.png"}]})).await.ok(201);
    app.get(Caller::Bob, LIST).await.ok(200);
    assert_eq!(number(&app.redis, &["GET", "rl:ip:127.0.0.1"]).await, 4);
}

#[tokio::test]
async fn the_counter_is_shared_with_the_seeds_limiter_and_repaired() {
    let app = limited(&[], &by_key("6", "1h")).await;
    let key = format!("rl:key:{ALICE}");
    // The commands of the seed's check_rate_limit, including its second request without a TTL.
    let python = async || -> Vec<i64> {
        let script = "local current = tonumber(redis.call('GET', KEYS[1])) or 0
            local ttl = redis.call('TTL', KEYS[1])
            if ttl == -2 or ttl == -1 then current = 0 end
            current = current + 1
            if current > tonumber(ARGV[1]) then return {0, current, ttl} end
            redis.call('SET', KEYS[1], current)
            if current == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
            return {1, current, ttl}";
        app.redis.run(3, &["EVAL", script, "1", &key, "6", "3600"]).await.convert().unwrap()
    };
    assert_eq!(python().await[..2], [1, 1]);
    app.get(Caller::Alice, LIST).await.ok(200);
    assert_eq!(python().await[..2], [1, 3]);
    assert_eq!(number(&app.redis, &["TTL", &key]).await, -1);
    let response = app.get(Caller::Alice, LIST).await;
    assert_eq!((response.status, response.header("x-ratelimit-remaining")), (200, "2"));
    assert!((3590..=3600).contains(&number(&app.redis, &["TTL", &key]).await));

    // A full counter without a TTL rejects requests for one window only.
    app.redis.run(3, &["SET", &key, "6"]).await;
    assert_eq!(app.get(Caller::Alice, LIST).await.status, 429);
    assert!((3590..=3600).contains(&number(&app.redis, &["TTL", &key]).await));
    // A value that is not a number counts as zero.
    let key = format!("rl:key:{BOB}");
    for broken in [&["SET", &key, "banana"][..], &["RPUSH", &key, "1"]] {
        app.redis.run(3, &["DEL", &key]).await;
        app.redis.run(3, broken).await;
        app.get(Caller::Bob, LIST).await.ok(200);
        assert_eq!(number(&app.redis, &["GET", &key]).await, 1);
    }
}

#[tokio::test]
async fn every_response_reports_the_rate_limit_status() {
    let policies =
        by_key("3", "1h") + &policy("ip", &[("scope", "ip"), ("limit", "2000"), ("window", "90s")]);
    let app = limited(&[], &policies).await;
    let now = unix_now(&app.redis).await;
    let response = app.get(Caller::Alice, LIST).await;
    assert_eq!(response.header("x-ratelimit-limit"), "3");
    assert_eq!(response.header("x-ratelimit-remaining"), "2");
    let reset: i64 = response.header("x-ratelimit-reset").parse().unwrap();
    assert!((now + 3600..now + 3660).contains(&reset), "{reset} at {now}");
    assert_eq!(response.header("ratelimit"), "\"key\";r=2;t=3600");
    assert_eq!(response.header("ratelimit-policy"), "\"key\";q=3;w=3600, \"ip\";q=2000;w=90");
    assert_eq!(response.header("x-ratelimit-degraded"), "");

    // A request that its handler rejects counts, too.
    let missing = app.get(Caller::Alice, "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed").await;
    assert_eq!((missing.status, missing.header("x-ratelimit-remaining")), (404, "1"));
    app.get(Caller::Alice, LIST).await.ok(200);
    for _ in 0..2 {
        let refused = app.get(Caller::Alice, LIST).await;
        assert_eq!(refused.header("x-ratelimit-limit"), "3");
        assert_eq!(refused.header("x-ratelimit-remaining"), "0");
        assert_eq!(refused.header("x-ratelimit-reset").parse::<i64>().unwrap(), reset);
        let wait: i64 = refused.header("retry-after").parse().unwrap();
        assert!((3500..=3600).contains(&wait));
        assert_eq!(refused.header("ratelimit"), format!("\"key\";r=0;t={wait}"));
        let problem = refused.problem(429, "RATE_LIMIT_EXCEEDED");
        assert_eq!(problem["details"], json!({"policy": "key", "retry_after_secs": wait}));
    }
    // An unauthenticated request is counted only by address and creates no other key.
    let anonymous = app.get(Caller::Anonymous, LIST).await;
    assert_eq!((anonymous.status, anonymous.header("x-ratelimit-limit")), (403, "2000"));
    app.get(Caller::Worker, "/nothing").await.problem(404, "NOT_FOUND");
    assert_eq!(app.redis.keys(3).await, ["rl:ip:127.0.0.1", &format!("rl:key:{ALICE}")]);
}

async fn unix_now(redis: &TestRedis) -> i64 {
    let time: Vec<i64> = redis.run(3, &["TIME"]).await.convert().unwrap();
    time[0]
}

#[tokio::test]
async fn reading_the_limits_is_not_counted() {
    let create = [("scope", "key_route"), ("routes", r#"["create_job"]"#), ("limit", "50")];
    let policies = by_key("5", "1h")
        + &policy("create", &[&create[..], &[("window", "1m"), ("algorithm", "gcra")]].concat());
    let app = limited(&[], &policies).await;
    let look = async || app.get(Caller::Alice, "/api/v1/rate-limits").await.ok(200);
    assert_eq!(look().await["policies"][0]["remaining"], 5);
    assert_eq!(app.redis.keys(3).await, Vec::<String>::new());
    app.get(Caller::Alice, LIST).await.ok(200);
    for _ in 0..9 {
        let seen = look().await;
        assert_eq!(
            (&seen["enforced"], &seen["policies"][0]["remaining"]),
            (&json!(true), &json!(4))
        );
        let create = &seen["policies"][1];
        assert_eq!((&create["policy"], &create["route"]), (&json!("create"), &json!("create_job")));
        assert_eq!((&create["remaining"], &create["algorithm"]), (&json!(50), &json!("gcra")));
    }
    app.get(Caller::Anonymous, "/api/v1/rate-limits").await.problem(403, "AUTHENTICATION_REQUIRED");
}

#[tokio::test]
async fn a_cached_denial_makes_no_call_to_redis() {
    let app = limited(&[], &by_key("1", "1h")).await;
    for status in [200, 429] {
        assert_eq!(app.get(Caller::Alice, LIST).await.status, status);
    }
    let before = counters_read(&app.redis).await;
    for _ in 0..50 {
        assert_eq!(app.get(Caller::Alice, LIST).await.status, 429);
    }
    assert_eq!(counters_read(&app.redis).await, before);
    for status in [200, 429] {
        assert_eq!(app.get(Caller::Bob, LIST).await.status, status);
    }
    assert_ne!(counters_read(&app.redis).await, before);
}

#[tokio::test]
async fn the_cost_of_a_job_can_be_its_number_of_files() {
    let files = [("scope", "key_route"), ("routes", r#"["create_job"]"#), ("cost", "file")];
    let policies = by_key("100", "1h")
        + &policy("files", &[&files[..], &[("limit", "30"), ("window", "1h")]].concat());
    let app = limited(&[], &policies).await;
    app.create_job(20).await;
    let post = async |file_count: usize| {
        let files = vec![json!({"filename": "a.png"}); file_count];
        app.post(Caller::Alice, LIST, &json!({"files": files})).await
    };
    let refused = post(15).await;
    assert_eq!(refused.header("ratelimit").split(";t=").next(), Some("\"files\";r=10"));
    refused.problem(429, "RATE_LIMIT_EXCEEDED");
    // A smaller job is admitted although the denial of the larger one is cached.
    post(10).await.ok(201);
    assert_eq!(number(&app.redis, &["GET", &format!("rl:key:{ALICE}")]).await, 2);
    post(1).await.problem(429, "RATE_LIMIT_EXCEEDED");
    let list = app.get(Caller::Alice, LIST).await.ok(200);
    assert_eq!(list["jobs"].as_array().unwrap().len(), 2);
    // The body of an unauthenticated request is not read.
    let anonymous = app.post(Caller::Anonymous, LIST, &json!({"files": "x".repeat(2 << 20)})).await;
    assert_eq!(anonymous.status, 403);
}

#[tokio::test]
async fn a_rejected_stream_gets_a_retry_time() {
    let stream = [("scope", "ip_route"), ("routes", r#"["stream"]"#), ("limit", "1")];
    let policies = policy("streams", &[&stream[..], &[("window", "1h")]].concat());
    let app = limited(&[], &policies).await;
    let job = app.create_job(1).await;
    let mut first = app.follow(&job, None).await;
    first.wait_for("task_queued").await;
    let mut refused = app.follow(&job, None).await;
    assert_eq!(refused.response.status(), 200);
    assert_eq!(refused.response.headers()["content-type"], "text/event-stream");
    assert_eq!(refused.response.headers()["x-ratelimit-remaining"], "0");
    assert_eq!(refused.next().await, None);
    assert!(refused.retry_ms.unwrap() > 3_500_000);
}

#[tokio::test]
async fn requests_rejected_by_the_router_stay_rejected() {
    let app = limited(&[], &by_key("100", "1h")).await;
    app.send(Caller::Alice, Method::PUT, LIST, &Value::Null)
        .await
        .problem(405, "METHOD_NOT_ALLOWED");
    let job = app.create_job(1).await;
    let shown: HashMap<String, Value> =
        serde_json::from_value(app.get(Caller::Alice, path_of(&job)).await.ok(200)).unwrap();
    assert_eq!(shown["job_id"], id_of(&job));
}
