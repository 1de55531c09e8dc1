//! Searches the highest rate that a server sustains: doubles the rate until it is not sustained, then bisects.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{
    bench::{MAX_BACKGROUND_SHARE, Measurement, Testbed},
    scenarios::ScenarioContext,
    servers::ServerKind,
};

/// Background load excuses failed attempts for this long.
const MAX_NOISE_WAIT: Duration = Duration::from_mins(1);
/// An upper bound above the capacity of all servers, so that the search terminates.
const MAX_DELIVERIES_PER_SECOND: f64 = 16e6;

/// The measurement with the highest rate that `kind` sustained without lost events and with a p99 within `max_p99_ms`.
/// `None` if it sustained no rate.
pub(crate) async fn find_max_rate(
    context: &ScenarioContext<'_>,
    kind: ServerKind,
    shape: (usize, usize),
    max_p99_ms: f64,
) -> Result<Option<Measurement>> {
    let per_event = shape.1 as f64;
    let first = match kind {
        ServerKind::Gateway => 100e3,
        ServerKind::Nchan | ServerKind::NchanRedis => 25e3,
        ServerKind::FastApi => 1e3,
    };
    let mut search = RateSearch { context, kind, shape, max_p99_ms, testbed: None };
    let mut rate = first / per_event;
    let mut best: Option<(f64, Measurement)> = None;
    let first_failed = loop {
        match search.step(rate).await? {
            Some(measurement) => best = Some((rate, measurement)),
            None if best.is_some() || rate * per_event < first / 50.0 => break rate,
            None => {
                rate /= 4.0;
                continue;
            }
        }
        if rate * per_event * 2.0 > MAX_DELIVERIES_PER_SECOND {
            break rate * 2.0;
        }
        rate *= 2.0;
    };
    let Some((mut held, mut measured)) = best else { return Ok(None) };
    let mut failed = first_failed;
    for _ in 0..context.plan.refinements {
        let between = (held * failed).sqrt();
        match search.step(between).await? {
            Some(measurement) => (held, measured) = (between, measurement),
            None => failed = between,
        }
    }
    Ok(Some(measured))
}

/// Formats the p99 latency and the CPU usage.
pub(crate) fn summary(measurement: &Measurement) -> String {
    format!(
        "p99 {:.1} ms, cpu {:.0} %, load {:.0} %",
        measurement.p99_ms,
        measurement.server_share * 100.0,
        (measurement.load_share + measurement.redis_share) * 100.0
    )
}

struct RateSearch<'w, 'r> {
    context: &'w ScenarioContext<'r>,
    kind: ServerKind,
    shape: (usize, usize),
    max_p99_ms: f64,
    /// `None` after an overload, so that the next step starts a new server.
    testbed: Option<Testbed<'r>>,
}

impl RateSearch<'_, '_> {
    /// Measures `rate`. Returns `None` if it was not sustained in two attempts (quick mode: one); attempts with
    /// background load are repeated.
    async fn step(&mut self, rate: f64) -> Result<Option<Measurement>> {
        let mut tries_left = if self.context.plan.is_quick { 1 } else { 2 };
        let started = Instant::now();
        while tries_left > 0 {
            tries_left -= 1;
            if self.testbed.is_none() {
                let mut testbed = self.context.testbed(self.kind, self.shape, false).await?;
                testbed.reset().await?;
                self.testbed = Some(testbed);
            }
            let testbed = self.testbed.as_mut().context("the testbed was just created")?;
            let measured = testbed.measure(rate, self.context.plan.step_time).await;
            match measured {
                Ok(measurement) if self.is_sustained(&measurement, rate) => {
                    eprintln!(
                        "      {:8.0} events/s: {}",
                        measurement.events_per_s,
                        format_measurement(&measurement)
                    );
                    return Ok(Some(measurement));
                }
                Ok(measurement) => {
                    eprintln!(
                        "    ! {:8.0} events/s: {}",
                        measurement.events_per_s,
                        format_measurement(&measurement)
                    );
                    if measurement.background_share > MAX_BACKGROUND_SHARE
                        && started.elapsed() < MAX_NOISE_WAIT
                    {
                        tries_left += 1;
                    }
                }
                Err(error) => eprintln!("    ! {rate:8.0} events/s: {error:#}"),
            }
            self.testbed = None;
        }
        Ok(None)
    }

    fn is_sustained(&self, measurement: &Measurement, rate: f64) -> bool {
        const MIN_SHARE: f64 = 0.95;
        let per_event = self.shape.1 as f64;
        measurement.lost + measurement.duplicates == 0
            && measurement.p99_ms <= self.max_p99_ms
            && measurement.events_per_s >= rate * MIN_SHARE
            && measurement.deliveries_per_s >= rate * per_event * MIN_SHARE
    }
}

fn format_measurement(measurement: &Measurement) -> String {
    format!(
        "{:9.0} deliveries/s, p50 {:.2} ms, p99 {:.2} ms, {:.2} µs each, cpu {:.0} %, redis {:.0} %, \
         load {:.0} %, background {:.0} %, lost {}, duplicated {}",
        measurement.deliveries_per_s,
        measurement.p50_ms,
        measurement.p99_ms,
        measurement.server_us,
        measurement.server_share * 100.0,
        measurement.redis_share * 100.0,
        measurement.load_share * 100.0,
        measurement.background_share * 100.0,
        measurement.lost,
        measurement.duplicates
    )
}
