//! Random concurrent requests of several clients: counters match the files, every job ends at most once
//! per attempt, and no key is left behind.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Caller, TestApp, id_of, path_of};

const N_JOBS: usize = 4;
const N_CLIENTS: usize = 6;
const N_STEPS: usize = 60;

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a failing run says how to repeat it")]
async fn random_interleavings_keep_counters_and_files_consistent() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let app = TestApp::start().await;
    let mut jobs = Vec::new();
    for file_count in 1..=N_JOBS {
        jobs.push(app.create_job(file_count).await);
    }
    let clients = (0..N_CLIENTS as u64)
        .map(|client| play(&app, &jobs, fastrand::Rng::with_seed(seed + client)));
    futures_util::future::join_all(clients).await;
    for job in &jobs {
        check(&app, job).await;
    }
    for job in jobs {
        app.send(Caller::Alice, Method::DELETE, path_of(&job), &json!({})).await;
    }
    for (database, left) in [(1, vec!["i2m:ticket_secret".to_owned()]), (2, vec![]), (4, vec![])] {
        assert_eq!(app.redis.keys(database).await, left);
    }
}

async fn play(app: &TestApp, jobs: &[Value], mut random: fastrand::Rng) {
    for _ in 0..N_STEPS {
        let job = &jobs[random.usize(..jobs.len())];
        let file = random.usize(..jobs.len());
        let path = path_of(job);
        let response = match random.u16(..1000) {
            0..500 => {
                let attempt = random.u8(1..4);
                app.report(job, file, &json!({"progress": random.u8(..=100), "attempt": attempt}))
                    .await
            }
            500..700 => app.complete(job, file).await,
            700..850 => app.fail(job, file, "it failed").await,
            850..880 => app.post(Caller::Alice, &format!("{path}/cancel"), &json!({})).await,
            880..970 => app.post(Caller::Alice, &format!("{path}/retry"), &json!({})).await,
            970..972 => app.send(Caller::Alice, Method::DELETE, path, &json!({})).await,
            _ => {
                let status = ["processing", "completed", "failed"][random.usize(..3)];
                app.send(Caller::Worker, Method::PATCH, path, &json!({"status": status})).await
            }
        };
        assert!(response.status < 500, "{}", response.text);
    }
}

async fn check(app: &TestApp, job: &Value) {
    let shown = app.get(Caller::Alice, path_of(job)).await;
    if shown.status == 404 {
        let is_ours = |key: &&String| key.contains(id_of(job));
        for database in 0..5 {
            assert_eq!(app.redis.keys(database).await.iter().find(is_ours), None);
        }
        return;
    }
    let shown = shown.ok(200);
    let files = shown["files"].as_array().unwrap();
    let count = |status: &str| files.iter().filter(|file| file["status"] == status).count();
    assert_eq!(shown["completed_files"], count("completed"), "{shown}");
    assert_eq!(shown["failed_files"], count("failed"), "{shown}");
    let open = files.len() - count("completed") - count("failed") - count("cancelled");
    let is_over = ["completed", "partial", "failed", "cancelled"]
        .contains(&shown["status"].as_str().unwrap());
    assert_eq!(is_over, open == 0, "{shown}");

    let stream = format!("stream:progress:{}", id_of(job));
    let entries: Vec<(String, HashMap<String, String>)> =
        app.redis.run(2, &["XRANGE", &stream, "-", "+"]).await.convert().unwrap();
    let mut ended = false;
    for (id, fields) in &entries {
        match fields.get("event").map(String::as_str) {
            Some("task_completed" | "task_failed") => {
                assert!(!ended, "the job ended twice in one run, at {id}");
                ended = true;
            }
            Some("task_queued") => ended = false,
            _ => assert!(!ended, "something came after the end, at {id}"),
        }
    }
    assert_eq!(ended, is_over);
    for database in [1, 2] {
        for key in app.redis.keys(database).await {
            let ttl: i64 = app.redis.run(database, &["TTL", &key]).await.convert().unwrap();
            assert_ne!(ttl, -1, "{key} never expires");
        }
    }
}
