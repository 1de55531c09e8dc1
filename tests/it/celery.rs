//! Jobs that real Celery workers run.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{
    Caller, CeleryWorker, GatewayProcess, TIMEOUT, TestApp, TestRedis, config, id_of, path_of,
    wait_until,
};

const ENABLED: (&str, &str) = ("celery.enabled", "true");
const QUEUE: &str = "batch_processing";

async fn create(app: &TestApp, names: &[&str]) -> Value {
    let files: Vec<Value> = names.iter().map(|name| json!({"filename": name})).collect();
    app.post(Caller::Alice, "/api/v1/jobs", &json!({"files": files})).await.ok(201)
}

async fn until_status(app: &TestApp, job: &Value, status: &str) -> Value {
    let mut shown = Value::Null;
    wait_until(status, async || {
        shown = app.get(Caller::Alice, path_of(job)).await.ok(200);
        shown["status"] == status
    })
    .await;
    shown
}

async fn queue_length(app: &TestApp, queue: &str) -> i64 {
    app.redis.run(0, &["LLEN", queue]).await.convert().unwrap()
}

#[tokio::test]
async fn a_worker_runs_a_job_and_the_browser_sees_it_complete() {
    let app = TestApp::start_with(&[ENABLED]).await;
    let job = create(&app, &["a.png", "fail.png", "c.png"]).await;
    assert_eq!(app.get(Caller::Alice, path_of(&job)).await.ok(200)["queue_position"], 0);
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    let _worker = CeleryWorker::start(&app.redis, "w", 1).await;
    let told = stream.rest().await;
    let end = told.last().unwrap();
    let summary = json!({"total_files": 3, "successful_files": 2, "failed_files": 1});
    assert_eq!((end.name.as_str(), &end.data["summary"]), ("task_completed", &summary));
    assert!(
        told.iter()
            .any(|event| event.name == "file_update" && event.data["status"] == "processing")
    );
    let result =
        app.get(Caller::Alice, &format!("{}/files/file_000/result", path_of(&job))).await.ok(200);
    assert!(result["result"]["url"].is_string());
    let queues = app.get(Caller::Admin, "/api/v1/admin/queues").await.ok(200);
    assert_eq!(
        (&queues["queues"][0]["depth"], &queues["queues"][0]["in_flight"]),
        (&json!(0), &json!(0))
    );
    wait_until("the worker's heartbeat arrives", async || {
        app.get(Caller::Admin, "/api/v1/admin/queues").await.ok(200)["workers_alive"] == 1
    })
    .await;
}

#[tokio::test]
async fn failed_tasks_of_every_kind_end_their_jobs() {
    let app = TestApp::start_with(&[ENABLED]).await;
    let _worker = CeleryWorker::start(&app.redis, "w", 2).await;
    let job = create(&app, &["raise.png"]).await;
    let ended = until_status(&app, &job, "failed").await;
    assert!(ended.to_string().contains("boom"), "{ended}");
    let job = create(&app, &["retry.png"]).await;
    until_status(&app, &job, "completed").await;
}

#[tokio::test]
async fn a_task_killed_by_its_time_limit_ends_its_job() {
    let app =
        TestApp::start_with(&[ENABLED, ("celery.task", "app.workers.tasks.time_limited")]).await;
    let _worker = CeleryWorker::start(&app.redis, "w", 1).await;
    let job = create(&app, &["a.png"]).await;
    let ended = until_status(&app, &job, "failed").await;
    assert!(ended["error"].as_str().unwrap().contains("TimeLimitExceeded"), "{ended}");
}

#[tokio::test]
async fn results_of_workers_without_our_package_are_understood() {
    let app = TestApp::start_with(&[ENABLED, ("celery.task", "app.workers.tasks.plain")]).await;
    let job = create(&app, &["a.png", "b.png"]).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    let _worker = CeleryWorker::start(&app.redis, "w", 1).await;
    assert_eq!(stream.wait_for("task_progress").await.data["status"], "processing");
    let end = stream.wait_for("task_completed").await;
    assert_eq!(end.data["summary"]["successful_files"], 2);
}

