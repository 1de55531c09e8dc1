//! The lifecycle of a job over HTTP.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Caller, TestApp, id_of, path_of};

#[tokio::test]
async fn a_new_job_is_shown_as_it_was_created() {
    let app = TestApp::start().await;
    let response = app
        .post(Caller::Alice, "/api/v1/jobs", &json!({
            "files": [{"filename": "chair.png", "size": 12, "content_type": "image/png"}, {"filename": "table.jpg"}],
            "params": {"quality": "high", "nested": {"a": [1, 2]}},
        }))
        .await;
    let location = response.header("location").to_owned();
    let created = response.ok(201);

    assert_eq!(location, path_of(&created));
    assert_eq!(created["status"], "pending");
    assert_eq!(created["total_files"], 2);
    assert_eq!(created["params"]["nested"]["a"], json!([1, 2]));
    assert_eq!(created["files"][1]["file_id"], "file_001");
    assert!(created["created_at"].as_str().unwrap().ends_with('Z'));
    for link in ["self", "progress", "stream", "cancel"] {
        assert!(created["links"][link].as_str().unwrap().starts_with(&location));
    }

    let mut shown = app.get(Caller::Alice, &location).await.ok(200);
    let mut created = created;
    // Each response has a new ticket.
    (shown["links"]["stream"], created["links"]["stream"]) = (json!(""), json!(""));
    assert_eq!(shown, created);
}

#[tokio::test]
async fn progress_of_the_job_is_the_mean_of_its_files() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    let recorded =
        app.report(&job, 0, &json!({"progress": 40, "message": "meshing"})).await.ok(200);
    assert_eq!(recorded, json!({"recorded": 1, "ignored": 0}));

    let progress = app.get(Caller::Alice, job["links"]["progress"].as_str().unwrap()).await.ok(200);
    assert_eq!(
        progress,
        json!({
            "job_id": id_of(&job), "status": "processing", "overall_progress": 20,
            "total_files": 2, "completed_files": 0, "failed_files": 0,
            "files": {
                "file_000": {"status": "processing", "progress": 40, "filename": "picture-0.png"},
                "file_001": {"status": "pending", "progress": 0, "filename": "picture-1.png"},
            },
        })
    );
}

#[tokio::test]
async fn a_late_report_does_not_take_progress_back() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.report(&job, 0, &json!({"progress": 80})).await.ok(200);
    app.report(&job, 0, &json!({"progress": 30})).await.ok(200);
    let progress = app.get(Caller::Alice, job["links"]["progress"].as_str().unwrap()).await.ok(200);
    assert_eq!(progress["overall_progress"], 80);
}

#[tokio::test]
async fn a_new_attempt_starts_over_and_reports_of_older_ones_are_ignored() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.report(&job, 0, &json!({"progress": 80, "attempt": 1})).await.ok(200);
    app.report(&job, 0, &json!({"progress": 10, "attempt": 2})).await.ok(200);
    let late = app.report(&job, 0, &json!({"progress": 90, "attempt": 1})).await.ok(200);
    assert_eq!(late, json!({"recorded": 0, "ignored": 1}));
    let file = app.get(Caller::Alice, &format!("{}/files/file_000", path_of(&job))).await.ok(200);
    assert_eq!((&file["progress"], &file["attempt"]), (&json!(10), &json!(2)));
}

#[tokio::test]
async fn a_batch_report_is_atomic() {
    let app = TestApp::start().await;
    let job = app.create_job(3).await;
    let path = format!("{}/progress", path_of(&job));
    let batch = |third: &str| {
        json!({"files": [
            {"file_id": "file_000", "progress": 10}, {"file_id": "file_001", "progress": 20},
            {"file_id": third, "progress": 30},
        ]})
    };
    app.post(Caller::Worker, &path, &batch("file_003")).await.problem(404, "FILE_NOT_FOUND");
    assert_eq!(app.get(Caller::Alice, &path).await.ok(200)["overall_progress"], 0);
    app.post(Caller::Worker, &path, &batch("file_002")).await.ok(200);
    assert_eq!(app.get(Caller::Alice, &path).await.ok(200)["overall_progress"], 20);
}

#[tokio::test]
async fn the_last_result_ends_the_job() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    assert_eq!(app.complete(&job, 0).await.ok(200)["status"], "processing");
    assert_eq!(app.fail(&job, 1, "no mesh").await.ok(200)["status"], "partial");

    let shown = app.get(Caller::Alice, path_of(&job)).await.ok(200);
    assert_eq!(shown["status"], "partial");
    assert_eq!((&shown["completed_files"], &shown["failed_files"]), (&json!(1), &json!(1)));
    assert_eq!(shown["files"][1]["error"], "no mesh");
    let result =
        app.get(Caller::Alice, &format!("{}/files/file_000/result", path_of(&job))).await.ok(200);
    assert_eq!(result["result"]["url"], "https://cdn.example.com/model-0.glb");
}

#[tokio::test]
async fn a_result_counts_once_however_often_it_is_sent() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    let sent = futures_util::future::join_all((0..20).map(|_| app.complete(&job, 0))).await;
    assert!(sent.iter().all(|response| response.status == 200));
    let shown = app.get(Caller::Alice, path_of(&job)).await.ok(200);
    assert_eq!((&shown["completed_files"], &shown["status"]), (&json!(1), &json!("processing")));

    app.complete(&job, 1).await.ok(200);
    // The response to the last result may be lost, too, so a repeated result succeeds.
    assert_eq!(app.complete(&job, 1).await.ok(200)["status"], "completed");
}

