//! API keys that admins create, limit and revoke, and how soon each process applies a change.

use std::{process::Output, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{
        ApiResponse, Caller, GatewayProcess, TestApp, TestRedis, config, config_with, wait_until,
    },
    rate_limit::{LIST, policy},
};

const KEYS: &str = "/api/v1/admin/keys";
/// The longest time until every process rejects a revoked key.
const MAX_REVOCATION_DELAY: Duration = Duration::from_secs(1);

/// Creates a key and returns its id and the key.
async fn create(app: &TestApp, new: &Value) -> (String, String) {
    let made = app.post(Caller::Admin, KEYS, new).await;
    assert_eq!(made.header("cache-control"), "no-store");
    let location = made.header("location").to_owned();
    let made = made.ok(201);
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    assert_eq!(location, format!("{KEYS}/{}", text("id")));
    assert!(text("key").starts_with(&text("id")) && text("key").len() == 47, "{made}");
    (text("id"), text("key"))
}

async fn call(app: &TestApp, key: &str) -> ApiResponse {
    ApiResponse::send(app.http.get(format!("{}{LIST}", app.base)).bearer_auth(key)).await
}

async fn revoke(app: &TestApp, id: &str) -> ApiResponse {
    app.send(Caller::Admin, Method::DELETE, &format!("{KEYS}/{id}"), &Value::Null).await
}

/// Starts one of several services that use `redis`.
async fn another(redis: &TestRedis) -> TestApp {
    let app = TestApp::start_on(TestRedis::prepare(&[]), config(redis, &[])).await;
    app.wait_until_ready().await;
    app
}

#[tokio::test]
async fn a_key_works_on_every_node_from_creation_to_revocation() {
    let redis = TestRedis::start();
    let nodes = join_all((0..3).map(|_| another(&redis))).await;
    let (id, key) = create(&nodes[0], &json!({"name": "upload", "roles": ["client"]})).await;
    assert_eq!(call(&nodes[0], &key).await.status, 200);
    for node in &nodes {
        wait_until("the key is known", async || call(node, &key).await.status == 200).await;
    }
    let roles = nodes[1].get(Caller::Admin, KEYS).await.ok(200);
    let listed = roles["keys"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&listed["id"], &listed["name"]), (&json!(id), &json!("upload")));
    assert_eq!((&listed["roles"], &listed["source"]), (&json!(["client"]), &json!("stored")));
    assert!(listed["created_at"].as_str().unwrap().ends_with('Z'));

    assert_eq!(revoke(&nodes[0], &id).await.status, 204);
    let revoked = tokio::time::Instant::now();
    call(&nodes[0], &key).await.problem(403, "INVALID_API_KEY");
    for node in &nodes {
        wait_until("the key is rejected", async || call(node, &key).await.status == 403).await;
    }
    assert!(revoked.elapsed() < MAX_REVOCATION_DELAY, "{:?}", revoked.elapsed());
    revoke(&nodes[2], &id).await.problem(404, "KEY_NOT_FOUND");
}

/// A published notification can be lost; the service also polls the version.
#[tokio::test]
async fn a_revocation_takes_effect_without_its_notification() {
    let app = TestApp::start().await;
    let (id, key) = create(&app, &json!({"name": "upload", "roles": ["client"]})).await;
    app.redis.run(1, &["HDEL", "i2m:{keys}", &id]).await;
    app.redis.run(1, &["SET", "i2m:{keys}:version", "other", "EX", "1000"]).await;
    let changed = tokio::time::Instant::now();
    wait_until("the key is rejected", async || call(&app, &key).await.status == 403).await;
    assert!(changed.elapsed() < MAX_REVOCATION_DELAY, "{:?}", changed.elapsed());
}