#[tokio::test]
async fn a_failure_without_an_exception_is_understood() {
    let app =
        TestApp::start_with(&[ENABLED, ("celery.task", "app.workers.tasks.plain_failure")]).await;
    let _worker = CeleryWorker::start(&app.redis, "w", 1).await;
    let job = create(&app, &["a.png"]).await;
    let ended = until_status(&app, &job, "failed").await;
    assert!(ended["error"].as_str().is_some_and(|error| !error.is_empty()), "{ended}");
}

#[tokio::test]
async fn a_queued_task_is_cancelled_in_the_queue() {
    let app = TestApp::start_with(&[ENABLED]).await;
    let (job, other) = (create(&app, &["a.png"]).await, create(&app, &["b.png"]).await);
    assert_eq!(queue_length(&app, QUEUE).await, 2);
    let cancelled =
        app.post(Caller::Alice, job["links"]["cancel"].as_str().unwrap(), &json!({})).await.ok(200);
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(queue_length(&app, QUEUE).await, 1);
    let _worker = CeleryWorker::start(&app.redis, "w", 1).await;
    until_status(&app, &other, "completed").await;
    assert_eq!(app.get(Caller::Alice, path_of(&job)).await.ok(200)["status"], "cancelled");
}

#[tokio::test]
async fn a_running_task_is_cancelled_at_its_worker() {
    let app = TestApp::start_with(&[ENABLED, ("celery.cancel_grace", "1h")]).await;
    let _worker = CeleryWorker::start(&app.redis, "w", 1).await;
    let job = create(&app, &["hang.png"]).await;
    let mut stream = app.follow(&job, None).await;
    until_status(&app, &job, "processing").await;
    let cancelling =
        app.post(Caller::Alice, job["links"]["cancel"].as_str().unwrap(), &json!({})).await.ok(202);
    assert_eq!(cancelling["status"], "cancelling");
    stream.wait_for("task_cancelled").await;
    assert_eq!(stream.wait_for("task_failed").await.data["status"], "cancelled");
    // The worker can run the next task.
    let next = create(&app, &["a.png"]).await;
    until_status(&app, &next, "completed").await;
}

#[tokio::test]
async fn a_cancellation_does_not_wait_for_an_unresponsive_worker() {
    let app = TestApp::start_with(&[
        ENABLED,
        ("celery.cancel_grace", "100ms"),
        ("celery.poll_interval", "50ms"),
    ])
    .await;
    let mut worker = CeleryWorker::start(&app.redis, "w", 1).await;
    let job = create(&app, &["hang.png"]).await;
    until_status(&app, &job, "processing").await;
    worker.kill();
    app.post(Caller::Alice, job["links"]["cancel"].as_str().unwrap(), &json!({})).await.ok(202);
    until_status(&app, &job, "cancelled").await;
}

#[tokio::test]
async fn tasks_of_a_killed_worker_are_detected() {
    let settings = [
        ENABLED,
        ("celery.stalled_after", "300ms"),
        ("celery.on_stalled", "fail"),
        ("celery.poll_interval", "50ms"),
    ];
    let app = TestApp::start_with(&settings).await;
    let mut worker = CeleryWorker::start(&app.redis, "w", 1).await;
    let job = create(&app, &["hang.png"]).await;
    wait_until("the worker has taken the task", async || queue_length(&app, QUEUE).await == 0)
        .await;
    worker.kill();
    // A task that is still queued has not stalled.
    let waiting = create(&app, &["a.png"]).await;
    let ended = until_status(&app, &job, "failed").await;
    assert!(ended["error"].as_str().unwrap().contains("no heartbeat"));
    assert_eq!(app.get(Caller::Alice, path_of(&waiting)).await.ok(200)["status"], "pending");
}

#[tokio::test]
async fn a_retry_sends_only_the_failed_files() {
    let app = TestApp::start_with(&[ENABLED]).await;
    let worker = CeleryWorker::start(&app.redis, "w", 1).await;
    let job = create(&app, &["a.png", "fail.png"]).await;
    until_status(&app, &job, "partial").await;
    drop(worker);
    app.post(Caller::Alice, &format!("{}/retry", path_of(&job)), &json!({})).await.ok(200);
    let message: String = app.redis.run(0, &["LINDEX", QUEUE, "0"]).await.convert().unwrap();
    let message: Value = serde_json::from_str(&message).unwrap();
    assert_eq!(message["headers"]["argsrepr"], json!([id_of(&job), ["fail.png"]]).to_string());
    assert_ne!(message["headers"]["id"], job["job_id"]);
}

