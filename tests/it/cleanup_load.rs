//! A cleanup during traffic: its report counts the removed keys, and no writer loses data.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use crate::{
    cleanup::clean,
    harness::{Caller, TestApp, TestRedis, config, id_of, path_of},
};

/// Creates old jobs with four files and no TTL, of a hundred owners.
const OLD_JOBS: &str = "for i = 1, ARGV[1] do \
    local id = string.format('00000000-0000-4000-8000-%012d', i) \
    local owner = string.format('%064d', i % 100) \
    redis.call('HSET', 'job:' .. id, 'job_id', id, 'api_key_hash', owner, 'status', 'processing', \
        'total_files', 4, 'created_at', '2020-01-01T00:00:00.5', 'updated_at', '2020-01-02T00:00:00.5') \
    redis.call('RPUSH', 'job:' .. id .. ':files', '{}', '{}', '{}', '{}') \
    redis.call('SET', 'session:' .. id, owner) \
    redis.call('SADD', 'user_jobs:' .. owner, id) \
    redis.call('SELECT', 2) \
    for f = 0, 3 do redis.call('SET', 'progress:' .. id .. ':file_00' .. f, 40) end \
    redis.call('XADD', 'stream:progress:' .. id, '*', 'file_id', 'file_000', 'progress', 40) \
    redis.call('SELECT', 1) end";
/// Creates keys of jobs that do not exist.
const ORPHANS: &str = "for i = 1, ARGV[1] do \
    redis.call('SET', string.format('progress:11111111-0000-4000-8000-%012d:file_000', i), 1, 'EX', 9999) end";
const COUNTERS: &str = "for i = 1, ARGV[1] do \
    redis.call('SET', 'metric:m' .. i .. ':count', i) \
    redis.call('SADD', 'tag:t' .. i % 50, 'cache:' .. i) end";
const FOREIGN: &str = "for i = 1, ARGV[1] do redis.call('SET', 'celery-task-meta-' .. i, i) end";

async fn all_keys(redis: &TestRedis) -> BTreeSet<(u8, String)> {
    let mut all = BTreeSet::new();
    for database in 0..5 {
        all.extend(redis.keys(database).await.into_iter().map(|key| (database, key)));
    }
    all
}

/// Reports progress of a job until `is_over`, over HTTP and as the seed's tracker does.
async fn work(app: &TestApp, job: &Value, is_over: &AtomicBool) {
    let mut n = 0;
    while !is_over.load(Ordering::Relaxed) {
        n += 1;
        app.report(job, n % 4, &json!({"progress": n % 100})).await.ok(200);
        let percent = format!("progress:{}:file_00{}", id_of(job), n % 4);
        app.redis.run(2, &["SET", &percent, "50"]).await;
        app.get(Caller::Alice, path_of(job)).await.ok(200);
    }
}

#[tokio::test]
async fn the_report_counts_the_removed_keys_and_no_writer_loses_data() {
    let redis = TestRedis::start_with(&["--appendfsync", "no"]);
    let settings = config(
        &redis,
        &[
            ("cleanup.orphan_grace", "0s"),
            ("cleanup.duty_cycle", "1"),
            ("rate_limit.enabled", "false"),
        ],
    );
    let app = TestApp::start_on(redis, settings).await;
    app.wait_until_ready().await;
    app.redis.run(1, &["EVAL", OLD_JOBS, "0", "1000"]).await;
    app.redis.run(2, &["EVAL", ORPHANS, "0", "3000"]).await;
    app.redis.run(4, &["EVAL", COUNTERS, "0", "6000"]).await;
    app.redis.run(0, &["EVAL", FOREIGN, "0", "2950"]).await;
    let before = all_keys(&app.redis).await;
    assert!(before.len() > 20_000, "{}", before.len());
    let mut live = Vec::new();
    for _ in 0..4 {
        live.push(app.create_job(4).await);
    }

    let is_over = AtomicBool::new(false);
    let cleaning = async {
        let report = clean(&app, "").await;
        is_over.store(true, Ordering::Relaxed);
        report
    };
    let working = futures_util::future::join_all(live.iter().map(|job| work(&app, job, &is_over)));
    let (report, _) = tokio::join!(cleaning, working);

    let after = all_keys(&app.redis).await;
    let gone: Vec<_> = before.difference(&after).collect();
    // The old jobs with 8 keys each, the 100 sets of their owners, the orphans, and the tags, whose members
    // never existed.
    assert_eq!(gone.len(), 1000 * 8 + 100 + 3000 + 50);
    assert_eq!(report["totals"]["removed"], gone.len(), "{report}");
    assert_eq!(report["totals"]["pruned"], 1000 + 6000, "{report}");
    assert_eq!(report["families"]["counter"]["4"]["adopted"], 6000, "{report}");
    assert_eq!(report["unknown"]["0"], 2950, "{report}");
    // The seed's cleanup makes at least two calls for each key.
    assert!(report["steps"].as_u64() < Some(20_000 / 5), "{report}");
    for job in &live {
        let shown = app.get(Caller::Alice, path_of(job)).await.ok(200);
        assert_eq!(shown["files"].as_array().unwrap().len(), 4);
        let listed = app.get(Caller::Alice, "/api/v1/jobs").await.ok(200);
        assert!(
            listed["jobs"]
                .as_array()
                .unwrap()
                .iter()
                .any(|listed_job| listed_job["job_id"] == job["job_id"])
        );
    }
    // The next cleanup adopts keys that were written without a TTL after the first had passed them.
    clean(&app, "").await;
    for (database, key) in all_keys(&app.redis).await.iter().filter(|entry| entry.0 == 2) {
        let ttl: i64 = app.redis.run(*database, &["TTL", key]).await.convert().unwrap();
        assert!(ttl > 0, "{key}");
    }
}
