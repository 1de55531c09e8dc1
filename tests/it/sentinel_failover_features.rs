//! Features during a failover: locks and their waiters, the cleanup, data
//! migrations, and webhooks.

use std::collections::BTreeMap;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    cleanup::{PATH, clean},
    harness::{ApiResponse, Caller, SentinelSetup, TestApp, wait_until},
    webhooks::{QUICK, Receiver, create, webhooks_of},
};

const LOCK: &str = "/api/v1/locks/door";
const OWNER: &str = "72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20";
/// Creates old jobs as the Python service does.
const FILL: &str = "for i = 1, ARGV[1] do \
    local id = string.format('00000000-0000-4000-8000-%012d', i) \
    redis.call('HSET', 'job:' .. id, 'job_id', id, 'api_key_hash', ARGV[2], 'status', 'pending', \
        'total_files', 1, 'completed_files', 0, 'failed_files', 0, \
        'created_at', '2020-01-01T00:00:00', 'updated_at', '2020-01-01T00:00:00') \
    redis.call('RPUSH', 'job:' .. id .. ':files', '{\"filename\": \"a.png\"}') \
    redis.call('SADD', 'user_jobs:' .. ARGV[2], id) end";

#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Replaced,
}

impl Fault {
    /// First waits for the replicas; other tests cover data that is lost with the primary.
    async fn inject(self, setup: &mut SentinelSetup) {
        let first = setup.primary().await;
        setup.wait_until_replicated().await;
        match self {
            Self::Killed => setup.servers[first].kill(),
            Self::Replaced => setup.fail_over().await,
        }
        wait_until("another server is the primary", async || setup.primary().await != first).await;
    }
}

async fn ask(setup: &SentinelSetup, command: &[&str]) -> String {
    let port = setup.servers[setup.primary().await].port;
    setup.cli(port, command).await.trim().to_owned()
}