#[tokio::test]
async fn every_priority_and_shape_of_task_can_be_set() {
    let settings = [
        ENABLED,
        ("celery.priority", "7"),
        ("celery.task_granularity", "file"),
        ("celery.args", r#"["$file_id"]"#),
        (
            "celery.kwargs",
            r#"{"job": "$job_id", "name": "$filename", "options": {"all": "$params"}}"#,
        ),
    ];
    let app = TestApp::start_with(&settings).await;
    let job = app.create_job(2).await;
    let queue = "batch_processing\u{6}\u{16}6";
    assert_eq!(queue_length(&app, queue).await, 2);
    let message: String = app.redis.run(0, &["LINDEX", queue, "-1"]).await.convert().unwrap();
    let message: Value = serde_json::from_str(&message).unwrap();
    let kwargs: Value =
        serde_json::from_str(message["headers"]["kwargsrepr"].as_str().unwrap()).unwrap();
    assert_eq!(kwargs["options"]["all"], json!({"quality": "high"}));
    assert_eq!((&kwargs["job"], &message["headers"]["job_id"]), (&job["job_id"], &job["job_id"]));
    assert!(message["headers"]["file_id"].is_string());
    let queues = app.get(Caller::Admin, "/api/v1/admin/queues").await.ok(200);
    assert_eq!(queues["queues"][0]["depth_by_priority"], json!([0, 0, 2, 0]));
    assert!(queues["queues"][0]["oldest_age_seconds"].as_u64().is_some_and(|age| age < 60));
}

#[tokio::test]
async fn many_jobs_and_workers_end_each_job_once() {
    const N_JOBS: usize = 200;
    let app = TestApp::start_with(&[ENABLED]).await;
    let (mut jobs, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..N_JOBS {
        let job = create(&app, &["a.png"]).await;
        streams.push(app.follow(&job, None).await);
        jobs.push(job);
    }
    let _workers = tokio::join!(
        CeleryWorker::start(&app.redis, "w1", 1),
        CeleryWorker::start(&app.redis, "w2", 1),
        CeleryWorker::start(&app.redis, "w3", 1),
    );
    for mut stream in streams {
        let ends =
            stream.rest().await.iter().filter(|event| event.name == "task_completed").count();
        assert_eq!(ends, 1);
    }
    for job in &jobs {
        let key = format!("stream:progress:{}", id_of(job));
        let entries = app.redis.run(2, &["XRANGE", &key, "-", "+"]).await;
        assert_eq!(format!("{entries:?}").matches("task_completed").count(), 1);
    }
}

#[tokio::test]
async fn a_created_job_always_gets_its_task() {
    // A separate broker, which is down.
    let mut broker = TestRedis::prepare(&[]);
    let redis = TestRedis::start();
    let broker_url = broker.celery_url();
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__CELERY__ENABLED", "true"),
        ("I2M__CELERY__BROKER_URL", broker_url.as_str()),
        ("I2M__CELERY__POLL_INTERVAL", "50ms"),
    ];
    let http = reqwest::Client::builder().timeout(TIMEOUT).build().unwrap();
    let new = json!({"files": [{"filename": "a.png"}]});
    let post = async |service: &GatewayProcess| {
        let request =
            http.post(format!("{}/api/v1/jobs", service.base)).bearer_auth("k").json(&new);
        let response = request.send().await.unwrap();
        let created = response.status() == 201;
        created.then_some(response.json::<Value>().await.unwrap()).map(|job| id_of(&job).to_owned())
    };
    let mut service = GatewayProcess::start(redis.dir(), &environment);
    let mut ids = HashSet::new();
    wait_until("a job is accepted without its broker", async || {
        ids.extend(post(&service).await);
        !ids.is_empty()
    })
    .await;
    // The service is killed between creating a job and sending its task; another process sends it.
    service.signal("KILL");
    service.wait();
    broker.start_again();
    let service = GatewayProcess::start(redis.dir(), &environment);
    let length = async || broker.run(0, &["LLEN", QUEUE]).await.convert::<usize>().unwrap();
    wait_until("the task is sent", async || length().await == 1).await;
    wait_until("another job is accepted", async || {
        ids.extend(post(&service).await);
        ids.len() == 2
    })
    .await;
    wait_until("its task is sent, too", async || length().await == 2).await;
    wait_until("the outbox is empty", async || {
        redis.run(1, &["EXISTS", "i2m:outbox"]).await.convert::<i64>().unwrap() == 0
    })
    .await;
    assert_eq!(length().await, 2);
    let messages: Vec<String> =
        broker.run(0, &["LRANGE", QUEUE, "0", "-1"]).await.convert().unwrap();
    let sent = messages.iter().map(|message| serde_json::from_str::<Value>(message).unwrap());
    let sent: HashSet<String> =
        sent.map(|task| task["headers"]["job_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sent, ids);
}

#[tokio::test]
async fn a_missed_result_is_read_from_the_result_backend() {
    let redis = TestRedis::start();
    let settings = config(&redis, &[ENABLED]);
    let app = TestApp::start_on(redis, settings.clone()).await;
    app.wait_until_ready().await;
    let job = create(&app, &["a.png"]).await;
    // The service is down while the worker runs the task.
    let redis = app.stop_keeping_redis().await;
    let _worker = CeleryWorker::start(&redis, "w", 1).await;
    let key = format!("celery-task-meta-{}", id_of(&job));
    wait_until("the worker stores its result", async || {
        redis
            .run(0, &["GET", &key])
            .await
            .as_string()
            .is_some_and(|value| value.contains("SUCCESS"))
    })
    .await;
    let app = TestApp::start_on(redis, settings).await;
    app.wait_until_ready().await;
    until_status(&app, &job, "completed").await;
}

#[tokio::test]
async fn hostile_result_messages_change_nothing() {
    let app = TestApp::start_with(&[ENABLED]).await;
    let job = create(&app, &["a.png", "b.png"]).await;
    let channel = format!("celery-task-meta-{}", id_of(&job));
    let publish =
        async |channel: &str, message: &str| app.redis.run(0, &["PUBLISH", channel, message]).await;
    // Only the leader receives results.
    wait_until("the service is the leader", async || {
        publish(&channel, &json!({"status": "STARTED"}).to_string()).await;
        app.get(Caller::Alice, path_of(&job)).await.ok(200)["status"] == "processing"
    })
    .await;
    let huge = json!({"status": "PROGRESS", "result": {"files": {"file_000": {"progress": 1}}, "x": "y".repeat(10 << 20)}});
    for message in ["", "{", "[1]", "null", r#"{"status":{}}"#, "\u{0}", &huge.to_string()] {
        publish(&channel, message).await;
    }
    for strange in [
        "celery-task-meta-",
        "celery-task-meta-*",
        "celery-task-meta-x:y",
        "celery-task-meta-../../a",
    ] {
        publish(strange, &json!({"status": "SUCCESS"}).to_string()).await;
    }
    let foreign = format!("celery-task-meta-{}", uuid::Uuid::new_v4());
    publish(&foreign, &json!({"status": "FAILURE"}).to_string()).await;
    let files = json!({"file_000": {"progress": "40"}, "file_099": {"progress": 40}, "x": {}, "file_001": {"progress": 4e9}});
    publish(&channel, &json!({"status": "PROGRESS", "result": {"files": files}}).to_string()).await;
    // A result with an invalid file fails that file; the other files are not affected.
    let files = json!({"file_000": {"status": "completed", "result": {"url": "javascript:1"}}});
    publish(&channel, &json!({"status": "PROGRESS", "result": {"files": files}}).to_string()).await;
    wait_until("the invalid result fails the file", async || {
        app.get(Caller::Alice, path_of(&job)).await.ok(200)["failed_files"] == 1
    })
    .await;
    publish(&channel, &json!({"status": "SUCCESS", "result": null}).to_string()).await;
    let ended = until_status(&app, &job, "partial").await;
    assert_eq!((&ended["completed_files"], &ended["failed_files"]), (&json!(1), &json!(1)));
    let queues = app.get(Caller::Admin, "/api/v1/admin/queues").await.ok(200);
    let heard = &queues["result_messages"];
    assert_eq!((&heard["malformed"], &heard["foreign"]), (&json!(6), &json!(5)), "{heard}");
}
