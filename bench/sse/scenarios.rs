//! What is measured, one function a question.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

use crate::{
    bench::{Measured, Plan, Setting},
    publish::Way,
    ramp,
    redis::Redis,
    report::{Row, Target, number},
    servers::Kind,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// The most deliveries a second within a bound on their latency.
    Sustained,
    /// CPU time for each delivery when each is a write of its own.
    Cpu,
    /// From the writer to the browser at a moderate rate.
    Latency,
    /// What an idle stream costs.
    Memory,
    /// Many streams with one browser each.
    Watch,
    /// All browsers cut at once, and a few all the time.
    Herd,
}

/// What every scenario is given.
pub(crate) struct World<'a> {
    pub(crate) redis: &'a Redis,
    pub(crate) dir: &'a Path,
    pub(crate) plan: Plan,
    /// The gateway, and the peers that were asked for.
    pub(crate) kinds: Vec<Kind>,
}

impl<'a> World<'a> {
    pub(crate) async fn run(&self, scenario: Scenario) -> Result<Vec<Row>> {
        match scenario {
            Scenario::Sustained => self.sustained().await,
            Scenario::Cpu => self.cpu().await,
            Scenario::Latency => self.latency().await,
            Scenario::Memory => self.memory().await,
            Scenario::Watch => self.watch().await,
            Scenario::Herd => self.herd().await,
        }
    }

