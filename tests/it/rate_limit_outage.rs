//! Requests that Redis cannot count: admitted, rejected or counted locally, without a long wait.

use std::time::Duration;

use crate::{
    harness::{ApiResponse, Caller, TestApp, TestRedis, config_with, wait_until},
    rate_limit::policy,
};

/// The longest duration of most requests: the limiter's deadline plus a margin for a busy machine.
const USUALLY: Duration = Duration::from_millis(500);
/// The longest duration of every request: far below `redis.command_timeout`, which must not be awaited.
const ALWAYS: Duration = Duration::from_secs(5);

/// The handler of this path does not use Redis, so only the limiter takes time.
const NO_JOB: &str = "/api/v1/jobs/none";

const STREAM: &str = "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/progress/stream";

async fn start(mode: &str) -> TestApp {
    let fields = [("scope", "key"), ("limit", "10"), ("window", "1h"), ("on_redis_failure", mode)];
    let redis = TestRedis::start();
    let settings = [("rate_limit.process_count", "2"), ("redis.command_timeout", "15s")];
    let config = config_with(&redis, &settings, &policy("key", &fields));
    let app = TestApp::start_on(redis, config).await;
    app.wait_until_ready().await;
    // Bob's request, so that a local count does not use Alice's share.
    wait_until("requests are counted", async || is_counted(&app.get(Caller::Bob, NO_JOB).await))
        .await;
    app
}

/// On a busy machine even a healthy Redis may miss the deadline.
fn is_counted(response: &ApiResponse) -> bool {
    response.header("x-ratelimit-degraded").is_empty()
}

/// A failure of Redis.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Hung,
    /// Accepts commands, but runs no script.
    Slow,
}

const FAULTS: [Fault; 3] = [Fault::Killed, Fault::Hung, Fault::Slow];

async fn inject(app: &mut TestApp, fault: Fault) {
    match fault {
        Fault::Killed => app.redis.kill(),
        Fault::Hung => app.redis.signal("STOP"),
        Fault::Slow => {
            app.redis.run(3, &["CLIENT", "PAUSE", "600000", "WRITE"]).await;
        }
    }
}

/// Sends twenty requests and asserts their durations.
async fn ask(app: &TestApp, fault: Fault) -> Vec<ApiResponse> {
    let mut responses = Vec::new();
    for _ in 0..20 {
        let response = app.get(Caller::Alice, NO_JOB).await;
        assert!(response.took < ALWAYS, "{fault:?}: {:?}", response.took);
        responses.push(response);
    }
    let mut took: Vec<_> = responses.iter().map(|response| response.took).collect();
    took.sort();
    assert!(took[10] < USUALLY, "{fault:?}: {took:?}");
    responses
}

#[tokio::test]
async fn an_open_policy_admits_every_request() {
    for fault in FAULTS {
        let mut app = start("open").await;
        inject(&mut app, fault).await;
        for response in ask(&app, fault).await {
            assert_eq!(response.header("x-ratelimit-degraded"), "true");
            assert_eq!(response.header("ratelimit-policy"), "\"key\";q=10;w=3600");
            response.problem(400, "INVALID_JOB_ID");
        }
    }
}

#[tokio::test]
async fn a_closed_policy_rejects_every_request() {
    for fault in FAULTS {
        let mut app = start("closed").await;
        inject(&mut app, fault).await;
        for response in ask(&app, fault).await {
            assert_eq!(response.header("x-ratelimit-degraded"), "true");
            assert_eq!(response.header("retry-after"), "1");
            response.problem(503, "REDIS_UNAVAILABLE");
        }
        let stream = app.get(Caller::Alice, STREAM).await;
        assert!(stream.took < ALWAYS);
        assert_eq!((stream.status, stream.header("x-ratelimit-degraded")), (200, "true"));
        assert!(stream.text.starts_with("retry:"), "{}", stream.text);
    }
}

#[tokio::test]
async fn a_local_policy_admits_its_share() {
    for fault in FAULTS {
        let mut app = start("local").await;
        inject(&mut app, fault).await;
        let responses = ask(&app, fault).await;
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        // Half of the limit, because there are two nodes; requests rejected by the handler count, too.
        assert_eq!(statuses, [vec![400; 5], vec![429; 15]].concat(), "{fault:?}");
        assert!(responses.iter().all(|response| response.header("x-ratelimit-degraded") == "true"));
        assert_eq!(responses[0].header("x-ratelimit-remaining"), "4");
        assert_eq!(responses[0].header("x-ratelimit-limit"), "5");
    }
}

#[tokio::test]
async fn too_many_waiting_requests_are_decided_at_once() {
    const DEADLINE: Duration = Duration::from_secs(4);
    let fields = [("scope", "key"), ("limit", "10"), ("window", "1h")];
    let redis = TestRedis::start();
    // Only the limiter's deadline ends the wait.
    let settings = [
        ("rate_limit.max_waiting", "3"),
        ("rate_limit.deadline", "4s"),
        ("redis.command_timeout", "15s"),
        ("redis.probe_timeout", "15s"),
    ];
    let config = config_with(&redis, &settings, &policy("key", &fields));
    let app = TestApp::start_on(redis, config).await;
    app.wait_until_ready().await;
    app.redis.run(3, &["CLIENT", "PAUSE", "600000", "WRITE"]).await;
    let asking = (0..20).map(|_| app.get(Caller::Alice, NO_JOB));
    let responses = futures_util::future::join_all(asking).await;
    let at_once = responses.iter().filter(|response| response.took < DEADLINE).count();
    assert_eq!(at_once, 17);
}

#[tokio::test]
async fn counting_resumes_when_redis_is_back() {
    let mut app = start("open").await;
    app.redis.kill();
    assert_eq!(app.get(Caller::Alice, NO_JOB).await.header("x-ratelimit-degraded"), "true");
    app.redis.start_again();
    wait_until("requests are counted again", async || {
        is_counted(&app.get(Caller::Alice, NO_JOB).await)
    })
    .await;
}
