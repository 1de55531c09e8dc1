//! A Redis Cluster of three primaries with replicas: behaviour that tests on one node (`make test-cluster`) do not cover.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use rstest::rstest;
use serde_json::json;

use crate::harness::{
    ApiResponse, Caller, Certificate, ClusterSetup, ConnectVia, EventSource, TestApp, Traffic,
    id_of, path_of, wait_until,
};

/// Enough jobs that every shard has some.
const MANY: usize = 40;

#[tokio::test]
async fn jobs_are_spread_over_shards_and_each_is_complete() {
    let setup = ClusterSetup::start(3).await;
    let app = setup.serve(&[]).await;
    let jobs = join_all((0..MANY).map(|_| app.create_job(2))).await;
    for node in 0..3 {
        let n: u32 = setup.ask(node, &["dbsize"]).await.trim().parse().unwrap();
        assert!(n > 10, "node {node} has {n} keys");
    }
    let mut streams = Vec::new();
    for job in &jobs {
        let mut stream = app.follow(job, None).await;
        stream.wait_for("task_queued").await;
        streams.push(stream);
    }
    join_all(jobs.iter().map(|job| async {
        app.report(job, 0, &json!({"progress": 40})).await.ok(200);
        app.complete(job, 0).await.ok(200);
        app.complete(job, 1).await.ok(200);
    }))
    .await;
    for stream in &mut streams {
        stream.wait_for("task_completed").await;
    }
    let mut listed = HashSet::new();
    let mut path = "/api/v1/jobs?limit=7&status=completed".to_owned();
    loop {
        let page = app.get(Caller::Alice, &path).await.ok(200);
        listed.extend(page["jobs"].as_array().unwrap().iter().map(|job| id_of(job).to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/jobs?limit=7&status=completed&cursor={cursor}");
    }
    assert_eq!(listed.len(), MANY);
    let gone = &jobs[0];
    ApiResponse::send(app.request(Caller::Alice, reqwest::Method::DELETE, path_of(gone))).await;
    let list = app.get(Caller::Alice, "/api/v1/jobs?limit=100").await.ok(200);
    assert!(list["jobs"].as_array().unwrap().iter().all(|job| id_of(job) != id_of(gone)));
}

#[tokio::test]
async fn concurrent_requests_with_one_idempotency_key_create_one_job() {
    let setup = ClusterSetup::start(3).await;
    let (one, other) = (setup.serve(&[]).await, setup.serve(&[]).await);
    let body = json!({"files": [{"filename": "a.png"}]});
    let create = |app: &TestApp, body: &serde_json::Value| {
        let request = app.request(Caller::Alice, reqwest::Method::POST, "/api/v1/jobs");
        ApiResponse::send(request.header("idempotency-key", "once").json(body))
    };
    let responses =
        join_all((0..30).map(|i| create(if i % 2 == 0 { &one } else { &other }, &body)));
    let ids: HashSet<String> =
        responses.await.into_iter().map(|response| id_of(&response.ok(201)).to_owned()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let another = json!({"files": [{"filename": "b.png"}]});
    create(&one, &another).await.problem(422, "IDEMPOTENCY_CONFLICT");
    // After the deletion of the job its idempotency key can be used again.
    let path = format!("/api/v1/jobs/{}", ids.iter().next().unwrap());
    ApiResponse::send(one.request(Caller::Alice, reqwest::Method::DELETE, &path)).await;
    let anew = create(&other, &another).await.ok(201);
    assert!(!ids.contains(id_of(&anew)));
    let list = one.get(Caller::Alice, "/api/v1/jobs").await.ok(200);
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
}

#[derive(Clone, Copy, Debug, PartialEq)]
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
async fn requests_survive_the_loss_of_a_primary_and_no_job_is_lost(#[case] fault: Fault) {
    // The new primary needs a replica, too, or jobs are not acknowledged.
    let mut setup = ClusterSetup::start_with(3, 2, ConnectVia::default()).await;
    let app = setup.serve(&[("redis.durability", "wait")]).await;
    let jobs = join_all((0..MANY).map(|_| app.create_job(1))).await;
    let mut streams: Vec<EventSource> = Vec::new();
    for job in &jobs {
        let mut stream = app.follow(job, None).await;
        stream.wait_for("task_queued").await;
        streams.push(stream);
    }
    let traffic = Traffic::start(&app);
    // The fault hits the second shard; subscriptions are at the first.
    match fault {
        Fault::Killed => setup.nodes[1].kill(),
        Fault::Hung => setup.nodes[1].signal("STOP"),
        Fault::Replaced => _ = setup.ask(4, &["cluster", "failover"]).await,
    }
    wait_until("a replica takes over the slots", async || {
        setup.is_primary(0, 4).await || setup.is_primary(0, 7).await
    })
    .await;
    for job in &jobs {
        app.report(job, 0, &json!({"progress": 50})).await.ok(200);
        app.complete(job, 0).await.ok(200);
    }
    for stream in &mut streams {
        assert_eq!(stream.wait_for("file_update").await.data["file_progress"], 50);
        stream.wait_for("task_completed").await;
    }
    let result = traffic.stop().await;
    assert_eq!(result.failures, Vec::<String>::new(), "slowest {:?}", result.slowest);
    for id in &result.created {
        app.get(Caller::Alice, &format!("/api/v1/jobs/{id}")).await.ok(200);
    }
    if fault == Fault::Hung {
        setup.nodes[1].signal("CONT");
    }
}

#[tokio::test]
async fn subscriptions_survive_the_loss_of_their_node() {
    let mut setup = ClusterSetup::start(3).await;
    let app = setup.serve(&[]).await;
    let jobs = join_all((0..MANY).map(|_| app.create_job(1))).await;
    let mut streams = Vec::new();
    for job in &jobs {
        let mut stream = app.follow(job, None).await;
        stream.wait_for("task_queued").await;
        streams.push(stream);
    }
    for node in 0..3 {
        let said = setup.ask(node, &["pubsub", "channels"]).await;
        if said.contains("job:") && said.contains("events") {
            setup.nodes[node].kill();
            let witness = (node + 1) % 3;
            wait_until("its replica takes over the slots", async || {
                setup.is_primary(witness, node + 3).await
            })
            .await;
            break;
        }
    }
    for (job, stream) in jobs.iter().zip(&mut streams) {
        wait_until("the request is served", async || app.complete(job, 0).await.status == 200)
            .await;
        stream.wait_for("task_completed").await;
    }
}

#[rstest]
#[case::a_password("requirepass sesame\nmasterauth sesame\n", "", "sesame")]
#[case::a_user(
    "requirepass sesame\nmasterauth sesame\nuser gateway on >own ~i2m:* &* +@all -@admin -@dangerous +info +cluster|nodes\n",
    "gateway",
    "own"
)]
#[tokio::test]
async fn nodes_with_passwords_are_reached(
    #[case] lines: &str,
    #[case] user: &str,
    #[case] word: &str,
) {
    let cli = ["-a", "sesame"].map(str::to_owned).to_vec();
    let way = ConnectVia { lines: lines.to_owned(), tls: false, cli };
    let setup = ClusterSetup::start_with(3, 0, way).await;
    let app = setup.serve(&[("redis.username", user), ("redis.password", word)]).await;
    join_all((0..MANY).map(|_| app.create_job(1))).await;
}

#[tokio::test]
async fn nodes_are_reached_over_tls() {
    let certificate = Certificate::new();
    let cert = certificate.path();
    let lines = certificate.redis_lines() + "tls-cluster yes\n";
    let cli = vec!["--tls".to_owned(), "--cacert".to_owned(), cert.clone()];
    let setup = ClusterSetup::start_with(3, 0, ConnectVia { lines, tls: true, cli }).await;
    let app = setup.serve(&[("redis.tls", "true"), ("redis.tls_ca_file", &cert)]).await;
    join_all((0..MANY).map(|_| app.create_job(1))).await;
}

#[tokio::test]
async fn a_shard_that_hangs_delays_no_other() {
    let setup = ClusterSetup::start(3).await;
    let app = setup.serve(&[("rate_limit.enabled", "false")]).await;
    let jobs = join_all((0..MANY).map(|_| app.create_job(1))).await;
    let mut of_others = Vec::new();
    for job in &jobs {
        let tag = &id_of(job)[34..];
        let key = format!("i2m:{{{tag}}}:job:{}", id_of(job));
        if setup.ask(1, &["exists", &key]).await.starts_with("MOVED") {
            of_others.push(job);
        }
    }
    assert!((10..MANY).contains(&of_others.len()), "{}", of_others.len());
    setup.nodes[1].signal("STOP");
    for job in of_others {
        let response = app.report(job, 0, &json!({"progress": 10})).await;
        let took = response.took;
        response.ok(200);
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
    setup.nodes[1].signal("CONT");
}

#[tokio::test]
async fn slots_move_to_a_new_node_under_traffic() {
    let mut setup = ClusterSetup::start(3).await;
    let app = setup.serve(&[("rate_limit.enabled", "false")]).await;
    let jobs = join_all((0..MANY).map(|_| app.create_job(1))).await;
    let new = setup.start_node();
    setup.meet(new).await;
    wait_until("the new node is known", async || {
        let port = format!(":{}@", setup.nodes[new].port);
        let mut all = true;
        for node in 0..3 {
            all &= setup.ask(node, &["cluster", "nodes"]).await.contains(&port);
        }
        all
    })
    .await;
    let traffic = Traffic::start(&app);
    for job in &jobs {
        let tag = &id_of(job)[34..];
        let key = format!("i2m:{{{tag}}}:job:{}", id_of(job));
        let slot: u16 = setup.ask(0, &["cluster", "keyslot", &key]).await.trim().parse().unwrap();
        let mut from = usize::from(slot) * 3 / 16384;
        if setup.ask(from, &["exists", &key]).await.starts_with("MOVED") {
            from = new;
        }
        if from != new {
            setup.move_slot(slot, from, new).await;
        }
        app.complete(job, 0).await.ok(200);
        assert!(setup.ask(new, &["exists", &key]).await.starts_with('1'));
    }
    let result = traffic.stop().await;
    assert_eq!(result.failures, Vec::<String>::new(), "slowest {:?}", result.slowest);
    for id in result.created {
        app.get(Caller::Alice, &format!("/api/v1/jobs/{id}")).await.ok(200);
    }
}

#[tokio::test]
async fn operators_see_every_shard() {
    let setup = ClusterSetup::start(3).await;
    let app = setup.serve(&[]).await;
    join_all((0..MANY).map(|_| app.create_job(1))).await;
    let health = app.get(Caller::Admin, "/health").await.ok(200);
    let shards = health["checks"]["shards"].as_object().unwrap();
    assert_eq!(shards.len(), 3, "{health}");
    for shard in shards.values() {
        assert_eq!(shard["replication"]["connected_slaves"], 1, "{health}");
    }
    let report = app.post(Caller::Admin, "/api/v1/admin/cleanup?dry_run=true", &json!({})).await;
    report.ok(202);
    wait_until("the cleanup has scanned all jobs", async || {
        let report = app.get(Caller::Admin, "/api/v1/admin/cleanup").await.json();
        report["state"] == "finished" && report["families"]["job"]["1"]["scanned"] == MANY
    })
    .await;
}

#[tokio::test]
async fn a_tag_is_found_on_every_shard() {
    let setup = ClusterSetup::start(3).await;
    let app = setup.serve(&[]).await;
    for i in 0..MANY {
        let body = json!({"data": {"version": i}, "ttl_secs": 600, "tags": ["chairs"]});
        let path = format!("/api/v1/models/chair-{i}");
        app.send(Caller::Worker, reqwest::Method::PUT, &path, &body).await.ok(200);
    }
    let found = app.get(Caller::Worker, "/api/v1/models/chair-7").await;
    assert_eq!(found.status, 200, "{}", found.text);
    let invalidate =
        app.post(Caller::Admin, "/api/v1/admin/cache/invalidate", &json!({"tag": "chairs"})).await;
    assert_eq!(invalidate.ok(200)["removed"], MANY);
}