#[tokio::test]
async fn only_the_hash_of_a_key_is_stored_and_it_never_expires() {
    let app = TestApp::start().await;
    let (id, key) = create(&app, &json!({"name": "upload", "roles": ["client"]})).await;
    call(&app, &key).await.ok(200);
    let used = async || {
        let list = app.get(Caller::Admin, KEYS).await.ok(200);
        list["keys"].as_array().unwrap().last().unwrap()["last_used_at"].is_string()
    };
    assert!(used().await);
    let (_, secret) = key.split_at(id.len());
    for name in ["i2m:{keys}", "i2m:{keys}:used"] {
        let all: Vec<String> = app.redis.run(1, &["HGETALL", name]).await.convert().unwrap();
        assert!(!all.is_empty() && all.iter().all(|line| !line.contains(secret)), "{all:?}");
    }
    let shown = app.get(Caller::Admin, KEYS).await.text;
    assert!(shown.contains(&id) && !shown.contains(secret));

    for name in ["i2m:{keys}", "i2m:{keys}:version", "i2m:{keys}:used"] {
        app.redis.run(1, &["EXPIRE", name, "100"]).await;
    }
    wait_until("the TTL is renewed", async || {
        let ttl: i64 = app.redis.run(1, &["TTL", "i2m:{keys}"]).await.convert().unwrap();
        ttl > 300 * 86_400
    })
    .await;
    call(&app, &key).await.ok(200);
}

#[tokio::test]
async fn a_name_has_at_most_two_active_keys() {
    let app = TestApp::start().await;
    let new = json!({"name": "upload", "roles": ["client"]});
    let (first, _) = create(&app, &new).await;
    create(&app, &new).await;
    app.post(Caller::Admin, KEYS, &new).await.problem(409, "TOO_MANY_KEYS");
    assert_eq!(revoke(&app, &first).await.status, 204);
    create(&app, &new).await;
    // A key in the settings counts, too.
    let of_settings = json!({"name": "alice", "roles": ["client"]});
    create(&app, &of_settings).await;
    app.post(Caller::Admin, KEYS, &of_settings).await.problem(409, "TOO_MANY_KEYS");
}

