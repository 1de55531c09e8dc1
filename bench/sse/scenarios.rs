//! The measured scenarios, one function per scenario.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

use crate::{
    bench::{Measurement, Plan, Testbed},
    publish::WriteMode,
    rate_search,
    redis::Redis,
    report::{Row, Target, number},
    servers::ServerKind,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// The maximal delivery rate within a latency bound.
    Sustained,
    /// CPU time per delivery when each delivery is a separate write.
    Cpu,
    /// Latency from the writer to the browser at a moderate rate.
    Latency,
    /// Memory of an idle stream.
    Memory,
    /// Many streams with one browser each.
    Watch,
    /// All browsers reconnect at the same time, then a few continuously.
    Herd,
}

/// The environment of all scenarios.
pub(crate) struct ScenarioContext<'a> {
    pub(crate) redis: &'a Redis,
    pub(crate) dir: &'a Path,
    pub(crate) plan: Plan,
    /// The servers under comparison.
    pub(crate) kinds: Vec<ServerKind>,
}

impl<'a> ScenarioContext<'a> {
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

    pub(crate) async fn testbed(
        &self,
        kind: ServerKind,
        shape: (usize, usize),
        resumes: bool,
    ) -> Result<Testbed<'a>> {
        eprintln!("   {}, {} × {}", kind.name(), shape.0, shape.1);
        Testbed::new(self.redis, self.dir, kind, shape, resumes)
            .await
            .with_context(|| format!("could not set up {}", kind.name()))
    }

    /// The subset of `kinds` that is under comparison.
    fn enabled(&self, kinds: &[ServerKind]) -> Vec<ServerKind> {
        kinds.iter().copied().filter(|kind| self.kinds.contains(kind)).collect()
    }

    async fn sustained(&self) -> Result<Vec<Row>> {
        const MAX_P99_MS: f64 = 50.0;
        let mut rows = Vec::new();
        for (shape, times) in [((1, 1000), 8.0), ((100, 10), 3.5), ((1, 5000), 6.0)] {
            let name = format!("{} × {}, sustained", shape.0, shape.1);
            let target = Target::AtLeastTimes(times, ServerKind::Nchan);
            let mut row = Row::new(name, "deliveries/s", target);
            for kind in self.enabled(&[ServerKind::Gateway, ServerKind::Nchan, ServerKind::FastApi])
            {
                match rate_search::find_max_rate(self, kind, shape, MAX_P99_MS).await {
                    Ok(Some(measurement)) => row.set(
                        kind,
                        measurement.deliveries_per_s,
                        rate_search::summary(&measurement),
                    ),
                    Ok(None) => row.set(kind, 0.0, "no rate sustained"),
                    Err(error) => eprintln!("      skipped: {error:#}"),
                }
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Measures at a constant `rate`. Returns `None` if the measurement failed.
    async fn measure_at(
        &self,
        kind: ServerKind,
        shape: (usize, usize),
        rate: f64,
    ) -> Option<Measurement> {
        let measured = async {
            let mut testbed = self.testbed(kind, shape, false).await?;
            testbed.reset().await?;
            testbed.measure(rate, Duration::from_secs(1)).await?;
            testbed.measure_quiet(rate, self.plan.measurement_time).await
        };
        measured.await.inspect_err(|error| eprintln!("      skipped: {error:#}")).ok()
    }

    async fn cpu(&self) -> Result<Vec<Row>> {
        let target = Target::AtMostTimes(0.7, ServerKind::Nchan);
        let mut row = Row::new("CPU per delivery, one frame per write", "µs", target);
        for kind in self.enabled(&[ServerKind::Gateway, ServerKind::Nchan, ServerKind::FastApi]) {
            // A rate at which each event is written before the next one arrives.
            let rate = if kind == ServerKind::FastApi { 2.0 } else { 20.0 };
            if let Some(measurement) = self.measure_at(kind, (1, 1000), rate).await {
                row.set(kind, measurement.server_us, delivery_errors(&measurement));
            }
        }
        Ok(vec![row])
    }

    async fn latency(&self) -> Result<Vec<Row>> {
        let name = "100 × 10 at 100 events/s, writer to browser,";
        let row = |quantile, times| {
            let target = Target::AtMostTimes(times, ServerKind::NchanRedis);
            Row::new(format!("{name} {quantile}"), "ms", target)
        };
        let (mut p50, mut p99) = (row("p50", 0.6), row("p99", 0.5));
        for kind in self.enabled(&[
            ServerKind::Gateway,
            ServerKind::Nchan,
            ServerKind::NchanRedis,
            ServerKind::FastApi,
        ]) {
            if let Some(measurement) = self.measure_at(kind, (100, 10), 100.0).await {
                p50.set(kind, measurement.p50_ms, delivery_errors(&measurement));
                p99.set(kind, measurement.p99_ms, "");
            }
        }
        Ok(vec![p50, p99])
    }

    async fn memory(&self) -> Result<Vec<Row>> {
        // FastAPI needs two file descriptors per browser.
        const MAX_FASTAPI_BROWSERS: usize = 2000;
        const TOPICS: usize = 100;
        let count = self.plan.browser_count;
        let mut idle = Row::new(
            format!("memory per idle stream, {TOPICS} × {}", count / TOPICS),
            "KiB",
            Target::AtMost(10.0),
        );
        let mut used = Row::new("memory per stream after five events", "KiB", Target::None);
        let mut alone =
            Row::new(format!("memory per idle stream, {count} × 1"), "KiB", Target::None);
        let mut connections = Row::new("connections to Redis for these browsers", "", Target::None);
        for kind in self.enabled(&[ServerKind::Gateway, ServerKind::Nchan, ServerKind::FastApi]) {
            let count =
                if kind == ServerKind::FastApi { count.min(MAX_FASTAPI_BROWSERS) } else { count };
            let mut testbed = self.testbed(kind, (TOPICS, count / TOPICS), false).await?;
            let (before, connections_before) =
                (testbed.server.process.rss_kib(), self.redis.connection_count()?);
            testbed.reset().await?;
            let each = |rss: f64| (rss - before) / count as f64;
            idle.set(kind, each(testbed.server.process.rss_kib()), "");
            let new_connections = self.redis.connection_count()?.saturating_sub(connections_before);
            connections.set(kind, new_connections as f64, format!("{connections_before} before"));
            let rate = TOPICS as f64;
            let measurement = testbed.measure_quiet(rate, Duration::from_secs(5)).await?;
            used.set(kind, each(testbed.server.process.rss_kib()), delivery_errors(&measurement));
        }
        for kind in self.enabled(&[ServerKind::Gateway, ServerKind::Nchan]) {
            let mut testbed = self.testbed(kind, (count, 1), false).await?;
            let before = testbed.server.process.rss_kib();
            testbed.reset().await?;
            alone.set(kind, (testbed.server.process.rss_kib() - before) / count as f64, "");
        }
        Ok(vec![idle, used, alone, connections])
    }

    async fn watch(&self) -> Result<Vec<Row>> {
        const RATE: f64 = 1000.0;
        let count = self.plan.browser_count;
        let name = format!("{count} × 1 at {RATE} events/s");
        let mut rows = Vec::new();
        let mut add = |writer: &str, p99_target, kind, measurement: &Measurement| {
            let mut p50 = Row::new(format!("{name}, {writer}, p50"), "ms", Target::None);
            p50.set(kind, measurement.p50_ms, delivery_errors(measurement));
            let mut p99 = Row::new(format!("{name}, {writer}, p99"), "ms", p99_target);
            p99.set(kind, measurement.p99_ms, "");
            let redis_target =
                if matches!(p99_target, Target::None) { p99_target } else { Target::AtMost(15.0) };
            let mut redis =
                Row::new(format!("{name}, {writer}, Redis"), "% of a core", redis_target);
            redis.set(
                kind,
                measurement.redis_share * 100.0,
                format!("server {:.0} %", measurement.server_share * 100.0),
            );
            rows.extend([p50, p99, redis]);
        };
        let mut testbed = self.testbed(ServerKind::Gateway, (count, 1), false).await?;
        testbed.reset().await?;
        testbed.measure(RATE, Duration::from_secs(1)).await?;
        let measurement = testbed.measure_quiet(RATE, self.plan.measurement_time).await?;
        add("XADD and PUBLISH", Target::AtMost(3.0), ServerKind::Gateway, &measurement);
        testbed.publish_by(WriteMode::XaddOnly)?;
        self.redis.run(&["CONFIG", "SET", "notify-keyspace-events", "Kt"])?;
        let measurement = testbed.measure_quiet(RATE, self.plan.measurement_time).await;
        self.redis.run(&["CONFIG", "SET", "notify-keyspace-events", ""])?;
        add("XADD with keyspace events", Target::AtMost(3.0), ServerKind::Gateway, &measurement?);
        let measurement = testbed.measure_quiet(RATE, self.plan.measurement_time).await?;
        add("XADD alone, found by the sweep", Target::None, ServerKind::Gateway, &measurement);
        drop(testbed);
        if self.kinds.contains(&ServerKind::Nchan)
            && let Some(measurement) = self.measure_at(ServerKind::Nchan, (count, 1), RATE).await
        {
            rows[0].set(ServerKind::Nchan, measurement.p50_ms, delivery_errors(&measurement));
            rows[1].set(ServerKind::Nchan, measurement.p99_ms, "");
        }
        Ok(rows)
    }

    async fn herd(&self) -> Result<Vec<Row>> {
        const TOPICS: usize = 50;
        const RATE: f64 = 200.0;
        const TIMEOUT: Duration = Duration::from_secs(30);
        let count = self.plan.herd_size;
        let mut back = Row::new(
            format!("{count} disconnected at once, time until all are reconnected"),
            "s",
            Target::AtMost(3.0),
        );
        let mut wrong = Row::new("lost or duplicated by that", "events", Target::AtMost(0.0));
        let mut churned =
            Row::new("lost or duplicated at 300 reconnections/s", "events", Target::AtMost(0.0));
        for kind in self.enabled(&[ServerKind::Gateway, ServerKind::Nchan]) {
            let mut testbed = self.testbed(kind, (TOPICS, count / TOPICS), true).await?;
            testbed.reset().await?;
            // Every browser needs an event id to resume from.
            testbed.measure(RATE, Duration::from_secs(1)).await?;
            testbed.fleet.clear_tally();
            let publisher = testbed.publisher.take().context("no publisher")?;
            let disconnect = async {
                sleep(Duration::from_secs(1)).await;
                testbed.fleet.disconnect_all();
                let disconnected_at = Instant::now();
                testbed.fleet.connect();
                testbed.fleet.wait_all_connected(TIMEOUT).await?;
                let connected_at =
                    testbed.fleet.last_connected_at().context("no browser is connected")?;
                anyhow::Ok((connected_at - disconnected_at).as_secs_f64())
            };
            let (sent, seconds) =
                tokio::join!(publisher.send(RATE, self.plan.measurement_time), disconnect);
            let publisher = sent?.0;
            back.set(kind, seconds.unwrap_or(f64::NAN), "");
            testbed.numbers.clone_from(&publisher.numbers);
            let (error_count, note) = count_delivery_errors(&testbed).await;
            wrong.set(kind, error_count, note);

            testbed.fleet.clear_tally();
            let churn = async {
                let started = Instant::now();
                for index in 0..u32::MAX {
                    let scheduled = started + Duration::from_secs_f64(f64::from(index) / 300.0);
                    if scheduled > started + self.plan.measurement_time {
                        break;
                    }
                    tokio::time::sleep_until(scheduled).await;
                    testbed.fleet.reconnect_one(fastrand::usize(..count));
                }
            };
            let (sent, ()) = tokio::join!(publisher.send(RATE, self.plan.measurement_time), churn);
            testbed.numbers = sent?.0.numbers;
            let (error_count, note) = count_delivery_errors(&testbed).await;
            churned.set(kind, error_count, note);
        }
        Ok(vec![back, wrong, churned])
    }
}

/// Waits for outstanding events. Returns the number of lost and duplicated events, and a note.
async fn count_delivery_errors(testbed: &Testbed<'_>) -> (f64, String) {
    let missing =
        testbed.fleet.wait_until_delivered(&testbed.numbers, Duration::from_secs(5)).await;
    let tally = &testbed.fleet.tally;
    let (lost, duplicates) = (tally.lost.get() + missing, tally.duplicates.get());
    let note =
        format!("{lost} lost, {duplicates} duplicated of {}", number(tally.delivered.get() as f64));
    ((lost + duplicates) as f64, note)
}

/// Formats lost and duplicated events; empty if there are none.
fn delivery_errors(measurement: &Measurement) -> String {
    if measurement.lost + measurement.duplicates == 0 {
        return String::new();
    }
    format!("{} LOST, {} DUPLICATED", measurement.lost, measurement.duplicates)
}
