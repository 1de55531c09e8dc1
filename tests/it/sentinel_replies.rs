//! The primary executes a command, its replicas receive it, and the primary dies before its response arrives. The service
//! repeats the command on the next primary, and it is applied once.

use axum::{Router, http::StatusCode};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    harness::{ApiResponse, Caller, SentinelSetup, TestApp, Topology, wait_until},
    webhooks::{QUICK, create, webhooks_of},
};

const KEYS: &str = "/api/v1/admin/keys";
const LOCK: &str = "/api/v1/locks/door";

/// Servers behind proxies that can drop responses.
async fn setup() -> SentinelSetup {
    SentinelSetup::start_with(Topology { is_proxied: true, ..Topology::default() }).await
}

/// A service in which one request makes one call to Redis.
async fn serve(setup: &SentinelSetup) -> TestApp {
    setup.serve(&[("rate_limit.enabled", "false"), ("shared_metrics.flush_interval", "20ms")]).await
}

/// Sends a request while the proxy drops all responses of the primary. Kills the primary once `command` returns `expected` on every replica.
async fn lose_the_response(
    setup: &mut SentinelSetup,
    request: RequestBuilder,
    (command, expected): (&[&str], &str),
) -> ApiResponse {
    let first = setup.primary().await;
    drop_responses(setup, first);
    let mut asking = JoinSet::new();
    asking.spawn(ApiResponse::send(request));
    kill_when(setup, first, (command, expected)).await;
    asking.join_next().await.unwrap().unwrap()
}

fn drop_responses(setup: &SentinelSetup, server: usize) {
    setup.proxies[server].fault.send_modify(|fault| fault.drops_responses = true);
}

async fn kill_when(setup: &mut SentinelSetup, first: usize, (command, expected): (&[&str], &str)) {
    wait_until("the replicas have the write", async || {
        for (index, server) in setup.servers.iter().enumerate() {
            if index != first && setup.cli(server.port, command).await.trim() != expected {
                return false;
            }
        }
        true
    })
    .await;
    setup.servers[first].kill();
}

/// Runs a command on the current primary.
async fn ask(setup: &SentinelSetup, command: &[&str]) -> String {
    // The service may know the new primary before the sentinel that the test uses.
    wait_until("a sentinel names a server that is the primary", async || {
        let port = setup.servers[setup.primary().await].port;
        setup.cli(port, &["role"]).await.starts_with("master")
    })
    .await;
    let port = setup.servers[setup.primary().await].port;
    setup.cli(port, command).await.trim().to_owned()
}

#[tokio::test]
async fn a_lock_is_granted_once() {
    let mut setup = setup().await;
    let app = serve(&setup).await;
    let wanted = app.request(Caller::Worker, Method::POST, LOCK).json(&json!({"ttl_secs": 60}));
    let command = ["-n", "1", "exists", "lock:door"];
    let held = lose_the_response(&mut setup, wanted, (&command, "1")).await.ok(201);
    // The holder has the fencing token of the first run, and there is no second.
    let fence = ask(&setup, &["-n", "1", "hget", "i2m:lock:door", "fence"]).await;
    assert_eq!(held["fencing_token"].to_string(), fence);
    let token = ask(&setup, &["-n", "1", "get", "lock:door"]).await;
    assert_eq!(held["token"], token);
}

#[tokio::test]
async fn a_released_lock_is_not_reported_as_lost() {
    let mut setup = setup().await;
    let app = serve(&setup).await;
    let held = app.post(Caller::Worker, LOCK, &json!({"ttl_secs": 60})).await.ok(201);
    let path = format!("{LOCK}?token={}", held["token"].as_str().unwrap());
    let release = app.request(Caller::Worker, Method::DELETE, &path);
    let command = ["-n", "1", "exists", "lock:door"];
    let released = lose_the_response(&mut setup, release, (&command, "0")).await;
    assert_eq!(released.status, 204, "{}", released.text);
    // A further release is another call and fails.
    app.send(Caller::Worker, Method::DELETE, &path, &Value::Null).await.problem(409, "LOCK_LOST");
}

/// Loads the scripts of keys; otherwise the lost response would be NOSCRIPT.
async fn warm_up(app: &TestApp) {
    let order = json!({"name": "first", "roles": ["client"]});
    let made = app.post(Caller::Admin, KEYS, &order).await.ok(201);
    let path = format!("{KEYS}/{}", made["id"].as_str().unwrap());
    assert_eq!(app.send(Caller::Admin, Method::DELETE, &path, &Value::Null).await.status, 204);
}

