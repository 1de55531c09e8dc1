//! Ten minutes of a bad day: browsers come and go, one in ten reads slowly, Redis is killed twice.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    bench::{LOAD_CORE, SERVER_CORE},
    browsers::Fleet,
    process::Process,
    publish::Publisher,
    redis::Redis,
    report::{Row, Target, number},
    servers::{Kind, Server},
};

const TOPICS: usize = 10;
const BROWSERS_EACH: usize = 100;
const ONE_SLOW_IN: usize = 10;
/// Of each topic; a slow browser then misses more than sockets hold, and less than a stream keeps.
const EVENTS_PER_S: f64 = 20.0;
const CUTS_PER_S: f64 = 20.0;
const REDIS_IS_AWAY_FOR: Duration = Duration::from_secs(3);

pub(crate) async fn soak(dir: &Path, period: Duration) -> Result<Vec<Row>> {
    let mut redis = Redis::start_durable(LOAD_CORE, dir)?;
    let server = Server::start(Kind::Gateway, SERVER_CORE, &redis, dir).await?;
    let topics = server.topics(TOPICS).await?;
    let mut fleet = Fleet::new(server.addr, &topics, BROWSERS_EACH, true);
    fleet.slow_down(ONE_SLOW_IN);
    fleet.start_over(&[0; TOPICS]).await?;
    let publisher = Publisher::careful(redis.addr, &topics, EVENTS_PER_S * TOPICS as f64);
    let publishing = publisher.send_in_background(period);
    let begin = Instant::now();
    let mut memory = Memory::default();

    for (n_done, third) in (1..=3).map(|it| period * it / 3).enumerate() {
        let until = begin + third;
        while Instant::now() < until {
            fleet.cut_one(fastrand::usize(..fleet.len()));
            memory.look(&server.process, begin.elapsed(), period);
            sleep(Duration::from_secs_f64(fastrand::f64() * 2.0 / CUTS_PER_S)).await;
        }
        let tally = &fleet.tally;
        eprintln!(
            "   {} s: {} delivered, {} lost, {} doubled, {:.1} MiB",
            begin.elapsed().as_secs(),
            number(tally.n_delivered.get() as f64),
            tally.n_lost.get(),
            tally.n_repeated.get(),
            server.process.rss_kib() / 1024.0
        );
        if n_done < 2 {
            eprintln!("   Redis is killed");
            redis.kill();
            sleep_until(Instant::now() + REDIS_IS_AWAY_FOR).await;
            redis.start_again()?;
        }
    }
    let numbers = publishing.await.context("the publisher died")??;
    // A slow browser may have paused just now.
    let n_missing = fleet.settle(&numbers, Duration::from_mins(1)).await;
    Ok(rows(&fleet, n_missing, &memory, period))
}

/// Resident memory after the first fifth, when everybody has been there, and the most after that.
#[derive(Default)]
struct Memory {
    early_kib: f64,
    most_kib: f64,
}

impl Memory {
    fn look(&mut self, process: &Process, elapsed: Duration, period: Duration) {
        let kib = process.rss_kib();
        if elapsed < period / 5 {
            self.early_kib = self.early_kib.max(kib);
        } else {
            self.most_kib = self.most_kib.max(kib);
        }
    }
}

fn rows(fleet: &Fleet, n_missing: u64, memory: &Memory, period: Duration) -> Vec<Row> {
    let what = format!(
        "{} s, {} browsers, {CUTS_PER_S} cut a second, 1 in {ONE_SLOW_IN} slow, Redis killed twice",
        period.as_secs(),
        fleet.len()
    );
    let row = |name: &str, unit, target, value: f64| {
        let mut row = Row::new(format!("{what}: {name}"), unit, target);
        row.set(Kind::Gateway, value, "");
        row
    };
    let tally = &fleet.tally;
    vec![
        row("delivered", "events", Target::None, tally.n_delivered.get() as f64),
        row("lost", "events", Target::AtMost(0.0), (tally.n_lost.get() + n_missing) as f64),
        row("doubled", "events", Target::AtMost(0.0), tally.n_repeated.get() as f64),
        row(
            "memory, most after a fifth of the time to most before",
            "times",
            Target::AtMost(1.1),
            memory.most_kib / memory.early_kib,
        ),
    ]
}
