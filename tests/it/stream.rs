//! The event stream of a job, as a browser reads it.

use serde_json::{Value, json};

use crate::harness::{Caller, Event, EventSource, TestApp, id_of, path_of, wait_until};

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[tokio::test]
async fn a_browser_receives_all_events_of_a_job() {
    let app = TestApp::start().await;
    let job = app.create_job(2).await;
    let mut stream = app.follow(&job, None).await;
    assert_eq!(stream.response.headers()["content-type"], "text/event-stream");
    assert_eq!(stream.response.headers()["cache-control"], "no-cache");
    assert_eq!(stream.response.headers()["x-accel-buffering"], "no");
    assert!(stream.response.headers().get("content-encoding").is_none());

    let queued = stream.next().await.unwrap();
    assert_eq!(queued.name, "task_queued");
    assert_eq!(
        queued.data,
        json!({
            "status": "queued", "progress": 0, "task_id": id_of(&job), "job_id": id_of(&job), "total_files": 2,
        })
    );
    assert!(stream.retry_ms.is_some_and(|retry| (20..=40).contains(&retry)));

    app.report(&job, 0, &json!({"progress": 40, "message": "meshing"})).await.ok(200);
    let file = stream.next().await.unwrap();
    assert_eq!(
        (file.name.as_str(), &file.data),
        (
            "file_update",
            &json!({
                "job_id": id_of(&job), "file_id": "file_000", "index": 0, "filename": "picture-0.png",
                "status": "processing", "file_progress": 40, "message": "meshing",
            })
        )
    );
    let mut progress = stream.next().await.unwrap();
    let timestamp = progress.data["timestamp"].as_u64().unwrap();
    assert!(progress.id.starts_with(&timestamp.to_string()));
    progress
        .data
        .as_object_mut()
        .unwrap()
        .retain(|name, _| name != "timestamp" && name != "eta_seconds");
    assert_eq!(
        (progress.name.as_str(), &progress.data),
        (
            "task_progress",
            &json!({
                "status": "processing", "progress": 20, "current": 0, "total": 2, "total_files": 2, "message": "meshing",
                "job_id": id_of(&job), "task_id": id_of(&job),
            })
        )
    );

    app.complete(&job, 0).await.ok(200);
    app.fail(&job, 1, "no mesh").await.ok(200);
    let rest = stream.rest().await;
    assert_eq!(
        names(&rest),
        ["file_update", "task_progress", "file_update", "task_progress", "task_completed"]
    );
    assert_eq!(rest[2].data["error"], "no mesh");
    assert_eq!(
        rest[4].data["summary"],
        json!({"total_files": 2, "successful_files": 1, "failed_files": 1})
    );
}

#[tokio::test]
async fn results_are_readable_before_the_end_event() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    app.complete(&job, 0).await.ok(200);
    stream.wait_for("task_completed").await;
    app.get(Caller::Alice, &format!("{}/files/file_000/result", path_of(&job))).await.ok(200);
    assert_eq!(app.get(Caller::Alice, path_of(&job)).await.ok(200)["status"], "completed");
}

#[tokio::test]
async fn a_reconnect_misses_and_repeats_no_event() {
    let app = TestApp::start_with(&[("sse.ring_length", "3")]).await;
    let job = app.create_job(1).await;
    let mut all = app.follow(&job, None).await;
    for percent in 1..=20 {
        app.report(&job, 0, &json!({"progress": percent})).await.ok(200);
    }
    app.complete(&job, 0).await.ok(200);
    let all: Vec<Event> = all.rest().await;
    let ids: Vec<&str> = unique_ids(&all);

    // A reconnect after each id receives exactly the events after that id.
    for (seen_count, id) in ids.iter().enumerate() {
        let mut again = app.follow(&job, Some(id)).await;
        if seen_count + 1 == ids.len() {
            assert_eq!(again.response.status(), 204);
            continue;
        }
        let rest = again.rest().await;
        assert_eq!(unique_ids(&rest), ids[seen_count + 1..], "after {id}");
        assert_eq!(rest.last().unwrap().name, "task_completed");
        let updates: Vec<&Event> =
            rest.iter().filter(|event| event.name == "file_update").collect();
        let firsts: Vec<&Event> = all
            .iter()
            .filter(|event| {
                event.name == "file_update" && ids[seen_count + 1..].contains(&event.id.as_str())
            })
            .collect();
        assert_eq!(updates, firsts);
    }
}

fn unique_ids(events: &[Event]) -> Vec<&str> {
    let mut ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    ids.dedup();
    ids
}

