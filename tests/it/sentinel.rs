//! Sentinels name the server: primaries die, hang, and are replaced, and callers do not notice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use image2model_gateway::Config;
use reqwest::Method;
use rstest::rstest;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    Answer, As, SentinelSetup, TestApp, Topology, config_for, id_of, path_of, until,
};

/// A service behind the sentinels of `setup`.
async fn serve(setup: &SentinelSetup, settings: &[(&str, &str)]) -> TestApp {
    let addresses = setup.addresses();
    let mut all = vec![("redis.mode", "sentinel"), ("redis.sentinels", addresses.as_str())];
    all.extend(settings);
    let redis = SentinelSetup::no_redis();
    let config: Config = config_for(&redis, &all);
    let app = TestApp::start_on(redis, config).await;
    app.until_ready().await;
    app
}

/// What callers met while something happened.
#[derive(Debug, Default)]
struct Met {
    created: Vec<String>,
    refused: Vec<String>,
    slowest: Duration,
}

/// Callers who create jobs and read them, until told to stop. Each repeats nothing.
struct Traffic {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Met>,
}

impl Traffic {
    fn begin(app: &TestApp) -> Self {
        const CALLERS: usize = 4;
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (stop, http, base) = (stop.clone(), app.http.clone(), app.base.clone());
            callers.spawn(async move {
                let mut met = Met::default();
                let url = format!("{base}/api/v1/jobs");
                let new = json!({"files": [{"filename": "a.png"}]});
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let create = http.post(&url).bearer_auth(As::Alice.key().unwrap()).json(&new);
                    let key = format!("{caller}-{n}");
                    let answer = Answer::of(create.header("idempotency-key", key)).await;
                    met.note(&answer);
                    if answer.status != 201 {
                        continue;
                    }
                    let id = id_of(&answer.json()).to_owned();
                    let read =
                        http.get(format!("{url}/{id}")).bearer_auth(As::Alice.key().unwrap());
                    met.created.push(id);
                    met.note(&Answer::of(read).await);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                met
            });
        }
        Self { stop, callers }
    }

    async fn end(mut self) -> Met {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Met::default();
        while let Some(met) = self.callers.join_next().await {
            let met = met.unwrap();
            all.created.extend(met.created);
            all.refused.extend(met.refused);
            all.slowest = all.slowest.max(met.slowest);
        }
        all
    }
}

impl Met {
    fn note(&mut self, answer: &Answer) {
        self.slowest = self.slowest.max(answer.took);
        if answer.status >= 400 {
            self.refused.push(format!("{} {}", answer.status, answer.text));
        }
    }
}

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
async fn requests_that_may_be_repeated_outlast_a_failover(#[case] fault: Fault) {
    let mut setup = SentinelSetup::start().await;
    let app = serve(&setup, &[("redis.durability", "wait")]).await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    stream.until("task_queued").await;
    let first = setup.primary().await;
    let traffic = Traffic::begin(&app);
    match fault {
        Fault::Killed => setup.servers[first].kill(),
        Fault::Hung => setup.servers[first].signal("STOP"),
        Fault::Replaced => setup.fail_over().await,
    }
    until("there is another primary", async || setup.primary().await != first).await;
    app.report(&job, 0, &json!({"progress": 50})).await.ok(200);
    assert_eq!(stream.until("file_update").await.data["file_progress"], 50);
    app.complete(&job, 0).await.ok(200);
    stream.until("task_completed").await;
    let met = traffic.end().await;
    assert_eq!(met.refused, Vec::<String>::new(), "slowest {:?}", met.slowest);
    // No job that was acknowledged is lost.
    for id in &met.created {
        app.get(As::Alice, &format!("/api/v1/jobs/{id}")).await.ok(200);
    }
    // In the databases of before.
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
    let app = serve(&setup, &[]).await;
    let mut jobs = Vec::new();
    for _ in 0..20 {
        jobs.push(app.create_job(2).await);
    }
    let first = setup.primary().await;
    let port = setup.servers[first].port;
    until("the replicas have the jobs", async || {
        setup.cli(port, &["wait", "2", "100"]).await.starts_with('2')
    })
    .await;
    // Sent to a server that hangs and is then replaced: each of these is repeated.
    setup.servers[first].signal("STOP");
    let results = jobs.iter().map(|job| app.complete(job, 0));
    for answer in futures_util::future::join_all(results).await {
        answer.ok(200);
    }
    setup.servers[first].kill();
    for job in &jobs {
        let job = app.get(As::Alice, path_of(job)).await.ok(200);
        assert_eq!((&job["completed_files"], &job["status"]), (&json!(1), &json!("processing")));
    }
}