#[tokio::test]
async fn a_key_is_created_once() {
    let mut setup = setup().await;
    let app = serve(&setup).await;
    warm_up(&app).await;
    let order = json!({"name": "upload", "roles": ["client"]});
    let order = app.request(Caller::Admin, Method::POST, KEYS).json(&order);
    let command = ["-n", "1", "hlen", "i2m:{keys}"];
    let made = lose_the_response(&mut setup, order, (&command, "1")).await.ok(201);
    assert_eq!(
        ask(&setup, &["-n", "1", "hkeys", "i2m:{keys}"]).await,
        made["id"].as_str().unwrap()
    );
    wait_until("the key is known", async || {
        let list = app.http.get(format!("{}/api/v1/jobs", app.base));
        ApiResponse::send(list.bearer_auth(made["key"].as_str().unwrap())).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_revoked_key_is_not_reported_as_missing() {
    let mut setup = setup().await;
    let app = serve(&setup).await;
    warm_up(&app).await;
    let order = json!({"name": "upload", "roles": ["client"]});
    let made = app.post(Caller::Admin, KEYS, &order).await.ok(201);
    let path = format!("{KEYS}/{}", made["id"].as_str().unwrap());
    let revoke = app.request(Caller::Admin, Method::DELETE, &path);
    let command = ["-n", "1", "exists", "i2m:{keys}"];
    let revoked = lose_the_response(&mut setup, revoke, (&command, "0")).await;
    assert_eq!(revoked.status, 204, "{}", revoked.text);
    app.send(Caller::Admin, Method::DELETE, &path, &Value::Null)
        .await
        .problem(404, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn a_batch_of_counters_is_added_once() {
    let mut setup = setup().await;
    let app = serve(&setup).await;
    let path = "/api/v1/metrics/models";
    app.post(Caller::Worker, path, &json!({"increment": 1})).await.ok_status(202);
    let command = ["-n", "4", "get", "metric:models:count"];
    wait_until("the first batch is written", async || ask(&setup, &command).await == "1").await;
    let more = app.request(Caller::Worker, Method::POST, path).json(&json!({"increment": 5}));
    lose_the_response(&mut setup, more, (&command, "6")).await.ok_status(202);
    app.post(Caller::Worker, path, &json!({"increment": 10})).await.ok_status(202);
    let shown = app.get(Caller::Admin, path).await.ok(200);
    assert_eq!(shown["count"], json!(16.0));
    assert_eq!(ask(&setup, &command).await, "16");
}

#[tokio::test]
async fn a_webhook_attempt_is_recorded_once_and_not_repeated() {
    let mut setup = setup().await;
    let app = setup.serve(&[&[("rate_limit.enabled", "false")], QUICK].concat()).await;
    let first = setup.primary().await;
    // From the second webhook on the proxy drops the primary's responses. By then Redis has all scripts.
    let fault = setup.proxies[first].fault.clone();
    let (heard, heard_count) = tokio::sync::watch::channel(0);
    let router = Router::new().fallback(async move || {
        heard.send_modify(|count| *count += 1);
        fault.send_modify(|fault| fault.drops_responses = *heard.borrow() == 2);
        StatusCode::NO_CONTENT
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/hook", listener.local_addr().unwrap().port());
    let mut receiver = JoinSet::new();
    receiver.spawn(async move { axum::serve(listener, router).await });

    let jobs = [create(&app, &url).await, create(&app, &url).await];
    app.complete(&jobs[0], 0).await.ok(200);
    wait_until("the first webhook is delivered", async || {
        webhooks_of(&app, &jobs[0]).await[0]["state"] == "delivered"
    })
    .await;
    let job = &jobs[1];
    app.complete(job, 0).await.ok(200);
    let record = format!("i2m:webhook:{}:1", crate::harness::id_of(job));
    let command = ["-n", "1", "hget", &record, "state"];
    kill_when(&mut setup, first, (&command, "delivered")).await;
    let noted = webhooks_of(&app, job).await;
    assert_eq!((&noted[0]["state"], &noted[0]["tries"]), (&json!("delivered"), &json!(1)));
    assert_eq!(noted[0]["log"].as_array().unwrap().len(), 1, "{noted:?}");
    wait_until("no webhook is queued", async || {
        ask(&setup, &["-n", "1", "zcard", "i2m:webhooks"]).await == "0"
    })
    .await;
    assert_eq!(*heard_count.borrow(), 2);
}