#[tokio::test]
async fn progress_never_falls_for_any_watcher() {
    let app = TestApp::start().await;
    let job = app.create_job(3).await;
    let mut streams = vec![app.follow(&job, None).await];
    for (file, percent) in [(0, 50), (1, 30), (0, 20), (2, 90), (1, 100)] {
        app.report(&job, file, &json!({"progress": percent})).await.ok(200);
        streams.push(app.follow(&job, Some("0-0")).await);
    }
    for file in 0..3 {
        app.complete(&job, file).await.ok(200);
    }
    for mut stream in streams {
        let seen: Vec<u64> = stream
            .rest()
            .await
            .iter()
            .filter_map(|event| event.data["progress"].as_u64())
            .collect();
        assert!(seen.is_sorted() && seen.last() == Some(&100), "{seen:?}");
    }
}

#[tokio::test]
async fn a_finished_job_sends_its_end_event_again() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.fail(&job, 0, "no mesh").await.ok(200);
    let told = app.follow(&job, None).await.rest().await;
    assert_eq!(names(&told), ["task_failed"]);
    assert_eq!(told[0].data["error"], "every file failed");
    assert_eq!(app.follow(&job, Some(&told[0].id)).await.response.status(), 204);
}

#[tokio::test]
async fn a_stream_is_read_once_for_any_number_of_watchers() {
    let app = TestApp::start_with(&[("sse.reconcile_interval", "60s")]).await;
    let job = app.create_job(1).await;
    let mut streams = Vec::new();
    for _ in 0..30 {
        let mut stream = app.follow(&job, None).await;
        stream.wait_for("task_queued").await;
        streams.push(stream);
    }
    let before = call_count(&app, "xread").await;
    for percent in [10, 20, 30] {
        app.report(&job, 0, &json!({"progress": percent})).await.ok(200);
        for stream in &mut streams {
            assert_eq!(stream.wait_for("task_progress").await.data["progress"], percent);
        }
    }
    let read_count = call_count(&app, "xread").await - before;
    // A report may wake the reader more than once, but not once per watcher.
    assert!((3..=12).contains(&read_count), "{read_count} reads for 3 events and 30 watchers");
}

async fn call_count(app: &TestApp, command: &str) -> u64 {
    let stats: String = app.redis.run(2, &["INFO", "commandstats"]).await.convert().unwrap();
    let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
    line.map_or(0, |line| line.split(['=', ',']).nth(1).unwrap().parse().unwrap())
}

#[tokio::test]
async fn events_of_a_writer_that_does_not_publish_are_delivered() {
    let app = TestApp::start_with(&[("sse.reconcile_interval", "20ms")]).await;
    let job = app.create_job(2).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    let key = format!("stream:progress:{}", id_of(&job));
    let add = [
        "XADD",
        &key,
        "*",
        "file_id",
        "file_001",
        "progress",
        "50",
        "timestamp",
        "2026-11-23T00:58:58.252605",
    ];
    app.redis.run(2, &add).await;
    let update = stream.wait_for("file_update").await;
    assert_eq!((&update.data["index"], &update.data["file_progress"]), (&json!(1), &json!(50)));
    assert_eq!(stream.wait_for("task_progress").await.data["progress"], 25);
}

#[tokio::test]
async fn a_stream_with_trimmed_events_is_resynchronised() {
    let app = TestApp::start_with(&[("sse.ring_length", "2")]).await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    let first = stream.wait_for("task_queued").await;
    for percent in 1..=10 {
        app.report(&job, 0, &json!({"progress": percent})).await.ok(200);
    }
    while stream.wait_for("file_update").await.data["file_progress"] != 10 {}
    app.redis.run(2, &["XTRIM", &format!("stream:progress:{}", id_of(&job)), "MAXLEN", "3"]).await;
    let mut again = app.follow(&job, Some(&first.id)).await;
    let resync = again.next().await.unwrap();
    assert_eq!((resync.name.as_str(), &resync.data["overall_progress"]), ("resync", &json!(10)));
    app.report(&job, 0, &json!({"progress": 11})).await.ok(200);
    assert_eq!(again.next().await.unwrap().data["file_progress"], 11);
}

#[tokio::test]
async fn events_that_were_trimmed_before_they_were_read_are_resynchronised() {
    let settings = [
        ("progress.stream_length", "100"),
        ("sse.reconcile_interval", "60s"),
        ("sse.status_check_interval", "60s"),
    ];
    let app = TestApp::start_with(&settings).await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    // One transaction, so that the reader wakes only after the trimming.
    let key = format!("stream:progress:{}", id_of(&job));
    let script = "for i = 1, 350 do redis.call('XADD', KEYS[1], 'MAXLEN', '~', '100', '*', 'file_id', 'file_000', \
        'progress', i % 100, 'timestamp', 'x') end redis.call('PUBLISH', ARGV[1], '')";
    app.redis.run(2, &["EVAL", script, "1", &key, &format!("progress:{}", id_of(&job))]).await;
    assert_eq!(stream.next().await.unwrap().name, "resync");
}

