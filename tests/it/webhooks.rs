//! Webhooks: each end of a job is sent, signed, to an allowed address until it is delivered or has failed for good.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{BufRead as _, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{
    Caller, GatewayProcess, TestApp, TestRedis, config, id_of, path_of, wait_until,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Settings that allow webhooks to this machine and shorten the retry delays.
pub(crate) const QUICK: &[(&str, &str)] = &[
    ("webhooks.secrets", SECRET),
    ("webhooks.allow_http", "true"),
    ("webhooks.allowed_networks", "127.0.0.0/8"),
    ("webhooks.poll_interval", "20ms"),
    ("webhooks.first_delay", "30ms"),
    ("webhooks.max_delay", "100ms"),
    ("webhooks.max_tries", "4"),
];

/// Records requests. Responds with the given statuses in order, and then with 204.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    responses: Arc<Mutex<VecDeque<u16>>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    path: String,
    pub(crate) headers: BTreeMap<String, String>,
    body: Value,
}

impl Receiver {
    #[expect(clippy::disallowed_methods, reason = "the receiver runs beside the test")]
    pub(crate) async fn start(responses: &[u16]) -> (Self, String) {
        let receiver = Self::default();
        receiver.responses.lock().unwrap().extend(responses);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(Self::receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, format!("http://localhost:{port}/hook"))
    }

    #[expect(clippy::unused_async, reason = "a handler")]
    async fn receive(
        State(receiver): State<Self>,
        uri: Uri,
        headers: HeaderMap,
        body: String,
    ) -> Response {
        let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        receiver.deliveries.lock().unwrap().push(Delivery {
            path: uri.path().to_owned(),
            headers: headers.collect(),
            body: serde_json::from_str(&body).unwrap(),
        });
        let status = receiver.responses.lock().unwrap().pop_front().unwrap_or(204);
        let status = StatusCode::from_u16(status).unwrap();
        (status, [(header::LOCATION, "/elsewhere")]).into_response()
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap().clone()
    }
}

pub(crate) async fn create(app: &TestApp, url: &str) -> Value {
    let new = json!({"files": [{"filename": "a.png"}], "webhook_url": url});
    app.post(Caller::Alice, "/api/v1/jobs", &new).await.ok(201)
}

pub(crate) async fn webhooks_of(app: &TestApp, job: &Value) -> Vec<Value> {
    let told = app.get(Caller::Alice, &format!("{}/webhooks", path_of(job))).await.ok(200);
    told["webhooks"].as_array().unwrap().clone()
}

async fn until_state(app: &TestApp, job: &Value, state: &str) -> Value {
    let mut webhook = Value::Null;
    wait_until(state, async || {
        webhook = webhooks_of(app, job).await.into_iter().next().unwrap_or_default();
        webhook["state"] == state
    })
    .await;
    webhook
}

#[tokio::test]
async fn each_end_of_a_job_has_a_webhook_that_is_retried_until_delivered() {
    let (receiver, url) = Receiver::start(&[500, 302]).await;
    let app = TestApp::start_with(QUICK).await;
    let job = create(&app, &url).await;
    assert_eq!(webhooks_of(&app, &job).await, Vec::<Value>::new());
    app.fail(&job, 0, "no mesh").await.ok(200);
    let webhook = until_state(&app, &job, "delivered").await;
    let deliveries = receiver.deliveries();
    assert_eq!(deliveries.len(), 3);
    for delivery in &deliveries {
        // Each attempt sends the same event, and redirects are not followed.
        assert_eq!((delivery.path.as_str(), &delivery.body), ("/hook", &deliveries[0].body));
        assert_eq!(delivery.headers["webhook-id"], format!("msg_{}_1", id_of(&job)));
        assert_eq!(delivery.headers["content-type"], "application/json");
    }
    let (kind, data) = (&deliveries[0].body["type"], &deliveries[0].body["data"]);
    assert_eq!(kind, "job.failed");
    let told = json!({"job_id": id_of(&job), "status": "failed", "attempt": 1, "total_files": 1,
        "completed_files": 0, "failed_files": 1, "error": "every file failed"});
    assert_eq!(data, &told);
    let log: Vec<&Value> =
        webhook["log"].as_array().unwrap().iter().map(|attempt| &attempt["status"]).collect();
    assert_eq!(log, [&json!(500), &json!(302), &json!(204)]);
    assert_eq!((&webhook["tries"], &webhook["url"]), (&json!(3), &json!(url)));

    app.post(Caller::Alice, &format!("{}/retry", path_of(&job)), &json!({})).await.ok(200);
    app.complete(&job, 0).await.ok(200);
    wait_until("the second webhook arrives", async || receiver.deliveries().len() == 4).await;
    assert_eq!(receiver.deliveries()[3].body["type"], "job.completed");
    assert_eq!(receiver.deliveries()[3].headers["webhook-id"], format!("msg_{}_2", id_of(&job)));
    assert_eq!(webhooks_of(&app, &job).await.len(), 2);
    let page = app.get(Caller::Anonymous, "/metrics").await.text;
    assert!(page.contains("i2m_webhook_attempts_total{outcome=\"delivered\"} 2\n"), "{page}");
    assert!(page.contains("i2m_webhook_attempts_total{outcome=\"failed\"} 2\n"), "{page}");
    app.get(Caller::Bob, &format!("{}/webhooks", path_of(&job)))
        .await
        .problem(404, "JOB_NOT_FOUND");
}

