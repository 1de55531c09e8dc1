//! Work under a lock inside the service, tested with the leader election for Celery.

use std::time::Duration;

use crate::harness::{GatewayProcess, TestApp, TestRedis, wait_until};

const KEY: &str = "lock:i2m:celery-leader";
/// With this interval the TTL of the lock is half a second.
const SETTINGS: [(&str, &str); 2] = [("celery.enabled", "true"), ("celery.poll_interval", "50ms")];

async fn holder(redis: &TestRedis) -> Option<String> {
    redis.run(1, &["GET", KEY]).await.as_string()
}

async fn until_held(redis: &TestRedis, by_another_than: Option<&str>) -> String {
    wait_until("the lock is held", async || {
        holder(redis).await.is_some_and(|token| Some(token.as_str()) != by_another_than)
    })
    .await;
    holder(redis).await.unwrap()
}

/// The number of reads of the outbox, which only the holder of the lock makes.
async fn outbox_reads(redis: &TestRedis) -> String {
    let info: String = redis.run(1, &["INFO", "commandstats"]).await.convert().unwrap();
    let lines = info.lines().filter(|line| line.starts_with("cmdstat_zrange"));
    lines.filter_map(|field| field.split(',').next()).collect()
}

#[tokio::test]
async fn a_lock_is_renewed_beyond_its_ttl_and_released_at_the_end() {
    let app = TestApp::start_with(&SETTINGS).await;
    let token = until_held(&app.redis, None).await;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(holder(&app.redis).await.as_ref(), Some(&token));
    }
    let redis = app.stop_keeping_redis().await;
    assert_eq!(holder(&redis).await, None);
}

#[tokio::test]
async fn work_stops_when_its_lock_is_lost() {
    let app = TestApp::start_with(&SETTINGS).await;
    until_held(&app.redis, None).await;
    app.redis.run(1, &["SET", KEY, "a thief", "EX", "60"]).await;
    wait_until("the work stops", async || {
        let before = outbox_reads(&app.redis).await;
        // Six intervals.
        tokio::time::sleep(Duration::from_millis(300)).await;
        before == outbox_reads(&app.redis).await
    })
    .await;
    assert_eq!(holder(&app.redis).await.as_deref(), Some("a thief"));

    app.redis.run(1, &["DEL", KEY]).await;
    until_held(&app.redis, None).await;
    let before = outbox_reads(&app.redis).await;
    wait_until("the work resumes", async || before != outbox_reads(&app.redis).await).await;
}

#[tokio::test]
async fn the_lock_of_a_process_that_died_goes_to_another() {
    let redis = TestRedis::start();
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__CELERY__ENABLED", "true"),
        ("I2M__CELERY__POLL_INTERVAL", "50ms"),
    ];
    let mut first = GatewayProcess::start(redis.dir(), &environment);
    let token = until_held(&redis, None).await;
    let _second = GatewayProcess::start(redis.dir(), &environment);
    first.signal("KILL");
    first.wait();
    until_held(&redis, Some(&token)).await;
}
