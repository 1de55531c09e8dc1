//! Redis with sentinels: primaries die, hang and are replaced without failed requests.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    ApiResponse, Caller, Certificate, SentinelSetup, Topology, Traffic, id_of, path_of, wait_until,
};

#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Hung,
    Replaced,
}

#[rstest]
#[case::killed(Fault::Killed)]
#[case::hung(Fault::Hung)]
#[case::replaced_by_an_operator(Fault::Replaced)]
#[tokio::test]
async fn repeatable_requests_survive_a_failover(#[case] fault: Fault) {
    let mut setup = SentinelSetup::start().await;
    let app = setup.serve(&[("redis.durability", "wait")]).await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    let first = setup.primary().await;
    let traffic = Traffic::start(&app);
    match fault {
        Fault::Killed => setup.servers[first].kill(),
        Fault::Hung => setup.servers[first].signal("STOP"),
        Fault::Replaced => setup.fail_over().await,
    }
    wait_until("another server is the primary", async || setup.primary().await != first).await;
    app.report(&job, 0, &json!({"progress": 50})).await.ok(200);
    assert_eq!(stream.wait_for("file_update").await.data["file_progress"], 50);
    app.complete(&job, 0).await.ok(200);
    stream.wait_for("task_completed").await;
    let result = traffic.stop().await;
    assert_eq!(result.failures, Vec::<String>::new(), "slowest {:?}", result.slowest);
    // No job that was acknowledged is lost.
    for id in &result.created {
        app.get(Caller::Alice, &format!("/api/v1/jobs/{id}")).await.ok(200);
    }
    // The new primary has the same databases.
    let now = setup.servers[setup.primary().await].port;
    assert_eq!(
        setup.cli(now, &["-n", "1", "exists", &format!("job:{}", id_of(&job))]).await,
        "1\n"
    );
    if matches!(fault, Fault::Hung) {
        setup.servers[first].signal("CONT");
    }
}

#[tokio::test]
async fn a_result_repeated_by_a_failover_counts_once() {
    let mut setup = SentinelSetup::start().await;
    let app = setup.serve(&[]).await;
    let mut jobs = Vec::new();
    for _ in 0..20 {
        jobs.push(app.create_job(2).await);
    }
    let first = setup.primary().await;
    setup.wait_until_replicated().await;
    // The requests go to a server that hangs and is then replaced, so each is repeated.
    setup.servers[first].signal("STOP");
    let results = jobs.iter().map(|job| app.complete(job, 0));
    for response in futures_util::future::join_all(results).await {
        response.ok(200);
    }
    setup.servers[first].kill();
    for job in &jobs {
        let job = app.get(Caller::Alice, path_of(job)).await.ok(200);
        assert_eq!((&job["completed_files"], &job["status"]), (&json!(1), &json!("processing")));
    }
}

#[tokio::test]
async fn an_indeterminate_call_is_reported_and_not_repeated() {
    let mut setup = SentinelSetup::start().await;
    let app = setup.serve(&[]).await;
    let job = app.create_job(1).await;
    app.fail(&job, 0, "no luck").await.ok(200);
    setup.wait_until_replicated().await;
    let first = setup.primary().await;
    setup.servers[first].signal("STOP");
    // A retry starts an attempt; a repeated retry would start another.
    let path = format!("{}/retry", path_of(&job));
    let response = ApiResponse::send(app.request(Caller::Alice, Method::POST, &path)).await;
    assert!([200, 503].contains(&response.status), "{}", response.text);
    setup.servers[first].kill();
    wait_until("another server is the primary", async || setup.primary().await != first).await;
    wait_until("the job is served", async || {
        app.get(Caller::Alice, path_of(&job)).await.status == 200
    })
    .await;
    let job = app.get(Caller::Alice, path_of(&job)).await.ok(200);
    assert!(job["attempt"].as_u64().unwrap() <= 2, "{job}");
}

