//! Replicas have all acknowledged writes and serve reads that may be stale.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::harness::{
    ApiResponse, Caller, SentinelSetup, TestApp, Topology, id_of, path_of, wait_until,
};

#[tokio::test]
async fn a_job_is_acknowledged_after_replication_and_created_once() {
    let mut setup =
        SentinelSetup::start_with(Topology { replica_count: 1, ..Topology::default() }).await;
    let settings = [
        ("redis.durability", "wait"),
        ("redis.wait_timeout", "500ms"),
        ("redis.failover_wait", "500ms"),
    ];
    let app = setup.serve(&settings).await;
    // A replica is connected some time before it receives new writes.
    setup.wait_until_replicated().await;
    app.create_job(1).await;

    let replica = 1 - setup.primary().await;
    setup.servers[replica].kill();
    let new = json!({"files": [{"filename": "a.png"}]});
    let create = || app.request(Caller::Alice, Method::POST, "/api/v1/jobs").json(&new);
    let response = ApiResponse::send(create().header("idempotency-key", "once")).await;
    assert!(response.took < Duration::from_secs(2), "{:?}", response.took);
    let problem = response.problem(503, "REDIS_UNAVAILABLE");
    assert!(problem["detail"].as_str().unwrap().contains("Idempotency-Key"), "{problem}");

    setup.servers[replica].start_again();
    let mut job = json!(null);
    wait_until("the replica has the job", async || {
        let response = ApiResponse::send(create().header("idempotency-key", "once")).await;
        job = response.json();
        response.status == 201
    })
    .await;
    let port = setup.servers[replica].port;
    assert_eq!(
        setup.cli(port, &["-n", "1", "exists", &format!("job:{}", id_of(&job))]).await,
        "1\n"
    );
    let page = app.get(Caller::Alice, "/api/v1/jobs").await.ok(200);
    assert_eq!(page["jobs"].as_array().unwrap().len(), 2);
}

/// The number of scripts that the replicas ran.
async fn scripts_on_replicas(setup: &SentinelSetup) -> usize {
    let primary = setup.primary().await;
    let mut call_count = 0;
    for server in setup.servers.iter().enumerate().filter(|server| server.0 != primary) {
        let stats = setup.cli(server.1.port, &["info", "commandstats"]).await;
        let line =
            stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
        let calls = line.split(['=', ',']).nth(1).unwrap_or("0");
        call_count += calls.parse::<usize>().unwrap();
    }
    call_count
}

async fn wait_until_replicas_are_used(app: &TestApp, used_count: usize) {
    wait_until("replicas are used", async || {
        let health = app.get(Caller::Anonymous, "/health").await.json();
        let replicas = health["checks"]["replicas"].as_array().unwrap();
        replicas.iter().filter(|replica| replica["used"] == true).count() == used_count
    })
    .await;
}

#[tokio::test]
async fn replicas_serve_only_reads_that_may_be_stale() {
    let mut setup = SentinelSetup::start().await;
    let app = setup.serve(&[]).await;
    wait_until_replicas_are_used(&app, 2).await;
    for _ in 0..30 {
        // The owner of a new job sees it at once on every path.
        let job = app.create_job(1).await;
        let status = app.get(Caller::Alice, &format!("{}/status", path_of(&job))).await.ok(200);
        assert_eq!(status["status"], "pending");
        let page = app.get(Caller::Alice, "/api/v1/jobs?limit=1").await.ok(200);
        assert_eq!(page["jobs"][0]["job_id"], job["job_id"]);
    }
    let page = app.get(Caller::Alice, "/api/v1/jobs?limit=10").await.ok(200);
    let next = format!("/api/v1/jobs?limit=10&cursor={}", page["next_cursor"].as_str().unwrap());
    let before = scripts_on_replicas(&setup).await;
    for _ in 0..10 {
        let page = app.get(Caller::Alice, &next).await.ok(200);
        assert_eq!(page["jobs"].as_array().unwrap().len(), 10);
    }
    assert!(scripts_on_replicas(&setup).await >= before + 10);

    // One replica hangs and one is down: the primary serves the reads.
    let primary = setup.primary().await;
    setup.servers[(primary + 1) % 3].signal("STOP");
    setup.servers[(primary + 2) % 3].kill();
    for _ in 0..10 {
        let page = app.get(Caller::Alice, &next).await;
        assert!(page.took < Duration::from_secs(1), "{:?}", page.took);
        assert_eq!(page.ok(200)["jobs"].as_array().unwrap().len(), 10);
    }
    wait_until_replicas_are_used(&app, 0).await;
}

#[tokio::test]
async fn a_replica_that_falls_behind_is_not_read() {
    let setup =
        SentinelSetup::start_with(Topology { replica_count: 1, ..Topology::default() }).await;
    let app = setup.serve(&[]).await;
    let job = app.create_job(1).await;
    let status = format!("{}/status", path_of(&job));
    wait_until_replicas_are_used(&app, 1).await;
    wait_until("a replica has the status", async || {
        app.get(Caller::Alice, &status).await.ok(200);
        scripts_on_replicas(&setup).await > 0
    })
    .await;
    // From now on the replica receives no writes, but still responds.
    let replica = setup.servers[1 - setup.primary().await].port;
    setup.cli(replica, &["replicaof", "127.0.0.1", "1"]).await;
    app.complete(&job, 0).await.ok(200);
    wait_until_replicas_are_used(&app, 0).await;
    assert_eq!(app.get(Caller::Alice, &status).await.ok(200)["status"], "completed");
}
