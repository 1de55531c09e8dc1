//! Cancellation, retry, deletion, idempotent creation, and the owner's list.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ApiResponse, Caller, TestApp, id_of, is_on_cluster, path_of};

#[tokio::test]
async fn a_cancelled_job_ends_on_every_stream() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    app.report(&job, 0, &json!({"progress": 40})).await.ok(200);
    app.complete(&job, 1).await.ok(200);

    let cancel = job["links"]["cancel"].as_str().unwrap();
    app.post(Caller::Bob, cancel, &json!({})).await.problem(404, "JOB_NOT_FOUND");
    let cancelled = app.post(Caller::Alice, cancel, &json!({})).await.ok(200);
    assert_eq!(cancelled["status"], "cancelled");
    let told: Vec<_> =
        stream.rest().await.into_iter().map(|event| (event.name, event.data)).collect();
    let (name, data) = &told[told.len() - 2];
    assert_eq!((name.as_str(), &data["status"]), ("task_cancelled", &json!("cancelled")));
    let (name, data) = &told[told.len() - 1];
    assert_eq!((name.as_str(), &data["error"]), ("task_failed", &json!("the job was cancelled")));

    // A second cancellation succeeds, and a late report of the worker is rejected.
    app.post(Caller::Alice, cancel, &json!({})).await.ok(200);
    app.report(&job, 0, &json!({"progress": 50})).await.problem(409, "INVALID_TRANSITION");
    let shown = app.get(Caller::Alice, path_of(&job)).await.ok(200);
    assert_eq!((&shown["completed_files"], &shown["failed_files"]), (&json!(1), &json!(0)));
    assert_eq!(shown["files"][0]["status"], "cancelled");
}

#[tokio::test]
async fn a_finished_job_cannot_be_cancelled() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.complete(&job, 0).await.ok(200);
    let cancel = job["links"]["cancel"].as_str().unwrap();
    app.post(Caller::Alice, cancel, &json!({})).await.problem(409, "INVALID_TRANSITION");
}

#[tokio::test]
async fn a_retry_covers_only_the_failed_files() {
    let app = TestApp::start().await;
    let job = app.create_job(3).await;
    let retry = format!("{}/retry", path_of(&job));
    app.post(Caller::Alice, &retry, &json!({})).await.problem(409, "INVALID_TRANSITION");
    app.complete(&job, 0).await.ok(200);
    app.fail(&job, 1, "no mesh").await.ok(200);
    app.fail(&job, 2, "no mesh").await.ok(200);
    let mut first = app.follow(&job, None).await;
    let end = first.wait_for("task_completed").await;

    let retried = app.post(Caller::Alice, &retry, &json!({})).await.ok(200);
    assert_eq!(
        (&retried["status"], &retried["attempt"], &retried["progress"]),
        (&json!("pending"), &json!(2), &json!(33))
    );
    assert_eq!((&retried["completed_files"], &retried["failed_files"]), (&json!(1), &json!(0)));
    let states: Vec<&Value> =
        retried["files"].as_array().unwrap().iter().map(|file| &file["status"]).collect();
    assert_eq!(states, [&json!("completed"), &json!("retrying"), &json!("retrying")]);
    app.get(Caller::Alice, &format!("{}/files/file_001/result", path_of(&job)))
        .await
        .problem(404, "FILE_NOT_FOUND");

    // A client that received the first end receives the second attempt; late reports of the first attempt are ignored.
    let mut second = app.follow(&job, Some(&end.id)).await;
    let late = app.report(&job, 1, &json!({"progress": 99, "attempt": 1})).await.ok(200);
    assert_eq!(late["recorded"], 0);
    app.complete(&job, 1).await.ok(200);
    app.complete(&job, 2).await.ok(200);
    let told = second.rest().await;
    assert_eq!(told.first().unwrap().name, "task_queued");
    let end = told.last().unwrap();
    assert_eq!(
        (end.name.as_str(), &end.data["summary"]["successful_files"]),
        ("task_completed", &json!(3))
    );
}