#[tokio::test]
async fn an_invalid_new_key_is_rejected() {
    let app = TestApp::start().await;
    for bad in [
        json!({"name": "", "roles": ["client"]}),
        json!({"name": "a b", "roles": ["client"]}),
        json!({"name": "a\n", "roles": ["client"]}),
        json!({"name": "x".repeat(65), "roles": ["client"]}),
        json!({"name": "a", "roles": []}),
        json!({"name": "a", "roles": ["root"]}),
        json!({"name": "a", "roles": ["client"], "limits": {"nothing": 5}}),
        json!({"name": "a", "roles": ["client"], "limits": {"ip": 5}}),
        json!({"name": "a", "roles": ["client"], "limits": {"key": 0}}),
        json!({"name": "a", "roles": ["client"], "sha256": "x"}),
    ] {
        app.post(Caller::Admin, KEYS, &bad).await.problem(422, "VALIDATION_ERROR");
    }
    for id in ["*", "i2m_", "i2m_********", "i2m_abcdefghi", "x2m_abcdefgh", "i2m_abcd%00gh"] {
        revoke(&app, id).await.problem(422, "VALIDATION_ERROR");
    }
    revoke(&app, "i2m_abcdefgh").await.problem(404, "KEY_NOT_FOUND");
    assert_eq!(app.redis.keys(1).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_key_has_its_own_limits() {
    let policies = policy("key", &[("scope", "key"), ("limit", "100"), ("window", "1h")]);
    let redis = TestRedis::start();
    let settings = [("rate_limit.deadline", "10s"), ("redis.command_timeout", "10s")];
    let app =
        TestApp::start_on(TestRedis::prepare(&[]), config_with(&redis, &settings, &policies)).await;
    app.wait_until_ready().await;
    let new = json!({"name": "upload", "roles": ["client"], "limits": {"key": 2}});
    let (id, key) = create(&app, &new).await;
    for status in [200, 200, 429] {
        let response = call(&app, &key).await;
        assert_eq!((response.status, response.header("x-ratelimit-limit")), (status, "2"));
    }
    let limits = json!({"limits": {"key": 3}});
    let path = format!("{KEYS}/{id}");
    let changed = app.send(Caller::Admin, Method::PATCH, &path, &limits).await.ok(200);
    assert_eq!(changed, json!({"id": id, "limits": {"key": 3}}));
    // The cached denial with the old limit must not apply any more.
    for status in [200, 429] {
        let response = call(&app, &key).await;
        assert_eq!((response.status, response.header("x-ratelimit-limit")), (status, "3"));
    }
}

#[tokio::test]
async fn known_keys_work_without_redis_for_a_limited_time() {
    let mut app = TestApp::start_with(&[("auth.stored_keys_grace", "2s")]).await;
    let (_, key) = create(&app, &json!({"name": "upload", "roles": ["client"]})).await;
    let ask = async |key: &str| {
        // This request uses Redis only for the rate limit, which admits requests while Redis is down.
        let path = format!("{}/api/v1/jobs/none", app.base);
        ApiResponse::send(app.http.get(path).bearer_auth(key)).await
    };
    assert_eq!(ask(&key).await.status, 400);
    assert_eq!(ask("wrong").await.status, 403);
    app.redis.signal("STOP");
    assert_eq!(ask(&key).await.status, 400);
    wait_until("the known keys are too old", async || ask(&key).await.status == 503).await;
    ask("wrong").await.problem(503, "REDIS_UNAVAILABLE");
    assert_eq!(ask("alice-key").await.status, 400);
    app.redis.signal("CONT");
    wait_until("keys are known again", async || ask(&key).await.status == 400).await;
    app.redis.kill();
}

/// The environment of a program that reads Alice's key from a file.
fn environment(redis: &TestRedis) -> Vec<(&'static str, String)> {
    vec![
        (redis.settings()[0].0, redis.settings()[0].1.to_owned()),
        (redis.settings()[1].0, redis.settings()[1].1.to_owned()),
        ("I2M__AUTH__MODE", "keys".to_owned()),
        ("I2M__AUTH__KEYS_FILE", redis.dir().join("keys.json").display().to_string()),
        ("I2M__AUTH__TICKET_SECRETS_FILE", redis.dir().join("tickets").display().to_string()),
    ]
}

fn keys_file(redis: &TestRedis, hashes: &[&str]) {
    let keys: Vec<Value> = hashes
        .iter()
        .map(|sha256| json!({"name": "upload", "sha256": sha256, "roles": ["client"]}))
        .collect();
    std::fs::write(redis.dir().join("keys.json"), json!(keys).to_string()).unwrap();
}

#[tokio::test]
async fn sighup_reloads_keys_and_ticket_secrets_and_keeps_connections() {
    let redis = TestRedis::start();
    keys_file(&redis, &[crate::rate_limit::ALICE]);
    std::fs::write(redis.dir().join("tickets"), "0123456789abcdef").unwrap();
    let environment = environment(&redis);
    let environment: Vec<_> =
        environment.iter().map(|variable| (variable.0, variable.1.as_str())).collect();
    let service = GatewayProcess::start(redis.dir(), &environment);
    let http = reqwest::Client::new();
    let status = async |key: &str, path: &str| {
        let request = http.get(format!("{}{path}", service.base)).bearer_auth(key);
        request.send().await.map_or(0, |response| response.status().as_u16())
    };
    wait_until("the service is ready", async || status("alice-key", "/readyz").await == 200).await;
    let new = json!({"files": [{"filename": "a.png"}]});
    let post = http.post(format!("{}{LIST}", service.base)).bearer_auth("alice-key").json(&new);
    let job: Value = post.send().await.unwrap().json().await.unwrap();
    let link = job["links"]["stream"].as_str().unwrap();
    let mut open = http.get(format!("{}{link}", service.base)).send().await.unwrap();
    open.chunk().await.unwrap().unwrap();

    // A bad file changes nothing.
    std::fs::write(redis.dir().join("keys.json"), "[").unwrap();
    service.signal("HUP");
    keys_file(&redis, &[crate::rate_limit::ALICE, crate::rate_limit::BOB]);
    std::fs::write(redis.dir().join("tickets"), "fedcba9876543210,0123456789abcdef").unwrap();
    wait_until("bob is known", async || {
        service.signal("HUP");
        status("bob-key", LIST).await == 200
    })
    .await;
    assert_eq!(status("alice-key", LIST).await, 200);
    assert_eq!(status("", link).await, 200);

    // The old secret and the old key become invalid; streams that they opened stay open.
    std::fs::write(redis.dir().join("tickets"), "fedcba9876543210").unwrap();
    keys_file(&redis, &[crate::rate_limit::BOB]);
    wait_until("alice is rejected", async || {
        service.signal("HUP");
        status("alice-key", LIST).await == 403
    })
    .await;
    assert_eq!(status("", link).await, 403);
    let closes = tokio::time::timeout(Duration::from_millis(100), async {
        while let Ok(Some(_)) = open.chunk().await {}
    });
    assert!(closes.await.is_err(), "the stream was cut");
}

/// The command connects to the embedded Redis of a running service.
#[tokio::test]
async fn the_command_line_finds_an_embedded_redis() {
    let dir = tempfile::tempdir().unwrap();
    let environment = [("I2M__REDIS__EMBEDDED__DIR", "redis"), ("I2M__AUTH__MODE", "keys")];
    let create = || {
        let arguments = ["keys", "create", "root", "--role", "admin"];
        GatewayProcess::output(dir.path(), &arguments, &environment)
    };
    let mut service = GatewayProcess::start(dir.path(), &environment);
    let made = create();
    assert!(made.status.success(), "{}", String::from_utf8(made.stderr).unwrap());
    let key = String::from_utf8(made.stdout).unwrap();
    let http = reqwest::Client::new();
    wait_until("the key is known", async || {
        let list = http.get(format!("{}{KEYS}", service.base)).bearer_auth(key.trim_end());
        list.send().await.unwrap().status() == 200
    })
    .await;
    service.signal("TERM");
    assert!(service.wait().success());
}

#[tokio::test]
async fn the_command_line_creates_the_first_key() {
    let app = TestApp::start().await;
    let run = |arguments: &[&str]| -> Output {
        let arguments = [&["keys"], arguments].concat();
        GatewayProcess::output(app.redis.dir(), &arguments, &app.redis.settings())
    };
    let text = |output: Output| {
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let key =
        text(run(&["create", "root", "--role", "admin", "--role", "client", "--limit", "key=7"]));
    let key = key.trim_end();
    wait_until("the key is known", async || call(&app, key).await.status == 200).await;
    assert_eq!(call(&app, key).await.header("x-ratelimit-limit"), "7");
    let listed = text(run(&["list"]));
    assert!(
        listed.starts_with(&format!("{}\troot\tadmin,client\tkey=7\t", &key[..12])),
        "{listed}"
    );
    text(run(&["limit", &key[..12]]));
    wait_until("the limit is removed", async || {
        call(&app, key).await.header("x-ratelimit-limit") == "6000"
    })
    .await;
    text(run(&["revoke", &key[..12]]));
    wait_until("the key is rejected", async || call(&app, key).await.status == 403).await;
    for (arguments, said) in [
        (&["revoke", &key[..12]][..], "does not exist"),
        (&["create", "x", "--role", "root"], "possible values: client, worker, admin"),
        (&["create", "x", "--role", "client", "--limit", "nothing=1"], "no policy \"nothing\""),
    ] {
        let output = run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_key_can_read_its_own_permissions() {
    let app = TestApp::start().await;
    for (who, name, roles) in [
        (Caller::Alice, "alice", json!(["client"])),
        (Caller::Worker, "worker", json!(["worker"])),
        (Caller::Admin, "admin", json!(["admin"])),
    ] {
        let told = app.get(who, "/api/v1/key").await.ok(200);
        assert_eq!(told, json!({"name": name, "roles": roles}));
    }
    app.get(Caller::Anonymous, "/api/v1/key").await.problem(403, "AUTHENTICATION_REQUIRED");
}
