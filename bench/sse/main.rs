//! `make bench-sse`: how the gateway, nchan and `FastAPI` carry the same progress to the same browsers.
//!
//! Everything runs on this machine: servers on one core, load and Redis on the other. See bench/README.md.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people; none comes near 2^52"
)]
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "its results are what it prints")]

mod bench;
mod browsers;
mod chart;
mod histogram;
mod machine;
mod marker;
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod process;
mod publish;
mod ramp;
mod redis;
mod report;
mod scenarios;
mod servers;
mod soak;
mod wire;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Parser, ValueEnum as _};
use tokio::task::LocalSet;

use self::{
    bench::{LOAD_CORE, Plan},
    redis::Redis,
    report::Row,
    scenarios::{Scenario, World},
    servers::Kind,
};

/// Measures the gateway beside nginx with nchan and `FastAPI`.
#[derive(Debug, Parser)]
struct Args {
    /// Given by `cargo bench`; test runners that list or run everything do not give it.
    #[arg(long, hide = true)]
    bench: bool,
    /// Shorter and smaller, within two minutes.
    #[arg(long)]
    quick: bool,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Leave out the peers.
    #[arg(long)]
    alone: bool,
    /// Instead of measuring, lets browsers come and go for so many seconds, and kills Redis twice.
    #[arg(long)]
    soak: Option<u64>,
    /// Where results are written.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/results"))]
    results: PathBuf,
}

fn main() -> Result<()> {
    // A test runner calls every target, each with arguments of its own.
    if !std::env::args().any(|it| it == "--bench") {
        return Ok(());
    }
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(args))
}

async fn run(args: Args) -> Result<()> {
    machine::pin(LOAD_CORE);
    let dir = tempfile::Builder::new().prefix("bench-sse-").tempdir()?;
    if let Some(seconds) = args.soak {
        let rows = soak::soak(dir.path(), Duration::from_secs(seconds)).await?;
        println!("{}", report::table(&rows));
        return Ok(());
    }
    let redis = Redis::start(LOAD_CORE, dir.path())?;
    let mut kinds = vec![Kind::Gateway];
    if !args.alone {
        kinds.extend([Kind::Nchan, Kind::NchanRedis, Kind::FastApi]);
    }
    let plan = if args.quick { Plan::quick() } else { Plan::full() };
    let world = World { redis: &redis, dir: dir.path(), plan, kinds };
    let circumstances = machine::circumstances(&redis, args.quick)?;
    let mut rows: Vec<Row> = Vec::new();
    for scenario in Scenario::value_variants() {
        if !args.only.is_empty() && !args.only.contains(scenario) {
            continue;
        }
        eprintln!("== {scenario:?}");
        match world.run(*scenario).await {
            Ok(more) => rows.extend(more),
            Err(error) => eprintln!("{scenario:?} could not be measured: {error:#}"),
        }
    }
    println!("{}", report::table(&rows));
    report::write(&args.results, &rows, &circumstances)?;
    println!("written to {}/sse-{}.md", args.results.display(), circumstances.date);
    Ok(())
}
