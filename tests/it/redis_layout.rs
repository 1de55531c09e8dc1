//! The data in Redis: the seed's keys and values, byte for byte.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::harness::{Caller, TestApp, id_of, path_of, wait_until};

/// Words at the start of a flat array that fred mistakes for a pub/sub message.
const WORDS: [&str; 5] = ["message", "pmessage", "smessage", "subscribe", "unsubscribe"];

#[tokio::test]
async fn a_job_creates_exactly_these_keys() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    app.report(&job, 0, &json!({"progress": 40})).await.ok(200);
    app.complete(&job, 0).await.ok(200);
    let id = id_of(&job);
    let owner = "72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20";

    let jobs = app.redis.keys(1).await;
    let mut expected = vec![
        format!("job:{id}"),
        format!("job:{id}:file:file_000"),
        format!("job:{id}:files"),
        format!("job:{id}:states"),
        format!("job:{id}:status"),
        format!("session:{id}"),
        format!("user_jobs:{owner}"),
        format!("user_jobs:{owner}:by_time"),
        "i2m:ticket_secret".to_owned(),
    ];
    expected.sort();
    assert_eq!(jobs, expected);
    let mut expected = vec![
        format!("progress:{id}:file_000"),
        format!("progress:{id}:file_001"),
        format!("stream:progress:{id}"),
    ];
    expected.sort();
    assert_eq!(app.redis.keys(2).await, expected);
    let limits = app.redis.keys(3).await;
    assert!(limits.contains(&format!("rl:key:{owner}")), "{limits:?}");
    assert!(limits.contains(&"rl:ip:127.0.0.1".to_owned()), "{limits:?}");
    assert!(limits.iter().all(|key| key.starts_with("rl:")), "{limits:?}");
    for database in [0, 4] {
        assert_eq!(app.redis.keys(database).await, Vec::<String>::new());
    }
    for database in [1, 2] {
        for key in app.redis.keys(database).await {
            let ttl: i64 = app.redis.run(database, &["TTL", &key]).await.convert().unwrap();
            assert!(ttl > 86_300, "{key} expires in {ttl} s");
        }
    }
}

#[tokio::test]
async fn values_have_the_format_of_the_seed() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let id = id_of(&job);
    let of = async |database: u8, command: &[&str]| app.redis.run(database, command).await;

    let record: BTreeMap<String, String> =
        of(1, &["HGETALL", &format!("job:{id}")]).await.convert().unwrap();
    assert_eq!(record["job_id"], id);
    assert_eq!(
        record["api_key_hash"],
        "72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20"
    );
    assert_eq!(record["status"], "pending");
    assert_eq!(
        (&*record["total_files"], &*record["completed_files"], &*record["failed_files"]),
        ("1", "0", "0")
    );
    assert_eq!(record["created_at"], record["updated_at"]);
    // The seed's format: naive UTC with six fractional digits.
    assert_eq!(record["created_at"].len(), "2026-11-23T00:58:58.252605".len());
    assert!(
        job["created_at"].as_str().unwrap().starts_with(record["created_at"].trim_end_matches('0'))
    );

    let files: Vec<String> =
        of(1, &["LRANGE", &format!("job:{id}:files"), "0", "-1"]).await.convert().unwrap();
    let file: Value = serde_json::from_str(&files[0]).unwrap();
    assert_eq!(
        file,
        json!({
            "file_id": "file_000", "filename": "picture-0.png", "size": 1000, "content_type": "image/png",
        })
    );
    let status: String = of(1, &["GET", &format!("job:{id}:status")]).await.convert().unwrap();
    let session: String = of(1, &["GET", &format!("session:{id}")]).await.convert().unwrap();
    assert_eq!(
        (status.as_str(), session.as_str()),
        ("pending", "72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20")
    );

    app.report(&job, 0, &json!({"progress": 40, "message": ""})).await.ok(200);
    let percent: String =
        of(2, &["GET", &format!("progress:{id}:file_000")]).await.convert().unwrap();
    assert_eq!(percent, "40");
    let entries: Vec<(String, HashMap<String, String>)> =
        of(2, &["XRANGE", &format!("stream:progress:{id}"), "-", "+"]).await.convert().unwrap();
    let entry = &entries.last().unwrap().1;
    assert_eq!(
        (&*entry["file_id"], &*entry["progress"], &*entry["message"]),
        ("file_000", "40", "")
    );
    assert_eq!(entry["timestamp"].len(), "2026-11-23T00:58:58.252605".len());
}

#[tokio::test]
async fn a_job_created_by_python_is_served() {
    let app = TestApp::start().await;
    let id = uuid::Uuid::new_v4().to_string();
    python_creates(&app, &id).await;
    let path = format!("/api/v1/jobs/{id}");

    let job = app.get(Caller::Alice, &path).await.ok(200);
    assert_eq!((&job["status"], &job["total_files"]), (&json!("pending"), &json!(2)));
    assert_eq!(job["created_at"], "2026-11-23T00:58:58.252605Z");
    assert_eq!(
        job["files"][1],
        json!({
            "file_id": "file_001", "filename": "b.png", "size": 2, "content_type": "image/png",
            "status": "pending", "progress": 0, "attempt": 1,
        })
    );

    // The seed's tracker runs SET without a TTL, then XADD.
    app.redis.run(2, &["SET", &format!("progress:{id}:file_000"), "60"]).await;
    let shown = app.get(Caller::Alice, &format!("{path}/progress")).await.ok(200);
    assert_eq!(
        (&shown["overall_progress"], &shown["files"]["file_000"]["progress"]),
        (&json!(30), &json!(60))
    );
}

