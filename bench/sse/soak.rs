//! The soak test: browsers reconnect, every tenth reads slowly, and Redis is killed twice.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    bench::{LOAD_CORE, SERVER_CORE},
    browsers::Fleet,
    pinned_process::PinnedProcess,
    publish::Publisher,
    redis::Redis,
    report::{Row, Target, number},
    servers::{Server, ServerKind},
};

const TOPICS: usize = 10;
const BROWSERS_PER_TOPIC: usize = 100;
const SLOW_BROWSER_INTERVAL: usize = 10;
/// Per topic. At this rate a slow browser falls behind by more than socket buffers hold, but by less than a stream
/// keeps.
const EVENTS_PER_SECOND: f64 = 20.0;
const RECONNECTIONS_PER_SECOND: f64 = 20.0;
const REDIS_OUTAGE: Duration = Duration::from_secs(3);

pub(crate) async fn soak(dir: &Path, period: Duration) -> Result<Vec<Row>> {
    let mut redis = Redis::start_durable(LOAD_CORE, dir)?;
    let server = Server::start(ServerKind::Gateway, SERVER_CORE, &redis, dir).await?;
    let topics = server.topics(TOPICS).await?;
    let mut fleet = Fleet::new(server.addr, &topics, BROWSERS_PER_TOPIC, true);
    fleet.make_slow(SLOW_BROWSER_INTERVAL);
    fleet.reset(&[0; TOPICS]).await?;
    let publisher = Publisher::reliable(redis.addr, &topics, EVENTS_PER_SECOND * TOPICS as f64);
    let publishing = publisher.send_in_background(period);
    let started = Instant::now();
    let mut memory = Memory::default();

    for round in 1..=3 {
        let end = started + period * round / 3;
        while Instant::now() < end {
            fleet.reconnect_one(fastrand::usize(..fleet.len()));
            memory.sample(&server.process, started.elapsed(), period);
            sleep(Duration::from_secs_f64(fastrand::f64() * 2.0 / RECONNECTIONS_PER_SECOND)).await;
        }
        let tally = &fleet.tally;
        eprintln!(
            "   {} s: {} delivered, {} lost, {} duplicated, {:.1} MiB",
            started.elapsed().as_secs(),
            number(tally.delivered.get() as f64),
            tally.lost.get(),
            tally.duplicates.get(),
            server.process.rss_kib() / 1024.0
        );
        if round < 3 {
            eprintln!("   killing Redis");
            redis.kill();
            sleep_until(Instant::now() + REDIS_OUTAGE).await;
            redis.restart()?;
        }
    }
    let numbers = publishing.await.context("the publisher panicked")??;
    // A slow browser may be in a pause.
    let missing = fleet.wait_until_delivered(&numbers, Duration::from_mins(1)).await;
    Ok(rows(&fleet, missing, &memory, period))
}

/// Peak resident memory during the first fifth of the test, in which all browsers connect, and after it.
#[derive(Default)]
struct Memory {
    early_peak_kib: f64,
    later_peak_kib: f64,
}

impl Memory {
    fn sample(&mut self, process: &PinnedProcess, elapsed: Duration, period: Duration) {
        let kib = process.rss_kib();
        if elapsed < period / 5 {
            self.early_peak_kib = self.early_peak_kib.max(kib);
        } else {
            self.later_peak_kib = self.later_peak_kib.max(kib);
        }
    }
}

fn rows(fleet: &Fleet, missing: u64, memory: &Memory, period: Duration) -> Vec<Row> {
    let test = format!(
        "{} s, {} browsers, {RECONNECTIONS_PER_SECOND} reconnections per second, 1 in {SLOW_BROWSER_INTERVAL} slow, Redis killed twice",
        period.as_secs(),
        fleet.len()
    );
    let row = |name: &str, unit, target, value: f64| {
        let mut row = Row::new(format!("{test}: {name}"), unit, target);
        row.set(ServerKind::Gateway, value, "");
        row
    };
    let tally = &fleet.tally;
    vec![
        row("delivered", "events", Target::None, tally.delivered.get() as f64),
        row("lost", "events", Target::AtMost(0.0), (tally.lost.get() + missing) as f64),
        row("duplicated", "events", Target::AtMost(0.0), tally.duplicates.get() as f64),
        row(
            "peak memory after the first fifth of the time / before",
            "times",
            Target::AtMost(1.1),
            memory.later_peak_kib / memory.early_peak_kib,
        ),
    ]
}