async fn fill(setup: &SentinelSetup, n: usize) {
    ask(setup, &["-n", "1", "eval", FILL, "0", &n.to_string(), OWNER]).await;
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

async fn acquire(app: &TestApp) -> Value {
    app.post(Caller::Worker, LOCK, &json!({"ttl_secs": 60})).await.ok(201)
}

async fn release(app: &TestApp, lock: &Value) -> ApiResponse {
    let path = format!("{LOCK}?token={}", lock["token"].as_str().unwrap());
    app.send(Caller::Worker, Method::DELETE, &path, &Value::Null).await
}

async fn extend(app: &TestApp, lock: &Value) -> ApiResponse {
    let extension = json!({"token": lock["token"], "ttl_secs": 60});
    app.send(Caller::Worker, Method::PATCH, LOCK, &extension).await
}

#[rstest]
#[case::killed(Fault::Killed)]
#[case::replaced(Fault::Replaced)]
#[tokio::test]
async fn a_held_lock_and_its_waiters_survive_a_failover(#[case] fault: Fault) {
    let mut setup = SentinelSetup::start().await;
    let app = setup.serve(&[]).await;
    let held = acquire(&app).await;
    let mut waiting = JoinSet::new();
    for _ in 0..2 {
        let wish = app.request(Caller::Worker, Method::POST, LOCK);
        waiting.spawn(ApiResponse::send(wish.json(&json!({"ttl_secs": 60, "wait_secs": 8}))));
    }
    wait_until("the waiter is subscribed", async || {
        ask(&setup, &["pubsub", "numsub", "lock:door:released"]).await.ends_with('1')
    })
    .await;
    fault.inject(&mut setup).await;
    let extended = extend(&app, &held).await.ok(200);
    assert_eq!(extended["fencing_token"], held["fencing_token"]);
    assert_eq!(release(&app, &held).await.status, 204);
    let mut last = number(&held["fencing_token"]);
    for _ in 0..2 {
        let next = waiting.join_next().await.unwrap().unwrap().ok(201);
        assert!(number(&next["fencing_token"]) > last, "{next} after {last}");
        last = number(&next["fencing_token"]);
        assert_eq!(release(&app, &next).await.status, 204);
    }
}

#[tokio::test]
async fn a_lock_lost_with_the_primary_is_reported_and_the_fencing_token_grows() {
    let mut setup = SentinelSetup::start().await;
    let app = setup.serve(&[]).await;
    let held = acquire(&app).await;
    setup.wait_until_replicated().await;
    // Simulates that no replica received the lock before the primary died.
    let first = setup.primary().await;
    for (index, server) in setup.servers.iter().enumerate() {
        if index != first {
            setup.cli(server.port, &["config", "set", "replica-read-only", "no"]).await;
            setup.cli(server.port, &["-n", "1", "del", "lock:door", "i2m:lock:door"]).await;
        }
    }
    setup.servers[first].kill();
    extend(&app, &held).await.problem(409, "LOCK_LOST");
    let next = acquire(&app).await;
    assert!(number(&next["fencing_token"]) > number(&held["fencing_token"]));
    release(&app, &held).await.problem(409, "LOCK_LOST");
    assert_eq!(release(&app, &next).await.status, 204);
}

#[rstest]
#[case::killed(Fault::Killed)]
#[case::replaced(Fault::Replaced)]
#[tokio::test]
async fn a_cleanup_survives_a_failover(#[case] fault: Fault) {
    const JOBS: usize = 1500;
    let mut setup = SentinelSetup::start().await;
    let app = setup.serve(&[("cleanup.duty_cycle", "0.2"), ("cleanup.batch_size", "50")]).await;
    fill(&setup, JOBS).await;
    let begun = app.post(Caller::Admin, PATH, &json!({})).await.ok(202);
    let mut report = Value::Null;
    wait_until("some jobs are removed, but not all", async || {
        report = app.get(Caller::Admin, PATH).await.ok(200);
        number(&report["totals"]["removed"]) > 0
    })
    .await;
    assert_eq!(report["state"], "running", "{report}");
    fault.inject(&mut setup).await;
    wait_until("the cleanup ends", async || {
        report = app.get(Caller::Admin, PATH).await.ok(200);
        report["state"] != "running"
    })
    .await;
    assert_eq!((&report["id"], &report["state"]), (&begun["id"], &json!("finished")), "{report}");
    // A scan that continues on the new primary may miss keys, because each server has its own order.
    clean(&app, "").await;
    assert_eq!(ask(&setup, &["-n", "1", "exists", &format!("user_jobs:{OWNER}")]).await, "0");
    assert_eq!(ask(&setup, &["-n", "1", "keys", "job:*"]).await, "");
}

#[rstest]
#[case::killed(Fault::Killed)]
#[case::replaced(Fault::Replaced)]
#[tokio::test]
async fn migrations_survive_a_failover(#[case] fault: Fault) {
    const JOBS: usize = 1500;
    const FIRST: [&str; 5] = ["-n", "1", "hget", "i2m:schema", "0001_adopt_python_data"];
    let mut setup = SentinelSetup::start().await;
    fill(&setup, JOBS).await;
    let app = setup.start_serving(&[("cleanup.duty_cycle", "0.1")]).await;
    wait_until("the migration has made progress", async || {
        let state = ask(&setup, &FIRST).await;
        state.starts_with("running") && !state.contains(" 1:0 ")
    })
    .await;
    assert_eq!(app.get(Caller::Anonymous, "/readyz").await.status, 503);
    fault.inject(&mut setup).await;
    app.wait_until_ready().await;
    assert!(ask(&setup, &FIRST).await.starts_with("applied"));
    let by_time = format!("user_jobs:{OWNER}:by_time");
    assert_eq!(ask(&setup, &["-n", "1", "zcard", &by_time]).await, JOBS.to_string());
    let page = app.get(Caller::Alice, "/api/v1/jobs?limit=50").await.ok(200);
    assert_eq!(page["jobs"].as_array().unwrap().len(), 50);
}

#[rstest]
#[case::killed(Fault::Killed)]
#[case::replaced(Fault::Replaced)]
#[tokio::test]
async fn webhooks_survive_a_failover(#[case] fault: Fault) {
    const JOBS: usize = 10;
    let mut setup = SentinelSetup::start().await;
    // Short leases, so that webhooks whose claim was lost with its response are sent soon.
    let app = setup.serve(&[QUICK, &[("webhooks.timeout", "1s")]].concat()).await;
    let (receiver, url) = Receiver::start(&[]).await;
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        jobs.push(create(&app, &url).await);
    }
    let (now, later) = jobs.split_at(JOBS / 2);
    for job in now {
        app.complete(job, 0).await.ok(200);
    }
    fault.inject(&mut setup).await;
    for job in later {
        app.complete(job, 0).await.ok(200);
    }
    for job in &jobs {
        wait_until("the webhook is delivered", async || {
            webhooks_of(&app, job).await[0]["state"] == "delivered"
        })
        .await;
    }
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for delivery in receiver.deliveries() {
        *counts.entry(delivery.headers["webhook-id"].clone()).or_default() += 1;
    }
    for job in &jobs {
        let webhook = &webhooks_of(&app, job).await[0];
        let count = counts[webhook["webhook_id"].as_str().unwrap()];
        assert_eq!(number(&webhook["tries"]), count, "{webhook}");
        assert_eq!(webhook["log"].as_array().unwrap().len() as u64, count, "{webhook}");
    }
}