#[tokio::test]
async fn a_status_written_by_python_ends_the_job() {
    let app = TestApp::start_with(&[("sse.status_check_interval", "50ms")]).await;
    let id = uuid::Uuid::new_v4().to_string();
    python_creates(&app, &id).await;
    let ticket =
        app.post(Caller::Alice, &format!("/api/v1/jobs/{id}/ticket"), &json!({})).await.ok(200);
    let job = json!({"links": {"stream": ticket["stream"], "self": format!("/api/v1/jobs/{id}")}});
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;

    let key = format!("job:{id}");
    app.redis
        .run(1, &["HSET", &key, "status", "completed", "updated_at", "2026-11-23T01:00:00.000000"])
        .await;
    let end = stream.wait_for("task_completed").await;
    assert_eq!(
        end.data["summary"],
        json!({"total_files": 2, "successful_files": 2, "failed_files": 0})
    );
    assert_eq!(stream.next().await, None);
    let ttl: i64 =
        app.redis.run(2, &["TTL", &format!("stream:progress:{id}")]).await.convert().unwrap();
    assert!(ttl > 86_300);
}

#[tokio::test]
async fn an_update_of_a_missing_job_creates_nothing() {
    let app = TestApp::start().await;
    let job = json!({"links": {"self": "/api/v1/jobs/00000000-0000-4000-8000-000000000000"}});
    app.report(&job, 0, &json!({"progress": 1})).await.problem(404, "JOB_NOT_FOUND");
    app.complete(&job, 0).await.problem(404, "JOB_NOT_FOUND");
    // The partial record that the seed's update_job_status creates for an expired job is not a job.
    app.redis
        .run(1, &["HSET", "job:00000000-0000-4000-8000-000000000000", "status", "processing"])
        .await;
    app.get(Caller::Worker, path_of(&job)).await.problem(404, "JOB_NOT_FOUND");
    app.report(&job, 0, &json!({"progress": 1})).await.problem(404, "JOB_NOT_FOUND");
    assert_eq!(app.redis.keys(1).await.len(), 1);
    assert_eq!(app.redis.keys(2).await.len(), 0);
}

#[tokio::test]
async fn every_write_renews_the_ttl_of_all_keys_of_the_job() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    app.complete(&job, 1).await.ok(200);
    for database in [1, 2] {
        for key in app.redis.keys(database).await.iter().filter(|key| *key != "i2m:ticket_secret") {
            app.redis.run(database, &["EXPIRE", key, "100"]).await;
        }
    }
    app.report(&job, 0, &json!({"progress": 1})).await.ok(200);
    for database in [1, 2] {
        for key in app.redis.keys(database).await {
            // In a cluster the owner's list is renewed asynchronously.
            wait_until(&format!("{key} gets a new TTL"), async || {
                let ttl: i64 = app.redis.run(database, &["TTL", &key]).await.convert().unwrap();
                ttl > 86_300
            })
            .await;
        }
    }
}

/// fred mistakes an array of three or four elements that starts with one of these words for a pub/sub message and then
/// delivers one caller's data to another.
#[tokio::test]
async fn caller_text_is_never_mistaken_for_pubsub() {
    let app = TestApp::start().await;
    for word in WORDS {
        let file = json!({"filename": word, "content_type": "image/png", "metadata": {word: word}});
        let new = json!({"files": [file, file, file], "params": {word: word}});
        let job = app.post(Caller::Alice, "/api/v1/jobs", &new).await.ok(201);
        app.report(&job, 0, &json!({"progress": 5, "message": word})).await.ok(200);
        app.fail(&job, 1, word).await.ok(200);
        for _ in 0..20 {
            let (shown, other) = tokio::join!(
                app.get(Caller::Alice, path_of(&job)),
                app.get(Caller::Worker, path_of(&job))
            );
            assert_eq!(shown.ok(200)["files"][0]["filename"], word);
            assert_eq!(other.ok(200)["job_id"], job["job_id"]);
        }
        let files = app.get(Caller::Alice, &format!("{}/files", path_of(&job))).await.ok(200);
        assert_eq!(files["files"][1]["error"], word);
        let mut stream = app.follow(&job, Some("0-0")).await;
        let update = stream.wait_for("file_update").await;
        assert_eq!(
            (&update.data["message"], &update.data["filename"]),
            (&json!(word), &json!(word))
        );
    }
}

/// Creates a job with exactly the commands of the seed's `JobStore.create_job`.
async fn python_creates(app: &TestApp, id: &str) {
    let key = format!("job:{id}");
    let now = "2026-11-23T00:58:58.252605";
    let (owner, total) = ("72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20", "2");
    app.redis
        .run(
            1,
            &[
                "HSET",
                &key,
                "job_id",
                id,
                "api_key_hash",
                owner,
                "status",
                "pending",
                "total_files",
                total,
                "completed_files",
                "0",
                "failed_files",
                "0",
                "created_at",
                now,
                "updated_at",
                now,
            ],
        )
        .await;
    for name in ["a.png", "b.png"] {
        let file = json!({"filename": name, "size": 2, "content_type": "image/png"}).to_string();
        app.redis.run(1, &["RPUSH", &format!("job:{id}:files"), &file]).await;
    }
    app.redis.run(1, &["SETEX", &format!("session:{id}"), "86400", owner]).await;
    app.redis.run(1, &["SADD", &format!("user_jobs:{owner}"), id]).await;
}
