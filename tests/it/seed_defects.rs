//! Defects of the seed's classes that the tests of the features do not cover; docs/SEED-DEFECTS.md lists all of them.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Caller, TestApp, id_of, path_of, wait_until};

/// Defect 6: the seed's client repeats a command whose response a stall has delayed.
#[tokio::test]
async fn a_call_during_a_stall_is_applied_at_most_once() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let stream = format!("stream:progress:{}", id_of(&job));
    app.redis.signal("STOP");
    let body = json!({"progress": 10});
    let mut report = std::pin::pin!(app.report(&job, 0, &body));
    // The report is sent while Redis is suspended.
    let early = tokio::time::timeout(Duration::from_millis(400), &mut report).await;
    app.redis.signal("CONT");
    let response = match early {
        Ok(response) => response,
        Err(_) => report.await,
    };
    assert!([200, 503].contains(&response.status), "{}", response.text);
    app.wait_until_ready().await;
    let n: i64 = app.redis.run(2, &["XLEN", &stream]).await.convert().unwrap();
    // The first entry is that of the job's creation.
    let once = if response.status == 200 { 2..=2 } else { 1..=2 };
    assert!(once.contains(&n), "{n} entries after {}", response.status);
}

/// Defect 12: the seed's `get_job` returns numbers as strings, and the owner's hash.
#[tokio::test]
async fn a_job_is_shown_with_numbers_and_without_its_owners_hash() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    let shown = app.get(Caller::Alice, path_of(&job)).await.ok(200);
    for field in ["total_files", "completed_files", "failed_files"] {
        assert!(shown[field].is_u64(), "{field}: {shown}");
    }
    assert!(!shown.to_string().contains("api_key_hash"), "{shown}");
    assert!(!shown.to_string().contains("72ee9d4355ccb9d3"), "{shown}");
}

/// Defect 26: a value that the seed's tracker accepts makes its reader fail for the whole job.
#[tokio::test]
async fn any_stored_percentage_can_be_read() {
    let app = TestApp::start().await;
    let job = app.create_job(4).await;
    for (file, percent) in [(0, "40.5"), (1, "-5"), (2, "250"), (3, "half")] {
        let key = format!("progress:{}:file_00{file}", id_of(&job));
        app.redis.run(2, &["SET", &key, percent]).await;
    }
    let shown = app.get(Caller::Alice, &format!("{}/progress", path_of(&job))).await.ok(200);
    for (_, file) in shown["files"].as_object().unwrap() {
        assert!(file["progress"].as_u64().is_some_and(|percent| percent <= 100), "{shown}");
    }
    assert!(shown["overall_progress"].as_u64().is_some_and(|percent| percent <= 100), "{shown}");
}

/// Defect 28: the seed's `get_batch_progress` scans the keys of all jobs.
#[tokio::test]
async fn reading_a_jobs_progress_scans_nothing() {
    let app = TestApp::start().await;
    let job = app.create_job(3).await;
    app.redis.run(0, &["CONFIG", "RESETSTAT"]).await;
    app.get(Caller::Alice, &format!("{}/progress", path_of(&job))).await.ok(200);
    let stats: String = app.redis.run(0, &["INFO", "commandstats"]).await.convert().unwrap();
    assert!(stats.contains("cmdstat_mget"), "{stats}");
    assert!(!stats.contains("cmdstat_scan") && !stats.contains("cmdstat_keys"), "{stats}");
}

/// Defect 54: each subscriber of the seed leaves an open connection.
#[tokio::test]
async fn closed_streams_leave_no_connections() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let client_count = async || {
        let list: String = app.redis.run(0, &["CLIENT", "LIST"]).await.convert().unwrap();
        // Without the connection of this command.
        list.lines().filter(|line| !line.contains("cmd=client")).count()
    };
    app.follow(&job, None).await.wait_for("task_queued").await;
    let before = client_count().await;
    for _ in 0..20 {
        app.follow(&job, None).await.wait_for("task_queued").await;
    }
    wait_until("no more connections than before", async || client_count().await <= before).await;
}
