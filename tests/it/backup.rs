//! The scripts that back up and restore Redis.

use std::{path::Path, process::Command};

use serde_json::json;

use crate::harness::{Caller, TestApp, TestRedis, config, path_of};

/// Runs a script of `scripts/` and returns whether it succeeded.
async fn script(name: &str, arguments: &[&str]) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    tokio::process::Command::from(Command::new(path))
        .args(arguments)
        .status()
        .await
        .unwrap()
        .success()
}

#[tokio::test]
async fn a_restored_redis_continues_from_the_backup() {
    let app = TestApp::start().await;
    // The backup is a full sync to a replica. By default Redis delays it, so that further replicas can share it.
    app.redis.run(0, &["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).await;
    let job = app.create_job(2).await;
    let mut stream = app.follow(&job, None).await;
    app.complete(&job, 0).await.ok(200);
    let seen = stream.wait_for("file_update").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("redis.rdb").to_str().unwrap().to_owned();
    let socket = app.redis.dir().join("redis.sock").to_str().unwrap().to_owned();
    assert!(script("redis-backup", &[&socket, &file]).await);
    assert!(!script("redis-backup", &[&socket, &file]).await, "a backup is overwritten");
    let later = app.create_job(1).await;

    let redis = TestRedis::prepare(&[]);
    let data = redis.dir().to_str().unwrap().to_owned();
    assert!(script("redis-restore", &[&file, &data]).await);
    assert!(!script("redis-restore", &[&file, &data]).await, "a folder in use is overwritten");
    let mut redis = redis;
    redis.start_again();
    let settings = config(&redis, &[]);
    let restored = TestApp::start_on(redis, settings).await;
    restored.wait_until_ready().await;
    restored.get(Caller::Alice, path_of(&later)).await.problem(404, "JOB_NOT_FOUND");
    let mut stream = restored.follow(&job, Some(&seen.id)).await;
    restored.report(&job, 1, &json!({"progress": 70})).await.ok(200);
    assert_eq!(stream.wait_for("file_update").await.data["file_progress"], 70);
    restored.complete(&job, 1).await.ok(200);
    stream.wait_for("task_completed").await;
    let job = restored.get(Caller::Alice, path_of(&job)).await.ok(200);
    assert_eq!((&job["status"], &job["completed_files"]), (&json!("completed"), &json!(2)));
}