#[tokio::test]
async fn a_finished_job_accepts_no_reports() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.fail(&job, 0, "broken picture").await.ok(200);
    let problem =
        app.report(&job, 0, &json!({"progress": 50})).await.problem(409, "INVALID_TRANSITION");
    assert_eq!(problem["details"], json!({"status": "failed", "wanted": "processing"}));
    let refused = app
        .send(Caller::Worker, Method::PATCH, path_of(&job), &json!({"status": "processing"}))
        .await;
    refused.problem(409, "INVALID_TRANSITION");
}

#[tokio::test]
async fn a_worker_can_end_a_whole_job() {
    let app = TestApp::start().await;
    let job = app.create_job(3).await;
    app.complete(&job, 0).await.ok(200);
    let ended = app
        .send(Caller::Worker, Method::PATCH, path_of(&job), &json!({"status": "failed"}))
        .await
        .ok(200);
    assert_eq!(ended["status"], "failed");
    let shown = app.get(Caller::Alice, path_of(&job)).await.ok(200);
    assert_eq!((&shown["completed_files"], &shown["failed_files"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn the_job_of_another_caller_does_not_exist() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let path = path_of(&job);
    for path in [
        path.to_owned(),
        format!("{path}/progress"),
        format!("{path}/files"),
        format!("{path}/progress/stream"),
    ] {
        let others = app.get(Caller::Bob, &path).await.problem(404, "JOB_NOT_FOUND");
        let none = path.replace(id_of(&job), "00000000-0000-4000-8000-000000000000");
        let nobodys = app.get(Caller::Bob, &none).await.problem(404, "JOB_NOT_FOUND");
        assert_eq!(others["title"], nobodys["title"]);
        app.get(Caller::Anonymous, &path).await.problem(403, "AUTHENTICATION_REQUIRED");
    }
    app.get(Caller::Worker, path).await.ok(200);
}

#[tokio::test]
async fn every_call_requires_its_role() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let report = format!("{}/files/file_000/progress", path_of(&job));
    app.post(Caller::Alice, &report, &json!({"progress": 1}))
        .await
        .problem(403, "INSUFFICIENT_PERMISSIONS");
    let job = json!({"files": [{"filename": "a.png"}]});
    app.post(Caller::Worker, "/api/v1/jobs", &job).await.problem(403, "INSUFFICIENT_PERMISSIONS");
    let wrong =
        app.http.post(format!("{}/api/v1/jobs", app.base)).header("x-api-key", "wrong").json(&job);
    crate::harness::ApiResponse::send(wrong).await.problem(403, "INVALID_API_KEY");
}

#[tokio::test]
async fn polling_is_served_from_the_cache_until_the_job_changes() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    let path = format!("{}/status", path_of(&job));
    let miss = app.get(Caller::Alice, &path).await;
    assert_eq!((miss.header("x-cache"), miss.status), ("miss", 200));
    let hit = app.get(Caller::Alice, &path).await;
    assert_eq!((hit.header("x-cache"), hit.header("etag")), ("hit", miss.header("etag")));
    assert_eq!(hit.json(), miss.json());
    let poll = || {
        app.request(Caller::Alice, Method::GET, &path).header("if-none-match", hit.header("etag"))
    };
    let unchanged = crate::harness::ApiResponse::send(poll()).await;
    assert_eq!((unchanged.status, unchanged.text.as_str()), (304, ""));
    app.get(Caller::Bob, &path).await.problem(404, "JOB_NOT_FOUND");

    app.report(&job, 0, &json!({"progress": 40})).await.ok(200);
    let changed = crate::harness::ApiResponse::send(poll()).await;
    assert_eq!(changed.header("x-cache"), "miss");
    let status = changed.ok(200);
    assert_eq!((&status["status"], &status["progress"]), (&json!("processing"), &json!(20)));
    assert!(status["updated_at"].as_str().unwrap().ends_with('Z'));
    let ttl: i64 = app
        .redis
        .run(4, &["TTL", &format!("cache:status:{}", id_of(&job))])
        .await
        .convert()
        .unwrap();
    assert!((1..=10).contains(&ttl));
}

#[tokio::test]
async fn the_deployed_front_end_finds_its_paths() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    let id = id_of(&job);
    app.complete(&job, 0).await.ok(200);
    app.fail(&job, 1, "no mesh").await.ok(200);
    let progress =
        app.get(Caller::Alice, &format!("/api/v1/status/jobs/{id}/progress")).await.ok(200);
    assert_eq!(progress["overall_progress"], 100);
    let status = app.get(Caller::Alice, &format!("/api/v1/status/tasks/{id}/status")).await.ok(200);
    assert_eq!(status["status"], "partial");
    let mut downloads = app.get(Caller::Alice, &format!("/api/v1/download/{id}/all")).await.ok(200);
    assert!(downloads["files"][0]["created_time"].take().is_string());
    assert_eq!(
        downloads,
        json!({
            "job_id": id, "total_files": 1, "download_urls": ["https://cdn.example.com/model-0.glb"],
            "files": [{"filename": "model-0.glb", "size": 4096, "mime_type": "model/gltf-binary",
                "created_time": null, "rendered_image": null}],
        })
    );
}
