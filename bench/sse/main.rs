//! `make bench-sse`: compares how the gateway, nchan and `FastAPI` deliver the same progress events to the same
//! browsers.
//!
//! All processes run on this machine: servers on one core, the load generator and Redis on the other. See
//! bench/README.md.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the values are far below 2^52"
)]
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a benchmark prints its results")]

mod bench;
mod browsers;
mod chart;
mod event_stamp;
mod histogram;
mod host_info;
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod pinned_process;
mod publish;
mod rate_search;
mod redis;
mod report;
mod scenarios;
mod servers;
mod soak;
mod sse_parser;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Parser, ValueEnum as _};
use tokio::task::LocalSet;

use self::{
    bench::{LOAD_CORE, Plan},
    redis::Redis,
    report::Row,
    scenarios::{Scenario, ScenarioContext},
    servers::ServerKind,
};

/// Compares the gateway with nginx and nchan, and with `FastAPI`.
#[derive(Debug, Parser)]
struct Args {
    /// Set by `cargo bench`, but not by test runners that list or run all targets.
    #[arg(long, hide = true)]
    bench: bool,
    /// Shorter and smaller; takes less than two minutes.
    #[arg(long)]
    quick: bool,
    /// Run only these scenarios.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Measure the gateway only, without the other servers.
    #[arg(long)]
    alone: bool,
    /// Run a soak test of this many seconds instead: browsers reconnect, and Redis is killed twice.
    #[arg(long)]
    soak: Option<u64>,
    /// Directory for the results.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/results"))]
    results: PathBuf,
}

fn main() -> Result<()> {
    // Test runners start every target, with their own arguments.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(args))
}

async fn run(args: Args) -> Result<()> {
    host_info::pin_to_core(LOAD_CORE);
    let dir = tempfile::Builder::new().prefix("bench-sse-").tempdir()?;
    if let Some(seconds) = args.soak {
        let rows = soak::soak(dir.path(), Duration::from_secs(seconds)).await?;
        println!("{}", report::table(&rows));
        return Ok(());
    }
    let redis = Redis::start(LOAD_CORE, dir.path())?;
    let mut kinds = vec![ServerKind::Gateway];
    if !args.alone {
        kinds.extend([ServerKind::Nchan, ServerKind::NchanRedis, ServerKind::FastApi]);
    }
    let plan = if args.quick { Plan::quick() } else { Plan::full() };
    let context = ScenarioContext { redis: &redis, dir: dir.path(), plan, kinds };
    let host_info = host_info::collect(&redis, args.quick)?;
    let mut rows: Vec<Row> = Vec::new();
    for scenario in Scenario::value_variants() {
        if !args.only.is_empty() && !args.only.contains(scenario) {
            continue;
        }
        eprintln!("== {scenario:?}");
        match context.run(*scenario).await {
            Ok(more) => rows.extend(more),
            Err(error) => eprintln!("{scenario:?} failed: {error:#}"),
        }
    }
    println!("{}", report::table(&rows));
    report::write(&args.results, &rows, &host_info)?;
    println!("results: {}/sse-{}.md", args.results.display(), host_info.date);
    Ok(())
}
