//! What every scenario stands on: a server, its browsers and a publisher, and one measured stretch of time.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use tokio::time::Instant;

use crate::{
    browsers::Fleet,
    process::{cpu_seconds_of, cpu_seconds_of_all},
    publish::{Publisher, Sent, Way},
    redis::Redis,
    servers::{Kind, Server, Topic},
};

/// Servers run on this core ...
pub(crate) const SERVER_CORE: usize = 0;
/// ... and the load, and Redis, on this one.
pub(crate) const LOAD_CORE: usize = 1;

/// What other programs may take of a core before a measurement is not believed.
pub(crate) const NOISE: f64 = 0.15;

/// How long and how large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) is_quick: bool,
    /// One step of a ramp.
    pub(crate) step: Duration,
    /// One measurement at a fixed rate.
    pub(crate) stretch: Duration,
    /// Halvings of the ratio between the last rate that held and the first that did not.
    pub(crate) n_refinements: u32,
    /// Idle connections, and watched streams.
    pub(crate) n_many: usize,
    /// Browsers that are cut at once.
    pub(crate) n_herd: usize,
}

impl Plan {
    pub(crate) fn full() -> Self {
        Self {
            is_quick: false,
            step: Duration::from_secs(3),
            stretch: Duration::from_secs(10),
            n_refinements: 3,
            n_many: 10_000,
            n_herd: 5000,
        }
    }

    pub(crate) fn quick() -> Self {
        Self {
            is_quick: true,
            step: Duration::from_secs(1),
            stretch: Duration::from_secs(3),
            n_refinements: 0,
            n_many: 2000,
            n_herd: 1000,
        }
    }
}

/// A server under load.
pub(crate) struct Setting<'a> {
    pub(crate) redis: &'a Redis,
    pub(crate) server: Server,
    pub(crate) fleet: Fleet,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) numbers: Vec<u64>,
}

/// What a stretch of time showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) events_per_s: f64,
    pub(crate) deliveries_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Skipped, or not there in the end.
    pub(crate) n_lost: u64,
    pub(crate) n_repeated: u64,
    /// CPU time of the server, for each delivery.
    pub(crate) server_us: f64,
    /// Of a core.
    pub(crate) server_share: f64,
    pub(crate) redis_share: f64,
    pub(crate) load_share: f64,
    /// What other programs took meanwhile: noise.
    pub(crate) others_share: f64,
}

impl<'a> Setting<'a> {
    /// Starts a server and connects `per_topic` browsers to each of `n_topics`.
    pub(crate) async fn new(
        redis: &'a Redis,
        dir: &Path,
        kind: Kind,
        (n_topics, per_topic): (usize, usize),
        resumes: bool,
    ) -> Result<Self> {
        let server = Server::start(kind, SERVER_CORE, redis, dir).await?;
        let topics = server.topics(n_topics).await?;
        let fleet = Fleet::new(server.addr, &topics, per_topic, resumes);
        let numbers = vec![0; n_topics];
        let mut it = Self { redis, server, fleet, publisher: None, topics, numbers };
        it.publish_by(Way::Signalled)?;
        Ok(it)
    }

    /// Makes a publisher that goes on with the numbers of the one before.
    pub(crate) fn publish_by(&mut self, way: Way) -> Result<()> {
        let mut publisher = Publisher::connect(&self.server, self.redis.addr, &self.topics, way)?;
        publisher.numbers.clone_from(&self.numbers);
        self.publisher = Some(publisher);
        Ok(())
    }

    /// All browsers on fresh connections.
    pub(crate) async fn start_over(&mut self) -> Result<()> {
        self.fleet.start_over(&self.numbers).await?;
        if self.server.kind == Kind::FastApi {
            // It answers before it listens, and each browser needs a connection to Redis first.
            self.redis.wait_for_blocked(self.fleet.len()).await?;
        }
        self.fleet.clear_tally();
        Ok(())
    }

    /// Publishes `rate` events a second for `period`; nothing is measured.
    pub(crate) async fn send(&mut self, rate: f64, period: Duration) -> Result<Sent> {
        let Some(publisher) = self.publisher.take() else { bail!("the publisher failed before") };
        let (publisher, sent) = publisher.send(rate, period).await?;
        self.numbers.clone_from(&publisher.numbers);
        self.publisher = Some(publisher);
        Ok(sent)
    }

    /// Measures, and does so again, some times at most, as long as other programs take much of the machine.
    pub(crate) async fn measure_in_quiet(
        &mut self,
        rate: f64,
        period: Duration,
    ) -> Result<Measured> {
        const TRIES: usize = 3;
        let mut best = self.measure(rate, period).await?;
        for _ in 1..TRIES {
            if best.others_share < NOISE {
                break;
            }
            eprintln!("      again: others took {:.0} % of a core", best.others_share * 100.0);
            let another = self.measure(rate, period).await?;
            if another.others_share < best.others_share {
                best = another;
            }
        }
        Ok(best)
    }

    /// Publishes `rate` events a second for `period` and sees what becomes of them.
    pub(crate) async fn measure(&mut self, rate: f64, period: Duration) -> Result<Measured> {
        const PATIENCE: Duration = Duration::from_secs(3);
        self.fleet.clear_tally();
        let cpu = |it: &Self| {
            [
                it.server.process.cpu_seconds(),
                it.redis.process.cpu_seconds(),
                cpu_seconds_of(std::process::id()),
                cpu_seconds_of_all(),
            ]
        };
        let (before, begin) = (cpu(self), Instant::now());
        let sent = self.send(rate, period).await?;
        let (n_in_time, seconds) =
            (self.fleet.tally.n_delivered.get(), begin.elapsed().as_secs_f64());
        let during = cpu(self);
        let n_outstanding = self.fleet.settle(&self.numbers, PATIENCE).await;
        let after = cpu(self);
        let tally = &self.fleet.tally;
        let latencies = tally.latencies.borrow();
        let share = |i: usize| (during[i] - before[i]) / seconds;
        Ok(Measured {
            events_per_s: sent.n_events as f64 / sent.seconds,
            deliveries_per_s: n_in_time as f64 / seconds,
            p50_ms: latencies.quantile_ms(0.5),
            p99_ms: latencies.quantile_ms(0.99),
            n_lost: tally.n_lost.get() + n_outstanding,
            n_repeated: tally.n_repeated.get(),
            server_us: (after[0] - before[0]) * 1e6 / tally.n_delivered.get().max(1) as f64,
            server_share: share(0),
            redis_share: share(1),
            load_share: share(2),
            others_share: (share(3) - share(0) - share(1) - share(2)).max(0.0),
        })
    }
}
