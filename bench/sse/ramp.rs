//! The highest rate that a server sustains: doubled until it does not hold, then narrowed down.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{
    bench::{Measured, NOISE, Setting},
    scenarios::World,
    servers::Kind,
};

/// After this, noise is no excuse any more.
const PATIENCE: Duration = Duration::from_mins(1);
/// No server gets as far, so that no ramp is without an end.
const MOST_DELIVERIES_PER_S: f64 = 16e6;

/// The best step that `kind` held with nothing lost and a p99 within `bound_ms`, if any.
pub(crate) async fn climb(
    world: &World<'_>,
    kind: Kind,
    shape: (usize, usize),
    bound_ms: f64,
) -> Result<Option<Measured>> {
    let per_event = shape.1 as f64;
    let first = match kind {
        Kind::Gateway => 100e3,
        Kind::Nchan | Kind::NchanRedis => 25e3,
        Kind::FastApi => 1e3,
    };
    let mut climber = Climber { world, kind, shape, bound_ms, setting: None };
    let mut rate = first / per_event;
    let mut best: Option<(f64, Measured)> = None;
    let too_much = loop {
        match climber.step(rate).await? {
            Some(it) => best = Some((rate, it)),
            None if best.is_some() || rate * per_event < first / 50.0 => break rate,
            None => {
                rate /= 4.0;
                continue;
            }
        }
        if rate * per_event * 2.0 > MOST_DELIVERIES_PER_S {
            break rate * 2.0;
        }
        rate *= 2.0;
    };
    let Some((mut held, mut measured)) = best else { return Ok(None) };
    let mut failed = too_much;
    for _ in 0..world.plan.n_refinements {
        let between = (held * failed).sqrt();
        match climber.step(between).await? {
            Some(it) => (held, measured) = (between, it),
            None => failed = between,
        }
    }
    Ok(Some(measured))
}

/// The rate, and what limited it.
pub(crate) fn note(it: &Measured) -> String {
    format!(
        "p99 {:.1} ms, cpu {:.0} %, load {:.0} %",
        it.p99_ms,
        it.server_share * 100.0,
        (it.load_share + it.redis_share) * 100.0
    )
}

struct Climber<'w, 'r> {
    world: &'w World<'r>,
    kind: Kind,
    shape: (usize, usize),
    bound_ms: f64,
    /// None after a server was left behind with more than it could do.
    setting: Option<Setting<'r>>,
}

impl Climber<'_, '_> {
    /// What `rate` came to, if it held; a second try counts, for the machine has other work too.
    async fn step(&mut self, rate: f64) -> Result<Option<Measured>> {
        let mut n_tries = if self.world.plan.is_quick { 1 } else { 2 };
        let begin = Instant::now();
        while n_tries > 0 {
            n_tries -= 1;
            if self.setting.is_none() {
                let mut setting = self.world.setting(self.kind, self.shape, false).await?;
                setting.start_over().await?;
                self.setting = Some(setting);
            }
            let setting = self.setting.as_mut().context("just made")?;
            let measured = setting.measure(rate, self.world.plan.step).await;
            match measured {
                Ok(it) if self.holds(&it, rate) => {
                    eprintln!("      {:8.0} events/s: {}", it.events_per_s, line(&it));
                    return Ok(Some(it));
                }
                Ok(it) => {
                    eprintln!("    ! {:8.0} events/s: {}", it.events_per_s, line(&it));
                    if it.others_share > NOISE && begin.elapsed() < PATIENCE {
                        n_tries += 1;
                    }
                }
                Err(error) => eprintln!("    ! {rate:8.0} events/s: {error:#}"),
            }
            self.setting = None;
        }
        Ok(None)
    }

    fn holds(&self, it: &Measured, rate: f64) -> bool {
        const ALL_BUT: f64 = 0.95;
        let per_event = self.shape.1 as f64;
        it.n_lost + it.n_repeated == 0
            && it.p99_ms <= self.bound_ms
            && it.events_per_s >= rate * ALL_BUT
            && it.deliveries_per_s >= rate * per_event * ALL_BUT
    }
}

fn line(it: &Measured) -> String {
    format!(
        "{:9.0} deliveries/s, p50 {:.2} ms, p99 {:.2} ms, {:.2} µs each, cpu {:.0} %, redis {:.0} %, \
         load {:.0} %, others {:.0} %, lost {}, doubled {}",
        it.deliveries_per_s,
        it.p50_ms,
        it.p99_ms,
        it.server_us,
        it.server_share * 100.0,
        it.redis_share * 100.0,
        it.load_share * 100.0,
        it.others_share * 100.0,
        it.n_lost,
        it.n_repeated
    )
}
