//! Other event streams: of many jobs, and of published events.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Caller, EventSource, TestApp, TestRedis, config, id_of, path_of, wait_until};

#[tokio::test]
async fn many_jobs_are_followed_on_one_connection() {
    let app = TestApp::start_with(&[("sse.max_streams", "1")]).await;
    let jobs = [app.create_job(1).await, app.create_job(2).await, app.create_job(1).await];
    let path = link_of(&jobs);
    let mut stream = EventSource::open(&app, &path, None).await;
    for job in &jobs {
        assert_eq!(stream.wait_for("task_queued").await.data["job_id"], job["job_id"]);
    }
    app.report(&jobs[1], 0, &json!({"progress": 40})).await.ok(200);
    let update = stream.wait_for("file_update").await;
    assert_eq!(update.data["job_id"], jobs[1]["job_id"]);
    app.complete(&jobs[0], 0).await.ok(200);
    let end = stream.wait_for("task_completed").await;
    assert_eq!(end.data["job_id"], jobs[0]["job_id"]);

    // Events during a disconnect are sent after it, and earlier events are not repeated.
    drop(stream);
    app.complete(&jobs[1], 0).await.ok(200);
    app.fail(&jobs[2], 0, "no mesh").await.ok(200);
    wait_until("a stream is accepted", async || {
        EventSource::open(&app, &path, Some(&end.id)).await.next().await.is_some()
    })
    .await;
    let mut again = None;
    wait_until("the place is free again", async || {
        let mut stream = EventSource::open(&app, &path, Some(&end.id)).await;
        let first = stream.next().await;
        let is_in = first.is_some();
        again = first.map(|event| (event, stream));
        is_in
    })
    .await;
    let (first, mut stream) = again.unwrap();
    app.complete(&jobs[1], 1).await.ok(200);
    let mut told = vec![first];
    told.extend(stream.rest().await);
    let of = |job: &Value| -> Vec<String> {
        told.iter()
            .filter(|event| event.data["job_id"] == job["job_id"])
            .map(|event| event.name.clone())
            .collect()
    };
    assert_eq!(of(&jobs[0]), Vec::<String>::new());
    assert_eq!(of(&jobs[2]), ["file_update", "task_progress", "task_failed"]);
    assert_eq!(of(&jobs[1]).iter().filter(|name| *name == "file_update").count(), 2);
    assert_eq!(of(&jobs[1]).last().unwrap(), "task_completed");
    let last = told.last().unwrap().id.clone();
    assert_eq!(EventSource::open(&app, &path, Some(&last)).await.response.status(), 204);
}

#[tokio::test]
async fn each_of_many_jobs_needs_its_ticket() {
    let app = TestApp::start().await;
    let jobs = [app.create_job(1).await, app.create_job(1).await, app.create_job(1).await];
    let path = link_of(&jobs);
    app.get(Caller::Anonymous, &path.replace("&ticket", "&other"))
        .await
        .problem(403, "AUTHENTICATION_REQUIRED");
    let swapped =
        link_of(&[jobs[1].clone(), jobs[0].clone()]).replace(id_of(&jobs[1]), id_of(&jobs[2]));
    app.get(Caller::Anonymous, &swapped).await.problem(403, "INVALID_API_KEY");
    app.get(Caller::Alice, "/api/v1/progress/stream?jobs=").await.problem(400, "INVALID_JOB_ID");
    let many = vec![id_of(&jobs[0]); 101].join(",");
    app.get(Caller::Alice, &format!("/api/v1/progress/stream?jobs={many}"))
        .await
        .problem(422, "VALIDATION_ERROR");
    app.get(Caller::Bob, &format!("/api/v1/progress/stream?jobs={}", id_of(&jobs[0])))
        .await
        .problem(404, "JOB_NOT_FOUND");
}

#[tokio::test]
async fn one_link_covers_the_existing_jobs_of_a_page() {
    const PATH: &str = "/api/v1/progress/ticket";
    let app = TestApp::start().await;
    let jobs = [app.create_job(1).await, app.create_job(1).await, app.create_job(1).await];
    let [kept, gone, done] = jobs.each_ref().map(id_of);
    app.send(Caller::Alice, Method::DELETE, path_of(&jobs[1]), &Value::Null).await.ok_status(204);
    let asked = json!({"jobs": [done, gone, kept]});
    let link = app.post(Caller::Alice, PATH, &asked).await.ok(200);
    assert_eq!(link["jobs"], json!([done, kept]));
    let stream = link["stream"].as_str().unwrap();
    let mut stream = EventSource::open(&app, stream, None).await;
    assert_eq!(stream.response.status(), 200);
    stream.wait_for("task_queued").await;

    let others = app.post(Caller::Bob, PATH, &asked).await.ok(200);
    assert_eq!(others, json!({"jobs": []}));
    app.post(Caller::Alice, PATH, &json!({"jobs": ["x"]})).await.problem(400, "INVALID_JOB_ID");
    for job_count in [0, 101] {
        let many = json!({"jobs": vec![kept; job_count]});
        app.post(Caller::Alice, PATH, &many).await.problem(422, "VALIDATION_ERROR");
    }
}

#[tokio::test]
async fn published_events_are_streamed_live() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let path = job["links"]["stream"].as_str().unwrap().replace("progress/stream", "events");
    let mut stream = EventSource::open(&app, &path, None).await;
    assert_eq!(stream.response.status(), 200);
    let channel = format!("job:{}:events", id_of(&job));
    // Payloads in the format of the seed's EventPublisher, and invalid ones.
    for payload in ["{\"type\": \"note\",\n\"data\": {}}", "not json", "\u{0}"] {
        app.redis.run(0, &["PUBLISH", &channel, payload]).await;
    }
    app.complete(&job, 0).await.ok(200);
    let types: Vec<Value> =
        stream.rest().await.into_iter().map(|event| event.data["type"].clone()).collect();
    assert_eq!(types, ["note", "job_processing", "job_completed"]);
    assert_eq!(EventSource::open(&app, &path, None).await.response.status(), 204);
}

/// The link to one stream of all `jobs`.
fn link_of(jobs: &[Value]) -> String {
    let ids: Vec<&str> = jobs.iter().map(id_of).collect();
    let ticket = |job: &Value| {
        job["links"]["stream"].as_str().unwrap().split_once("ticket=").unwrap().1.to_owned()
    };
    let tickets: Vec<String> = jobs.iter().map(ticket).collect();
    format!("/api/v1/progress/stream?jobs={}&ticket={}", ids.join(","), tickets.join(","))
}

#[tokio::test]
async fn events_of_a_writer_that_does_not_publish_arrive_at_once_with_keyspace_events() {
    let redis = TestRedis::start_with(&["--notify-keyspace-events", "Kt"]);
    let settings =
        config(&redis, &[("sse.reconcile_interval", "60s"), ("sse.status_check_interval", "60s")]);
    let app = TestApp::start_on(redis, settings).await;
    app.wait_until_ready().await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    let key = format!("stream:progress:{}", id_of(&job));
    let add = ["XADD", &key, "*", "file_id", "file_000", "progress", "50", "timestamp", "x"];
    app.redis.run(2, &add).await;
    assert_eq!(stream.wait_for("file_update").await.data["file_progress"], 50);
}