#[tokio::test]
async fn what_may_have_been_done_is_reported_and_not_repeated() {
    let mut setup = SentinelSetup::start().await;
    let app = serve(&setup, &[]).await;
    let job = app.create_job(1).await;
    app.fail(&job, 0, "no luck").await.ok(200);
    let first = setup.primary().await;
    setup.servers[first].signal("STOP");
    // A retry begins an attempt; a second one would begin another.
    let path = format!("{}/retry", path_of(&job));
    let answer = Answer::of(app.request(As::Alice, Method::POST, &path)).await;
    assert!([200, 503].contains(&answer.status), "{}", answer.text);
    setup.servers[first].kill();
    until("the primary is another", async || setup.primary().await != first).await;
    until("the job is served", async || app.get(As::Alice, path_of(&job)).await.status == 200)
        .await;
    let job = app.get(As::Alice, path_of(&job)).await.ok(200);
    assert!(job["attempt"].as_u64().unwrap() <= 2, "{job}");
}

#[tokio::test]
async fn a_sentinel_that_hangs_delays_nothing() {
    let mut setup = SentinelSetup::start().await;
    setup.sentinels[0].signal("STOP");
    let app = serve(&setup, &[]).await;
    let job = app.create_job(1).await;
    setup.sentinels[0].signal("CONT");
    setup.sentinels[0].kill();
    let first = setup.primary().await;
    setup.servers[first].kill();
    app.get(As::Alice, path_of(&job)).await.ok(200);
    app.create_job(1).await;
}

