//! Attacks by clients without a key, with a key of a lower role, or with the ticket of another client.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Client, Method};
use rstest::rstest;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    harness::{
        ApiResponse, Caller, GatewayProcess, TIMEOUT, TestApp, TestRedis, config, id_of, path_of,
        wait_until,
    },
    rate_limit::{ALICE, LIST},
};

const SECRET: &str = "0123456789abcdef";

async fn guarded(settings: &[(&str, &str)]) -> TestApp {
    let patient = [
        ("rate_limit.failed_keys_limit", "5"),
        ("rate_limit.failed_keys_window", "1h"),
        ("rate_limit.deadline", "10s"),
    ];
    TestApp::start_with(&[&patient[..], settings].concat()).await
}

async fn with_key(app: &TestApp, http: &Client, key: &str) -> ApiResponse {
    ApiResponse::send(http.get(format!("{}{LIST}", app.base)).bearer_auth(key)).await
}

/// A client at another address of this machine.
fn elsewhere() -> Client {
    Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2])).build().unwrap()
}

#[rstest]
#[case::limits_are_on("true")]
#[case::limits_are_off("false")]
#[tokio::test]
async fn an_address_that_guesses_keys_is_blocked(#[case] enabled: &str) {
    let app = guarded(&[("rate_limit.enabled", enabled)]).await;
    assert_eq!(with_key(&app, &app.http, "alice-key").await.status, 200);
    for i in 0..5 {
        let response = with_key(&app, &app.http, &format!("guess-{i}")).await;
        response.problem(403, "INVALID_API_KEY");
    }
    for key in ["guess-6", "guess-7"] {
        let refused = with_key(&app, &app.http, key).await;
        assert!(refused.header("retry-after").parse::<u64>().unwrap() > 3000);
        let problem = refused.problem(429, "RATE_LIMIT_EXCEEDED");
        assert_eq!(problem["details"]["policy"], "failed_keys");
    }
    // A valid key must not be distinguishable from an invalid one, but a key that was used here before still works.
    with_key(&app, &app.http, "bob-key").await.problem(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(with_key(&app, &app.http, "alice-key").await.status, 200);
    // A request without a key is not an attempt, and another address is not blocked.
    app.get(Caller::Anonymous, LIST).await.problem(403, "AUTHENTICATION_REQUIRED");
    assert_eq!(with_key(&app, &elsewhere(), "bob-key").await.status, 200);
    // Forwarding headers of an untrusted client do not change its address.
    let spoofed = app.http.get(format!("{}{LIST}", app.base)).bearer_auth("guess");
    let spoofed = spoofed.header("x-forwarded-for", "9.9.9.9").header("x-real-ip", "9.9.9.9");
    ApiResponse::send(spoofed).await.problem(429, "RATE_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn failed_attempts_are_counted_across_processes_and_locally_without_redis() {
    let mut app = guarded(&[]).await;
    let settings = [("rate_limit.failed_keys_limit", "5"), ("rate_limit.failed_keys_window", "1h")];
    let other = TestApp::start_on(TestRedis::prepare(&[]), config(&app.redis, &settings)).await;
    other.wait_until_ready().await;
    for i in 0..5 {
        assert_eq!(with_key(&app, &app.http, &format!("guess-{i}")).await.status, 403);
    }
    wait_until("the other process applies the block", async || {
        with_key(&other, &other.http, "guess").await.status == 429
    })
    .await;
    // Without Redis each process counts locally.
    app.redis.kill();
    let statuses = async |http: &Client| {
        let mut statuses = Vec::new();
        for i in 0..7 {
            statuses.push(with_key(&other, http, &format!("guess-{i}")).await.status);
        }
        statuses
    };
    assert_eq!(statuses(&elsewhere()).await, [403, 403, 403, 403, 403, 429, 429]);
}

#[tokio::test]
async fn forged_tickets_count_as_failed_attempts() {
    let app = guarded(&[]).await;
    let job = app.create_job(1).await;
    let path = format!("{}/progress/stream?timeout=1&ticket=", path_of(&job));
    let forged = format!("{path}{}", forge("another-secret-of-16", id_of(&job), 1 << 40));
    for _ in 0..5 {
        app.get(Caller::Anonymous, &forged).await.problem(403, "INVALID_API_KEY");
    }
    // The stream responds with 200 and a retry time, because any other status ends the browser's EventSource.
    let good = format!("{}&timeout=1", job["links"]["stream"].as_str().unwrap());
    for path in [&forged, &good] {
        let refused = app.get(Caller::Anonymous, path).await;
        assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (200, "0"));
        assert!(refused.text.starts_with("retry:") && refused.text.lines().count() <= 2);
    }
}

#[tokio::test]
async fn browsers_with_expired_tickets_block_no_address() {
    let app = guarded(&[("auth.ticket_secrets", SECRET)]).await;
    let (job, other) = (app.create_job(1).await, app.create_job(1).await);
    let expired = |job: &Value| forge(SECRET, id_of(job), chrono::Utc::now().timestamp() - 1);
    let path = format!("{}/progress/stream?timeout=1&ticket=", path_of(&job));
    for _ in 0..20 {
        let refused = app.get(Caller::Anonymous, &format!("{path}{}", expired(&job))).await;
        let said = refused.problem(403, "INVALID_API_KEY");
        assert_eq!(said["detail"], "Invalid or expired stream ticket");
    }
    // A key that is new at this address is accepted, and so is a valid ticket.
    app.get(Caller::Bob, "/api/v1/key").await.ok(200);
    let good = format!("{}&timeout=1", job["links"]["stream"].as_str().unwrap());
    assert!(app.get(Caller::Anonymous, &good).await.text.contains("task_queued"));
    // An expired ticket does not hide an attempt with a forged one.
    let forged = forge("another-secret-of-16", id_of(&other), 1 << 40);
    let both = format!(
        "/api/v1/progress/stream?jobs={},{}&ticket={},{forged}",
        id_of(&job),
        id_of(&other),
        expired(&job)
    );
    for _ in 0..5 {
        app.get(Caller::Anonymous, &both).await.problem(403, "INVALID_API_KEY");
    }
    assert!(app.get(Caller::Anonymous, &both).await.text.starts_with("retry:"));
    app.get(Caller::Worker, "/api/v1/key").await.problem(429, "RATE_LIMIT_EXCEEDED");
}

/// A ticket in the service's format, signed with any secret and with any expiry.
fn forge(secret: &str, job: &str, expiry: i64) -> String {
    let expiry = format!("{expiry:x}");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{job}\0{expiry}").as_bytes());
    format!("{expiry}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn a_ticket_is_valid_for_its_job_until_it_expires() {
    let app = TestApp::start_with(&[
        ("auth.ticket_secrets", SECRET),
        ("rate_limit.failed_keys_limit", "1000"),
    ])
    .await;
    let (job, other) = (app.create_job(1).await, app.create_job(1).await);
    let now = chrono::Utc::now().timestamp();
    let open = async |job: &Value, ticket: &str| {
        let path = format!("{}/progress/stream?timeout=1&ticket={ticket}", path_of(job));
        app.get(Caller::Anonymous, &path).await.status
    };
    let good = forge(SECRET, id_of(&job), now + 100);
    // Control: the following tickets are rejected because of their changes.
    assert_eq!(open(&job, &good).await, 200);
    assert_eq!(open(&other, &good).await, 403);
    assert_eq!(open(&job, &forge(SECRET, id_of(&job), now - 1)).await, 403);
    assert_eq!(open(&job, &forge("fedcba9876543210", id_of(&job), now + 100)).await, 403);
    assert_eq!(open(&job, &forge("", id_of(&job), now + 100)).await, 403);
    let (expiry, signature) = good.split_once('.').unwrap();
    for forged in [
        format!("{:x}.{signature}", now + 1000),
        format!("{}.{signature}", expiry.to_uppercase()),
        format!("+{expiry}.{signature}"),
        format!("{expiry}.{}", &signature[1..]),
        format!("{expiry}.{signature}A"),
        format!("{expiry}."),
        format!(".{signature}"),
        ".".to_owned(),
        String::new(),
        "%00".to_owned(),
        format!("{good},{good}"),
        "x".repeat(20_000),
    ] {
        // The text may have no lower case letters.
        if forged != good {
            assert_eq!(open(&job, &forged).await, 403, "{forged}");
        }
    }
    // A stream of several jobs needs the ticket of each, in the same order.
    let several = async |jobs: [&Value; 2], tickets: [&str; 2]| {
        let jobs = jobs.map(id_of).join(",");
        let path =
            format!("/api/v1/progress/stream?timeout=1&jobs={jobs}&ticket={}", tickets.join(","));
        app.get(Caller::Anonymous, &path).await.status
    };
    let others = forge(SECRET, id_of(&other), now + 100);
    assert_eq!(several([&job, &other], [&good, &others]).await, 200);
    assert_eq!(several([&job, &other], [&others, &good]).await, 403);
    assert_eq!(several([&job, &other], [&good, &good]).await, 403);
    // A ticket is not an API key.
    with_key(&app, &app.http, &good).await.problem(403, "INVALID_API_KEY");
}

const ADMIN: [(Method, &str); 6] = [
    (Method::GET, "/api/v1/admin/keys"),
    (Method::POST, "/api/v1/admin/keys"),
    (Method::PATCH, "/api/v1/admin/keys/i2m_abcdefgh"),
    (Method::DELETE, "/api/v1/admin/keys/i2m_abcdefgh"),
    (Method::GET, "/api/v1/admin/queues"),
    (Method::GET, "/api/v1/admin/anything"),
];

#[tokio::test]
async fn admin_paths_are_for_admins() {
    let app = TestApp::start().await;
    let new = json!({"name": "mine", "roles": ["admin"]});
    for (method, path) in ADMIN {
        for who in [Caller::Alice, Caller::Worker, Caller::Anonymous] {
            let response = app.send(who, method.clone(), path, &new).await;
            assert!([403, 404].contains(&response.status), "{who:?} {path}: {}", response.text);
            assert!(path.contains("queues") || path.contains("anything") || response.status == 403);
        }
    }
    app.post(Caller::Alice, ADMIN[0].1, &new).await.problem(403, "INSUFFICIENT_PERMISSIONS");
    assert_eq!(app.redis.keys(1).await, Vec::<String>::new());
}

#[tokio::test]
async fn caller_input_never_becomes_part_of_a_redis_key() {
    let app = guarded(&[("rate_limit.failed_keys_limit", "1000")]).await;
    let post = |key: &str| {
        let request = app.request(Caller::Alice, Method::POST, LIST).header("idempotency-key", key);
        ApiResponse::send(
            request.json(&json!({"files": [{"filename": "*:{a}"}], "params": {"*": "[a]"}})),
        )
    };
    for word in ["*", "job:*", "{tag}", "a:files", "i2m:keys", "[a-z]", "\\*"] {
        post(word).await.ok(201);
        assert_eq!(with_key(&app, &app.http, word).await.status, 403);
        let proxied = app.request(Caller::Alice, Method::GET, LIST).header("x-forwarded-for", word);
        assert_eq!(ApiResponse::send(proxied).await.status, 200);
        for path in ["", "/files", "/progress", "/progress/stream", "/status"] {
            let id = word.replace('[', "%5B").replace('{', "%7B").replace('\\', "%5C");
            let status = app.get(Caller::Alice, &format!("{LIST}/{id}{path}")).await.status;
            assert_eq!(status, 400, "{id}{path}");
        }
    }
    for database in 0..5 {
        for key in app.redis.keys(database).await {
            let strange = key.find(['*', '{', '[', '\\']);
            assert!(strange.is_none() && !key.contains("files:"), "{key}");
        }
    }
}

#[tokio::test]
async fn keys_tickets_and_queries_are_never_logged() {
    let redis = TestRedis::start();
    let keys = json!([{"name": "alice", "sha256": ALICE, "roles": ["client"]}]).to_string();
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__AUTH__MODE", "keys"),
        ("I2M__AUTH__KEYS", &keys),
        ("I2M__AUTH__TICKET_SECRETS", SECRET),
        ("I2M__LOG__LEVEL", "trace,fred=info"),
    ];
    let service = GatewayProcess::start(redis.dir(), &environment);
    let http = Client::builder().timeout(TIMEOUT).build().unwrap();
    let get = async |path: &str, key: &str| {
        let request = http.get(format!("{}{path}", service.base)).bearer_auth(key);
        ApiResponse::send(request.header("x-api-key", key)).await
    };
    wait_until("the service is ready", async || get("/readyz", "").await.status == 200).await;
    let new = json!({"files": [{"filename": "a.png"}]});
    let post = http.post(format!("{}{LIST}", service.base)).bearer_auth("alice-key").json(&new);
    let job = ApiResponse::send(post).await.ok(201);
    let link = job["links"]["stream"].as_str().unwrap();
    let (_, ticket) = link.split_once("ticket=").unwrap();
    assert_eq!(get(&format!("{link}&timeout=1"), "").await.status, 200);
    assert_eq!(get(LIST, "wrong-key").await.status, 403);
    let forged = forge("fedcba9876543210", id_of(&job), 1 << 40);
    let wrong = format!("{}/progress/stream?ticket={forged}", path_of(&job));
    assert_eq!(get(&wrong, "").await.status, 403);
    get("/last?marker=secret-query", "").await;
    wait_until("the last request is logged", async || {
        service.log.lock().unwrap().contains("/last")
    })
    .await;
    let log = service.log.lock().unwrap();
    assert!(log.contains("\"path\":\"/api/v1/jobs\"") && log.contains("INVALID_API_KEY"));
    for secret in ["alice-key", "wrong-key", ticket, &forged, SECRET, "secret-query"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in {line:?}");
    }
}