#[tokio::test]
async fn an_event_id_beyond_the_stream_is_resynchronised() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, Some("9999999999999-0")).await;
    assert_eq!(stream.next().await.unwrap().name, "resync");
}

#[tokio::test]
async fn a_stream_can_be_opened_before_its_job_exists() {
    let app =
        TestApp::start_with(&[("sse.access", "job_id"), ("sse.reconcile_interval", "20ms")]).await;
    let id = uuid::Uuid::new_v4();
    let path = format!("/api/v1/status/tasks/{id}/stream");
    let mut stream = EventSource::open(&app, &path, None).await;
    assert_eq!(stream.response.status(), 200);
    assert_eq!(stream.next().await.unwrap().name, "task_queued");
    app.redis
        .run(
            1,
            &[
                "HSET",
                &format!("job:{id}"),
                "total_files",
                "1",
                "status",
                "pending",
                "completed_files",
                "0",
            ],
        )
        .await;
    app.redis.run(2, &["SET", &format!("progress:{id}:file_000"), "50"]).await;
    let key = format!("stream:progress:{id}");
    app.redis
        .run(2, &["XADD", &key, "*", "file_id", "file_000", "progress", "50", "timestamp", "x"])
        .await;
    let progress: Value = stream.wait_for("task_progress").await.data;
    assert_eq!(progress["job_id"], id.to_string());
}

#[tokio::test]
async fn a_stream_ends_at_its_timeout() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let path = format!("{}&timeout=1", job["links"]["stream"].as_str().unwrap());
    let events = EventSource::open(&app, &path, None).await.rest().await;
    assert_eq!(names(&events), ["task_queued", "connection_timeout"]);
    let path = format!("{}&timeout=0", job["links"]["stream"].as_str().unwrap());
    app.get(Caller::Anonymous, &path).await.problem(422, "VALIDATION_ERROR");
}

#[tokio::test]
async fn an_idle_stream_is_kept_open() {
    let app = TestApp::start_with(&[("sse.heartbeat", "100ms")]).await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    let mut text = Vec::new();
    while text.windows(12).filter(|window| window == b": keep-alive").count() < 2 {
        text.extend(stream.response.chunk().await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_ticket_is_valid_only_for_its_job() {
    let app = TestApp::start().await;
    let (job, other) = (app.create_job(1).await, app.create_job(1).await);
    let stream = job["links"]["stream"].as_str().unwrap();
    let ticket = stream.split_once("ticket=").unwrap().1;
    let wrong = format!("{}/progress/stream?ticket={ticket}", path_of(&other));
    app.get(Caller::Anonymous, &wrong).await.problem(403, "INVALID_API_KEY");
    for forged in [&ticket[..ticket.len() - 1], "x", "0.", "ffffffff.AAAA", ""] {
        let path = format!("{}/progress/stream?ticket={forged}", path_of(&job));
        app.get(Caller::Anonymous, &path).await.problem(403, "INVALID_API_KEY");
    }
    app.get(Caller::Anonymous, &format!("{}/progress/stream", path_of(&job)))
        .await
        .problem(403, "AUTHENTICATION_REQUIRED");
}

#[tokio::test]
async fn streams_over_the_limit_get_a_retry_time() {
    let app = TestApp::start_with(&[("sse.max_streams", "1")]).await;
    let job = app.create_job(1).await;
    let mut first = app.follow(&job, None).await;
    first.wait_for("task_queued").await;
    let mut second = app.follow(&job, None).await;
    assert_eq!(second.response.status(), 200);
    assert_eq!(second.next().await, None);
    assert!(second.retry_ms.is_some());
    drop(first);
    wait_until("a stream is accepted again", async || {
        app.follow(&job, None).await.next().await.is_some()
    })
    .await;
}

#[tokio::test]
async fn deleting_a_job_ends_its_streams() {
    let app = TestApp::start_with(&[("sse.status_check_interval", "50ms")]).await;
    let job = app.create_job(1).await;
    let mut stream = app.follow(&job, None).await;
    stream.wait_for("task_queued").await;
    for database in [1, 2] {
        app.redis.run(database, &["FLUSHDB"]).await;
    }
    let end = stream.wait_for("task_failed").await;
    assert_eq!(end.data["status"], "expired");
    assert_eq!(stream.next().await, None);
}