#[tokio::test]
async fn an_outage_longer_than_a_failover_is_refused_at_once() {
    let mut setup = SentinelSetup::start_with(Topology {
        n_replicas: 0,
        n_sentinels: 1,
        ..Topology::default()
    })
    .await;
    let app = serve(&setup, &[("redis.failover_wait", "300ms")]).await;
    let job = app.create_job(1).await;
    setup.servers[0].kill();
    until("calls are refused at once", async || {
        let answer = app.get(As::Alice, path_of(&job)).await;
        answer.status == 503 && answer.took < Duration::from_millis(20)
    })
    .await;
    setup.servers[0].start_again();
    app.until_ready().await;
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
async fn guarded_servers_and_sentinels_are_reached(
    #[case] user: &str,
    #[case] server_lines: &str,
    #[case] sentinel_user: &str,
    #[case] sentinel_lines: &str,
) {
    let password =
        |user: &str, of_default: &'static str| if user == "default" { of_default } else { "own" };
    let setup = SentinelSetup::start_with(Topology {
        n_replicas: 1,
        n_sentinels: 1,
        server_lines: server_lines.to_owned(),
        sentinel_lines: format!("{sentinel_lines}sentinel auth-pass mymaster sesame\n"),
        cli: ["-a", "sesame"].map(str::to_owned).to_vec(),
        sentinel_cli: ["-a", "open"].map(str::to_owned).to_vec(),
        ..Topology::default()
    })
    .await;
    let app = serve(
        &setup,
        &[
            ("redis.username", user),
            ("redis.password", password(user, "sesame")),
            ("redis.sentinel_username", sentinel_user),
            ("redis.sentinel_password", password(sentinel_user, "open")),
        ],
    )
    .await;
    let job = app.create_job(1).await;
    app.get(As::Alice, path_of(&job)).await.ok(200);
}

#[tokio::test]
async fn servers_and_sentinels_are_reached_by_tls() {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::generate_simple_self_signed(names).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert.pem"), certificate.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    let cert = path("cert.pem");
    let lines = format!(
        "tls-cert-file {cert}\ntls-key-file {}\ntls-ca-cert-file {cert}\ntls-auth-clients no\n\
         tls-replication yes\n",
        path("key.pem")
    );
    let cli = vec!["--tls".to_owned(), "--cacert".to_owned(), cert.clone()];
    let setup = SentinelSetup::start_with(Topology {
        n_replicas: 1,
        n_sentinels: 1,
        port_word: "port 0\ntls-port",
        server_lines: lines.clone(),
        sentinel_lines: lines,
        cli: cli.clone(),
        sentinel_cli: cli,
        ..Topology::default()
    })
    .await;
    let app = serve(&setup, &[("redis.tls", "true"), ("redis.tls_ca_file", &cert)]).await;
    app.create_job(1).await;
}

#[tokio::test]
async fn a_job_is_acknowledged_when_replicas_have_it_and_made_once() {
    let mut setup =
        SentinelSetup::start_with(Topology { n_replicas: 1, ..Topology::default() }).await;
    let settings = [
        ("redis.durability", "wait"),
        ("redis.wait_timeout", "100ms"),
        ("redis.failover_wait", "500ms"),
    ];
    let app = serve(&setup, &settings).await;
    app.create_job(1).await;

    let replica = 1 - setup.primary().await;
    setup.servers[replica].kill();
    let new = json!({"files": [{"filename": "a.png"}]});
    let create = || app.request(As::Alice, Method::POST, "/api/v1/jobs").json(&new);
    let answer = Answer::of(create().header("idempotency-key", "once")).await;
    assert!(answer.took < Duration::from_secs(2), "{:?}", answer.took);
    let problem = answer.problem(503, "REDIS_UNAVAILABLE");
    assert!(problem["detail"].as_str().unwrap().contains("Idempotency-Key"), "{problem}");

    setup.servers[replica].start_again();
    let mut job = json!(null);
    until("the replica has it", async || {
        let answer = Answer::of(create().header("idempotency-key", "once")).await;
        job = answer.json();
        answer.status == 201
    })
    .await;
    let port = setup.servers[replica].port;
    assert_eq!(
        setup.cli(port, &["-n", "1", "exists", &format!("job:{}", id_of(&job))]).await,
        "1\n"
    );
    let page = app.get(As::Alice, "/api/v1/jobs").await.ok(200);
    assert_eq!(page["jobs"].as_array().unwrap().len(), 2);
}

/// How many scripts the servers but the primary were asked to run.
async fn scripts_on_replicas(setup: &SentinelSetup) -> usize {
    let primary = setup.primary().await;
    let mut n_calls = 0;
    for server in setup.servers.iter().enumerate().filter(|it| it.0 != primary) {
        let stats = setup.cli(server.1.port, &["info", "commandstats"]).await;
        let line = stats.lines().find(|it| it.starts_with("cmdstat_evalsha:")).unwrap_or_default();
        let calls = line.split(['=', ',']).nth(1).unwrap_or("0");
        n_calls += calls.parse::<usize>().unwrap();
    }
    n_calls
}

async fn until_replicas_are_used(app: &TestApp, n_used: usize) {
    until("replicas are used", async || {
        let health = app.get(As::Nobody, "/health").await.json();
        let replicas = health["checks"]["replicas"].as_array().unwrap();
        replicas.iter().filter(|it| it["used"] == true).count() == n_used
    })
    .await;
}

#[tokio::test]
async fn replicas_answer_for_what_may_be_old_and_never_for_what_is_new() {
    let mut setup = SentinelSetup::start().await;
    let app = serve(&setup, &[]).await;
    until_replicas_are_used(&app, 2).await;
    for _ in 0..30 {
        // Its owner sees a new job at once, wherever he looks.
        let job = app.create_job(1).await;
        let status = app.get(As::Alice, &format!("{}/status", path_of(&job))).await.ok(200);
        assert_eq!(status["status"], "pending");
        let page = app.get(As::Alice, "/api/v1/jobs?limit=1").await.ok(200);
        assert_eq!(page["jobs"][0]["job_id"], job["job_id"]);
    }
    let page = app.get(As::Alice, "/api/v1/jobs?limit=10").await.ok(200);
    let next = format!("/api/v1/jobs?limit=10&cursor={}", page["next_cursor"].as_str().unwrap());
    let before = scripts_on_replicas(&setup).await;
    for _ in 0..10 {
        let page = app.get(As::Alice, &next).await.ok(200);
        assert_eq!(page["jobs"].as_array().unwrap().len(), 10);
    }
    assert!(scripts_on_replicas(&setup).await >= before + 10);

    // One hangs and one is gone: the primary answers.
    let primary = setup.primary().await;
    setup.servers[(primary + 1) % 3].signal("STOP");
    setup.servers[(primary + 2) % 3].kill();
    for _ in 0..10 {
        let page = app.get(As::Alice, &next).await;
        assert!(page.took < Duration::from_secs(1), "{:?}", page.took);
        assert_eq!(page.ok(200)["jobs"].as_array().unwrap().len(), 10);
    }
    until_replicas_are_used(&app, 0).await;
}

#[tokio::test]
async fn a_replica_that_falls_behind_is_not_asked() {
    let setup = SentinelSetup::start_with(Topology { n_replicas: 1, ..Topology::default() }).await;
    let app = serve(&setup, &[]).await;
    let job = app.create_job(1).await;
    let status = format!("{}/status", path_of(&job));
    until_replicas_are_used(&app, 1).await;
    until("a replica has the status", async || {
        app.get(As::Alice, &status).await.ok(200);
        scripts_on_replicas(&setup).await > 0
    })
    .await;
    // From now on it hears of nothing, and answers all the same.
    let replica = setup.servers[1 - setup.primary().await].port;
    setup.cli(replica, &["replicaof", "127.0.0.1", "1"]).await;
    app.complete(&job, 0).await.ok(200);
    until_replicas_are_used(&app, 0).await;
    assert_eq!(app.get(As::Alice, &status).await.ok(200)["status"], "completed");
}