    pub(crate) async fn setting(
        &self,
        kind: Kind,
        shape: (usize, usize),
        resumes: bool,
    ) -> Result<Setting<'a>> {
        eprintln!("   {}, {} × {}", kind.name(), shape.0, shape.1);
        Setting::new(self.redis, self.dir, kind, shape, resumes)
            .await
            .with_context(|| format!("could not set up {}", kind.name()))
    }

    /// Those of `kinds` that take part.
    fn of(&self, kinds: &[Kind]) -> Vec<Kind> {
        kinds.iter().copied().filter(|it| self.kinds.contains(it)).collect()
    }

    async fn sustained(&self) -> Result<Vec<Row>> {
        const BOUND_MS: f64 = 50.0;
        let mut rows = Vec::new();
        for (shape, times) in [((1, 1000), 8.0), ((100, 10), 3.5), ((1, 5000), 6.0)] {
            let what = format!("{} × {}, sustained", shape.0, shape.1);
            let target = Target::AtLeastTimes(times, Kind::Nchan);
            let mut row = Row::new(what, "deliveries/s", target);
            for kind in self.of(&[Kind::Gateway, Kind::Nchan, Kind::FastApi]) {
                match ramp::climb(self, kind, shape, BOUND_MS).await {
                    Ok(Some(it)) => row.set(kind, it.deliveries_per_s, ramp::note(&it)),
                    Ok(None) => row.set(kind, 0.0, "none held"),
                    Err(error) => eprintln!("      left out: {error:#}"),
                }
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// A stretch at a steady `rate`; none of a server that could not be measured.
    async fn steady(&self, kind: Kind, shape: (usize, usize), rate: f64) -> Option<Measured> {
        let measured = async {
            let mut setting = self.setting(kind, shape, false).await?;
            setting.start_over().await?;
            setting.measure(rate, Duration::from_secs(1)).await?;
            setting.measure_in_quiet(rate, self.plan.stretch).await
        };
        measured.await.inspect_err(|error| eprintln!("      left out: {error:#}")).ok()
    }

    async fn cpu(&self) -> Result<Vec<Row>> {
        let target = Target::AtMostTimes(0.7, Kind::Nchan);
        let mut row = Row::new("CPU a delivery, one frame a write", "µs", target);
        for kind in self.of(&[Kind::Gateway, Kind::Nchan, Kind::FastApi]) {
            // Few enough for each to be written before the next one comes.
            let rate = if kind == Kind::FastApi { 2.0 } else { 20.0 };
            if let Some(it) = self.steady(kind, (1, 1000), rate).await {
                row.set(kind, it.server_us, faults(&it));
            }
        }
        Ok(vec![row])
    }

    async fn latency(&self) -> Result<Vec<Row>> {
        let what = "100 × 10 at 100 events/s, writer to browser,";
        let of = |name, times| {
            let target = Target::AtMostTimes(times, Kind::NchanRedis);
            Row::new(format!("{what} {name}"), "ms", target)
        };
        let (mut p50, mut p99) = (of("p50", 0.6), of("p99", 0.5));
        for kind in self.of(&[Kind::Gateway, Kind::Nchan, Kind::NchanRedis, Kind::FastApi]) {
            if let Some(it) = self.steady(kind, (100, 10), 100.0).await {
                p50.set(kind, it.p50_ms, faults(&it));
                p99.set(kind, it.p99_ms, "");
            }
        }
        Ok(vec![p50, p99])
    }

    async fn memory(&self) -> Result<Vec<Row>> {
        // A browser of FastAPI is two connections of one process.
        const MOST_FOR_FASTAPI: usize = 2000;
        const TOPICS: usize = 100;
        let n = self.plan.n_many;
        let mut idle = Row::new(
            format!("memory an idle stream, {TOPICS} × {}", n / TOPICS),
            "KiB",
            Target::AtMost(10.0),
        );
        let mut used = Row::new("the same after five events each", "KiB", Target::None);
        let mut alone = Row::new(format!("memory an idle stream, {n} × 1"), "KiB", Target::None);
        let mut connections = Row::new("connections to Redis for these browsers", "", Target::None);
        for kind in self.of(&[Kind::Gateway, Kind::Nchan, Kind::FastApi]) {
            let n = if kind == Kind::FastApi { n.min(MOST_FOR_FASTAPI) } else { n };
            let mut setting = self.setting(kind, (TOPICS, n / TOPICS), false).await?;
            let (before, n_before) =
                (setting.server.process.rss_kib(), self.redis.n_connections()?);
            setting.start_over().await?;
            let each = |rss: f64| (rss - before) / n as f64;
            idle.set(kind, each(setting.server.process.rss_kib()), "");
            let n_more = self.redis.n_connections()?.saturating_sub(n_before);
            connections.set(kind, n_more as f64, format!("{n_before} before"));
            let rate = TOPICS as f64;
            let it = setting.measure_in_quiet(rate, Duration::from_secs(5)).await?;
            used.set(kind, each(setting.server.process.rss_kib()), faults(&it));
        }
        for kind in self.of(&[Kind::Gateway, Kind::Nchan]) {
            let mut setting = self.setting(kind, (n, 1), false).await?;
            let before = setting.server.process.rss_kib();
            setting.start_over().await?;
            alone.set(kind, (setting.server.process.rss_kib() - before) / n as f64, "");
        }
        Ok(vec![idle, used, alone, connections])
    }

    async fn watch(&self) -> Result<Vec<Row>> {
        const RATE: f64 = 1000.0;
        let n = self.plan.n_many;
        let what = format!("{n} × 1 at {RATE} events/s");
        let mut rows = Vec::new();
        let mut add = |how: &str, goal_ms, kind, it: &Measured| {
            let mut p50 = Row::new(format!("{what}, {how}, p50"), "ms", Target::None);
            p50.set(kind, it.p50_ms, faults(it));
            let mut p99 = Row::new(format!("{what}, {how}, p99"), "ms", goal_ms);
            p99.set(kind, it.p99_ms, "");
            let goal = if matches!(goal_ms, Target::None) { goal_ms } else { Target::AtMost(15.0) };
            let mut redis = Row::new(format!("{what}, {how}, Redis"), "% of a core", goal);
            redis.set(
                kind,
                it.redis_share * 100.0,
                format!("server {:.0} %", it.server_share * 100.0),
            );
            rows.extend([p50, p99, redis]);
        };
        let mut setting = self.setting(Kind::Gateway, (n, 1), false).await?;
        setting.start_over().await?;
        setting.measure(RATE, Duration::from_secs(1)).await?;
        let it = setting.measure_in_quiet(RATE, self.plan.stretch).await?;
        add("signalled", Target::AtMost(3.0), Kind::Gateway, &it);
        setting.publish_by(Way::Silent)?;
        self.redis.run(&["CONFIG", "SET", "notify-keyspace-events", "Kt"])?;
        let it = setting.measure_in_quiet(RATE, self.plan.stretch).await;
        self.redis.run(&["CONFIG", "SET", "notify-keyspace-events", ""])?;
        add("XADD with keyspace events", Target::AtMost(3.0), Kind::Gateway, &it?);
        let it = setting.measure_in_quiet(RATE, self.plan.stretch).await?;
        add("XADD alone, found by the sweep", Target::None, Kind::Gateway, &it);
        drop(setting);
        if self.kinds.contains(&Kind::Nchan)
            && let Some(it) = self.steady(Kind::Nchan, (n, 1), RATE).await
        {
            rows[0].set(Kind::Nchan, it.p50_ms, faults(&it));
            rows[1].set(Kind::Nchan, it.p99_ms, "");
        }
        Ok(rows)
    }

    async fn herd(&self) -> Result<Vec<Row>> {
        const TOPICS: usize = 50;
        const RATE: f64 = 200.0;
        const PATIENCE: Duration = Duration::from_secs(30);
        let n = self.plan.n_herd;
        let mut back = Row::new(format!("{n} cut at once, all back"), "s", Target::AtMost(3.0));
        let mut wrong = Row::new("lost or doubled by that", "events", Target::AtMost(0.0));
        let mut churned =
            Row::new("lost or doubled at 300 reconnections/s", "events", Target::AtMost(0.0));
        for kind in self.of(&[Kind::Gateway, Kind::Nchan]) {
            let mut setting = self.setting(kind, (TOPICS, n / TOPICS), true).await?;
            setting.start_over().await?;
            // Everybody has an event to resume from.
            setting.measure(RATE, Duration::from_secs(1)).await?;
            setting.fleet.clear_tally();
            let publisher = setting.publisher.take().context("no publisher")?;
            let cut = async {
                sleep(Duration::from_secs(1)).await;
                setting.fleet.cut_all();
                let cut_at = Instant::now();
                setting.fleet.connect();
                setting.fleet.all_back(PATIENCE).await?;
                let back_at = setting.fleet.last_back_at().context("nobody is back")?;
                anyhow::Ok((back_at - cut_at).as_secs_f64())
            };
            let (sent, seconds) = tokio::join!(publisher.send(RATE, self.plan.stretch), cut);
            let publisher = sent?.0;
            back.set(kind, seconds.unwrap_or(f64::NAN), "");
            setting.numbers.clone_from(&publisher.numbers);
            let (n_wrong, note) = count_wrong(&setting).await;
            wrong.set(kind, n_wrong, note);

            setting.fleet.clear_tally();
            let churn = async {
                let begin = Instant::now();
                for i in 0..u32::MAX {
                    let at = begin + Duration::from_secs_f64(f64::from(i) / 300.0);
                    if at > begin + self.plan.stretch {
                        break;
                    }
                    tokio::time::sleep_until(at).await;
                    setting.fleet.cut_one(fastrand::usize(..n));
                }
            };
            let (sent, ()) = tokio::join!(publisher.send(RATE, self.plan.stretch), churn);
            setting.numbers = sent?.0.numbers;
            let (n_wrong, note) = count_wrong(&setting).await;
            churned.set(kind, n_wrong, note);
        }
        Ok(vec![back, wrong, churned])
    }
}

/// Events that were skipped, are missing, or came twice, after everything had time to arrive.
async fn count_wrong(setting: &Setting<'_>) -> (f64, String) {
    let n_missing = setting.fleet.settle(&setting.numbers, Duration::from_secs(5)).await;
    let tally = &setting.fleet.tally;
    let (n_lost, n_repeated) = (tally.n_lost.get() + n_missing, tally.n_repeated.get());
    let note = format!(
        "{n_lost} lost, {n_repeated} doubled of {}",
        number(tally.n_delivered.get() as f64)
    );
    ((n_lost + n_repeated) as f64, note)
}

/// What must not be, if it was.
fn faults(it: &Measured) -> String {
    if it.n_lost + it.n_repeated == 0 {
        return String::new();
    }
    format!("{} LOST, {} DOUBLED", it.n_lost, it.n_repeated)
}