#[tokio::test]
async fn a_deleted_job_leaves_nothing() {
    let app = TestApp::start().await;
    let (job, other) = (app.create_job(2).await, app.create_job(1).await);
    app.report(&job, 0, &json!({"progress": 40})).await.ok(200);
    app.complete(&job, 1).await.ok(200);
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_progress").await;

    app.send(Caller::Bob, Method::DELETE, path_of(&job), &json!({}))
        .await
        .problem(404, "JOB_NOT_FOUND");
    assert_eq!(
        app.send(Caller::Alice, Method::DELETE, path_of(&job), &json!({})).await.status,
        204
    );
    app.get(Caller::Alice, path_of(&job)).await.problem(404, "JOB_NOT_FOUND");
    app.send(Caller::Alice, Method::DELETE, path_of(&job), &json!({}))
        .await
        .problem(404, "JOB_NOT_FOUND");
    for database in 0..5 {
        let left: Vec<String> = app
            .redis
            .keys(database)
            .await
            .into_iter()
            .filter(|key| key.contains(id_of(&job)))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }
    assert_eq!(stream.rest().await.last().unwrap().name, "task_failed");
    let list = app.get(Caller::Alice, "/api/v1/jobs").await.ok(200);
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(list["jobs"][0]["job_id"], other["job_id"]);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_response() {
    let app = TestApp::start().await;
    let post = |key: &str, name: &str, who: Caller| {
        let body = json!({"files": [{"filename": name}], "params": {"a": 1}});
        ApiResponse::send(
            app.request(who, Method::POST, "/api/v1/jobs")
                .header("idempotency-key", key)
                .json(&body),
        )
    };
    let first = post("\"k-1\"", "a.png", Caller::Alice).await.ok(201);
    app.report(&first, 0, &json!({"progress": 40})).await.ok(200);
    let again = post("k-1", "a.png", Caller::Alice).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    let (mut again, mut first) = (again.ok(201), first);
    (again["links"]["stream"], first["links"]["stream"]) = (json!(""), json!(""));
    assert_eq!(again, first);

    post("k-1", "b.png", Caller::Alice).await.problem(422, "IDEMPOTENCY_CONFLICT");
    assert_ne!(post("k-1", "a.png", Caller::Bob).await.ok(201)["job_id"], first["job_id"]);
    assert_ne!(post("k-2", "a.png", Caller::Alice).await.ok(201)["job_id"], first["job_id"]);
    for bad in ["", "\"\"", &"k".repeat(300)] {
        post(bad, "a.png", Caller::Alice).await.problem(422, "VALIDATION_ERROR");
    }
}

#[tokio::test]
async fn concurrent_identical_requests_create_one_job() {
    let app = TestApp::start().await;
    let body = json!({"files": [{"filename": "a.png"}]});
    let posts = (0..30).map(|_| {
        ApiResponse::send(
            app.request(Caller::Alice, Method::POST, "/api/v1/jobs")
                .header("idempotency-key", "k")
                .json(&body),
        )
    });
    let responses = futures_util::future::join_all(posts).await;
    let mut ids: Vec<Value> =
        responses.into_iter().map(|response| response.ok(201)["job_id"].clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn the_list_is_paged_newest_first() {
    let app = TestApp::start().await;
    let mut created = Vec::new();
    for _ in 0..7 {
        created.push(id_of(&app.create_job(1).await).to_owned());
    }
    created.reverse();
    app.post(Caller::Bob, "/api/v1/jobs", &json!({"files": [{"filename": "b.png"}]})).await.ok(201);

    let mut seen = Vec::new();
    let mut path = "/api/v1/jobs?limit=3".to_owned();
    loop {
        let page = app.get(Caller::Alice, &path).await.ok(200);
        seen.extend(page["jobs"].as_array().unwrap().iter().map(|job| id_of(job).to_owned()));
        // A job created meanwhile does not appear on later pages.
        app.create_job(1).await;
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/jobs?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    seen.sort();
    created.sort();
    assert_eq!(seen, created);
    app.get(Caller::Alice, "/api/v1/jobs?limit=0").await.problem(422, "VALIDATION_ERROR");
    app.get(Caller::Alice, "/api/v1/jobs?cursor=x").await.problem(422, "VALIDATION_ERROR");
    app.get(Caller::Alice, "/api/v1/jobs?status=banana").await.problem(422, "VALIDATION_ERROR");
}

#[tokio::test]
async fn the_list_is_filtered_and_omits_deleted_jobs() {
    let app = TestApp::start().await;
    let (gone, done, open) =
        (app.create_job(1).await, app.create_job(1).await, app.create_job(1).await);
    app.complete(&done, 0).await.ok(200);
    app.redis.run(1, &["DEL", &format!("job:{}", id_of(&gone))]).await;
    // The seed's JobStore adds a job only to the set.
    let python = uuid::Uuid::new_v4().to_string();
    let key = format!("job:{python}");
    let fields =
        ["status", "pending", "total_files", "1", "created_at", "2020-01-01T00:00:00.000000"];
    app.redis.run(1, &[&["HSET", &key][..], &fields[..]].concat()).await;
    let owner: String = app
        .redis
        .run(1, &["HGET", &format!("job:{}", id_of(&open)), "api_key_hash"])
        .await
        .convert()
        .unwrap();
    let set = format!("user_jobs:{owner}");
    app.redis.run(1, &["SADD", &set, &python, "not-a-uuid", "a:files"]).await;

    let ids = async |query: &str| -> Vec<String> {
        let list = app.get(Caller::Alice, &format!("/api/v1/jobs{query}")).await.ok(200);
        list["jobs"].as_array().unwrap().iter().map(|job| id_of(job).to_owned()).collect()
    };
    assert_eq!(ids("").await, [id_of(&open), id_of(&done), &python]);
    assert_eq!(ids("?status=completed").await, [id_of(&done)]);
    assert_eq!(ids("?created_after=2021-01-01T00:00:00Z").await, [id_of(&open), id_of(&done)]);
    let is_member: i64 =
        app.redis.run(1, &["SISMEMBER", &set, id_of(&gone)]).await.convert().unwrap();
    // In a cluster it is removed after a minute, because the job may be about to be created.
    assert_eq!(is_member, i64::from(is_on_cluster()));
}

#[tokio::test]
async fn work_that_finishes_during_a_cancellation_is_completed() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    app.complete(&job, 0).await.ok(200);
    // The state after a cancellation that the worker has not received yet.
    for command in [
        ["SET", &format!("job:{}:status", id_of(&job)), "cancelling"].as_slice(),
        &["HSET", &format!("job:{}", id_of(&job)), "status", "cancelling"],
    ] {
        app.redis.run(1, command).await;
    }
    app.complete(&job, 1).await.ok(200);
    assert_eq!(app.get(Caller::Alice, path_of(&job)).await.ok(200)["status"], "completed");
    let retry = app.post(Caller::Alice, &format!("{}/retry", path_of(&job)), &json!({})).await;
    retry.problem(409, "INVALID_TRANSITION");
}