#[rstest]
#[case::gone(&[410], 1)]
#[case::never_well(&[500, 400, 429, 503], 4)]
#[tokio::test]
async fn a_webhook_fails_after_its_last_attempt(#[case] responses: &[u16], #[case] tries: usize) {
    let (receiver, url) = Receiver::start(responses).await;
    let app = TestApp::start_with(QUICK).await;
    let job = create(&app, &url).await;
    app.complete(&job, 0).await.ok(200);
    let webhook = until_state(&app, &job, "given_up").await;
    assert_eq!(webhook["log"].as_array().unwrap().len(), tries);
    assert_eq!((receiver.deliveries().len(), &webhook["next_try_at"]), (tries, &Value::Null));
    assert_eq!(app.redis.run(1, &["ZCARD", "i2m:webhooks"]).await.as_u64(), Some(0));
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_not_called() {
    let (receiver, url) = Receiver::start(&[]).await;
    let settings = [
        ("webhooks.secrets", SECRET),
        ("webhooks.allow_http", "true"),
        ("webhooks.poll_interval", "20ms"),
    ];
    let app = TestApp::start_with(&settings).await;
    let job = create(&app, &url).await;
    app.complete(&job, 0).await.ok(200);
    wait_until("an attempt is made", async || webhooks_of(&app, &job).await[0]["tries"] == 1).await;
    let webhook = webhooks_of(&app, &job).await.remove(0);
    assert_eq!(webhook["log"][0]["outcome"], "the address is not public");
    assert!(receiver.deliveries().is_empty());
    // Other names of this machine resolve to private addresses, too.
    let port = url.rsplit_once(':').unwrap().1;
    for host in ["2130706433", "0x7f.1", "127.1"] {
        let job = create(&app, &format!("http://{host}:{port}")).await;
        app.complete(&job, 0).await.ok(200);
        wait_until(host, async || webhooks_of(&app, &job).await[0]["tries"] == 1).await;
    }
    assert!(receiver.deliveries().is_empty());
}

#[rstest]
#[case::http("http://example.com/")]
#[case::no_scheme("example.com")]
#[case::other_scheme("ftp://example.com/")]
#[case::user("https://user:password@example.com/")]
#[case::fragment("https://example.com/#a")]
#[case::loopback("https://127.0.0.1/")]
#[case::loopback_v6("https://[::1]:8080/")]
#[case::mapped("https://[::ffff:10.0.0.1]/")]
#[case::cloud_metadata("https://169.254.169.254/latest")]
#[case::blank("https://example.com/a b")]
#[case::newline("https://example.com/\r\nX: y")]
#[case::unicode("https://exämple.com/")]
#[case::long(&format!("https://example.com/{}", "a".repeat(2048)))]
#[tokio::test]
async fn an_invalid_url_is_rejected_at_once(#[case] url: &str) {
    let app = TestApp::start_with(&[("webhooks.secrets", SECRET)]).await;
    let new = json!({"files": [{"filename": "a.png"}], "webhook_url": url});
    let problem =
        app.post(Caller::Alice, "/api/v1/jobs", &new).await.problem(422, "VALIDATION_ERROR");
    assert!(problem["detail"].as_str().unwrap().starts_with("webhook_url: "), "{problem}");
}

#[tokio::test]
async fn without_a_secret_webhooks_are_rejected() {
    let app = TestApp::start().await;
    let new = json!({"files": [{"filename": "a.png"}], "webhook_url": "https://example.com/"});
    let problem =
        app.post(Caller::Alice, "/api/v1/jobs", &new).await.problem(422, "VALIDATION_ERROR");
    assert!(problem["detail"].as_str().unwrap().contains("webhooks.secrets"));
}

#[tokio::test]
async fn a_deleted_job_sends_no_more_webhooks() {
    let (receiver, url) = Receiver::start(&[500; 100]).await;
    let mut settings = QUICK.to_vec();
    settings.push(("webhooks.max_tries", "100"));
    let app = TestApp::start_with(&settings).await;
    let job = create(&app, &url).await;
    app.complete(&job, 0).await.ok(200);
    wait_until("an attempt is made", async || !receiver.deliveries().is_empty()).await;
    assert_eq!(
        app.send(Caller::Alice, Method::DELETE, path_of(&job), &json!({})).await.status,
        204
    );
    wait_until("no keys of the job are left", async || {
        app.redis.keys(1).await.iter().all(|key| !key.contains(id_of(&job)))
    })
    .await;
    assert_eq!(app.redis.run(1, &["ZCARD", "i2m:webhooks"]).await.as_u64(), Some(0));
}

#[tokio::test]
async fn only_one_of_several_processes_sends_a_webhook() {
    let (receiver, url) = Receiver::start(&[]).await;
    let app = TestApp::start_with(QUICK).await;
    let second = TestApp::start_on(TestRedis::prepare(&[]), config(&app.redis, QUICK)).await;
    second.wait_until_ready().await;
    let job_count = 40;
    let ends = (0..job_count).map(async |_| {
        let job = create(&app, &url).await;
        second.complete(&job, 0).await.ok(200);
    });
    futures_util::future::join_all(ends).await;
    wait_until("all webhooks arrive", async || receiver.deliveries().len() >= job_count).await;
    wait_until("no webhook is queued", async || {
        app.redis.run(1, &["ZCARD", "i2m:webhooks"]).await.as_u64() == Some(0)
    })
    .await;
    let ids: BTreeSet<String> =
        receiver.deliveries().iter().map(|request| request.headers["webhook-id"].clone()).collect();
    assert_eq!((ids.len(), receiver.deliveries().len()), (job_count, job_count));
}

/// A `webhook_receiver.py` process, killed on drop.
struct PythonReceiver {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl PythonReceiver {
    /// Starts it with a certificate in `dir`. Its first output line is its URL.
    fn start(dir: &Path) -> Self {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert, certificate.cert.pem()).unwrap();
        std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(root.join(".cache/venv/bin/python"))
            .arg(root.join("tests/python/webhook_receiver.py"))
            .args([cert, key])
            .args([SECRET, "2"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("make test has set up .cache/venv");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next_line(&mut self) -> String {
        self.lines.next().expect("the receiver ended").unwrap()
    }
}

impl Drop for PythonReceiver {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[tokio::test]
async fn python_verifies_each_event_over_tls_even_after_the_service_was_killed() {
    let redis = TestRedis::start();
    let mut receiver = PythonReceiver::start(redis.dir());
    let url = receiver.next_line();
    let authority = redis.dir().join("cert.pem");
    let secrets = format!("{SECRET},whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQQ==");
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__WEBHOOKS__SECRETS", &secrets),
        ("I2M__WEBHOOKS__ALLOWED_NETWORKS", "127.0.0.0/8,::1/128"),
        ("I2M__WEBHOOKS__POLL_INTERVAL", "20ms"),
        ("I2M__WEBHOOKS__TIMEOUT", "500ms"),
        ("I2M__WEBHOOKS__FIRST_DELAY", "20ms"),
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
    ];
    let service = GatewayProcess::start(redis.dir(), &environment);
    let http = reqwest::Client::new();
    wait_until("the service is ready", async || {
        let ready = http.get(format!("{}/readyz", service.base)).send().await;
        ready.is_ok_and(|response| response.status() == 200)
    })
    .await;
    let mut wanted = BTreeSet::new();
    for _ in 0..12 {
        let new = json!({"files": [{"filename": "größe.png"}], "webhook_url": url});
        let jobs = format!("{}/api/v1/jobs", service.base);
        let job: Value = http
            .post(&jobs)
            .bearer_auth("k")
            .json(&new)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let path = format!("{}{}/files/file_000/result", service.base, path_of(&job));
        let result = json!({"status": "failed", "error": "kein Netz: größer"});
        let stored = http.put(path).bearer_auth("k").json(&result).send().await.unwrap();
        assert_eq!(stored.status(), 200);
        wanted.insert(format!("msg_{}_1", id_of(&job)));
    }
    // Most attempts have failed by now, and some are in flight; this process sends no more.
    service.signal("KILL");
    drop(service);

    let _next = GatewayProcess::start(redis.dir(), &environment);
    let mut received = BTreeSet::new();
    while received != wanted {
        let line: Value = serde_json::from_str(&receiver.next_line()).unwrap();
        assert_eq!(line["told"]["type"], "job.failed");
        received.insert(line["id"].as_str().unwrap().to_owned());
    }
}