/// Redis ends all WAITs with an error when it becomes a replica.
#[tokio::test]
async fn an_interrupted_wait_for_replicas_is_repeated() {
    let setup = SentinelSetup::start_with(Topology {
        replica_count: 1,
        sentinel_count: 1,
        down_after_ms: 60_000,
        ..Topology::default()
    })
    .await;
    let app = setup.serve(&[("redis.durability", "wait")]).await;
    // This loads the script.
    app.create_job(1).await;
    setup.servers[1].signal("STOP");
    let mut creating = JoinSet::new();
    let new = json!({"files": [{"filename": "a.png"}]});
    creating.spawn(ApiResponse::send(
        app.request(Caller::Alice, Method::POST, "/api/v1/jobs").json(&new),
    ));
    let port = setup.servers[0].port;
    wait_until("the WAIT is blocked and gets unblocked", async || {
        let clients = setup.cli(port, &["client", "list"]).await;
        let waiting = clients.lines().find(|line| line.contains("cmd=wait"));
        let id = waiting.and_then(|line| line.strip_prefix("id=")?.split(' ').next());
        let Some(id) = id else { return false };
        setup.cli(port, &["client", "unblock", id, "error"]).await.trim() == "1"
    })
    .await;
    setup.servers[1].signal("CONT");
    creating.join_next().await.unwrap().unwrap().ok(201);
    assert_eq!(
        app.get(Caller::Alice, "/api/v1/jobs").await.json()["jobs"].as_array().unwrap().len(),
        2
    );
}

#[tokio::test]
async fn a_sentinel_that_hangs_delays_nothing() {
    let mut setup = SentinelSetup::start().await;
    setup.sentinels[0].signal("STOP");
    let app = setup.serve(&[("redis.durability", "wait")]).await;
    let job = app.create_job(1).await;
    setup.sentinels[0].signal("CONT");
    setup.sentinels[0].kill();
    let first = setup.primary().await;
    setup.servers[first].kill();
    app.get(Caller::Alice, path_of(&job)).await.ok(200);
    app.create_job(1).await;
}

#[tokio::test]
async fn requests_fail_fast_during_an_outage_longer_than_a_failover() {
    let mut setup = SentinelSetup::start_with(Topology {
        replica_count: 0,
        sentinel_count: 1,
        ..Topology::default()
    })
    .await;
    let app = setup.serve(&[("redis.failover_wait", "300ms")]).await;
    let job = app.create_job(1).await;
    setup.servers[0].kill();
    wait_until("calls are rejected at once", async || {
        let response = app.get(Caller::Alice, path_of(&job)).await;
        response.status == 503 && response.took < Duration::from_millis(20)
    })
    .await;
    setup.servers[0].start_again();
    app.wait_until_ready().await;
    app.create_job(1).await;
}

#[rstest]
#[case::passwords(
    "default",
    "requirepass sesame\nmasterauth sesame\n",
    "default",
    "requirepass open\n"
)]
#[case::users(
    "gateway",
    "requirepass sesame\nmasterauth sesame\nuser gateway on >own ~* &* +@all -@admin -@dangerous +info\n",
    "asker",
    "requirepass open\nuser asker on >own &* -@all +sentinel +ping +hello +subscribe +info +client\n"
)]
#[tokio::test]
async fn servers_and_sentinels_with_passwords_are_reached(
    #[case] user: &str,
    #[case] server_lines: &str,
    #[case] sentinel_user: &str,
    #[case] sentinel_lines: &str,
) {
    let password =
        |user: &str, of_default: &'static str| if user == "default" { of_default } else { "own" };
    let setup = SentinelSetup::start_with(Topology {
        replica_count: 1,
        sentinel_count: 1,
        server_lines: server_lines.to_owned(),
        sentinel_lines: format!("{sentinel_lines}sentinel auth-pass mymaster sesame\n"),
        cli: ["-a", "sesame"].map(str::to_owned).to_vec(),
        sentinel_cli: ["-a", "open"].map(str::to_owned).to_vec(),
        ..Topology::default()
    })
    .await;
    let app = setup
        .serve(&[
            ("redis.username", user),
            ("redis.password", password(user, "sesame")),
            ("redis.sentinel_username", sentinel_user),
            ("redis.sentinel_password", password(sentinel_user, "open")),
        ])
        .await;
    let job = app.create_job(1).await;
    app.get(Caller::Alice, path_of(&job)).await.ok(200);
}

#[tokio::test]
async fn servers_and_sentinels_are_reached_over_tls() {
    let certificate = Certificate::new();
    let cert = certificate.path();
    let lines = certificate.redis_lines();
    let cli = vec!["--tls".to_owned(), "--cacert".to_owned(), cert.clone()];
    let setup = SentinelSetup::start_with(Topology {
        replica_count: 1,
        sentinel_count: 1,
        port_word: "port 0\ntls-port",
        server_lines: lines.clone(),
        sentinel_lines: lines,
        cli: cli.clone(),
        sentinel_cli: cli,
        ..Topology::default()
    })
    .await;
    let app = setup.serve(&[("redis.tls", "true"), ("redis.tls_ca_file", &cert)]).await;
    app.create_job(1).await;
}
