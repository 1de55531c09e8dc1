//! `make bench-growth`: measures the cost of requests with increasing numbers of jobs and open streams, and the memory
//! of a stream.
//!
//! The gateway runs on one core, the load generator and Redis on the other. See bench/README.md.

#![expect(clippy::cast_precision_loss, reason = "the values are far below 2^52")]
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a benchmark prints its results")]

#[path = "../http/bar_chart.rs"]
mod bar_chart;
#[path = "../http/bench.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod bench;
mod chart;
mod fill;
#[path = "../http/fixture.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod fixture;
#[path = "../sse/host_info.rs"]
mod host_info;
mod jobs;
mod open_streams;
#[path = "../sse/pinned_process.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod pinned_process;
#[path = "../sse/redis.rs"]
#[expect(dead_code, reason = "shared with the benchmark of streams")]
mod redis;
#[path = "../http/redis_monitor.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod redis_monitor;
mod report;
#[path = "../http/servers.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod servers;
mod streams;
mod targets;
#[path = "../http/workload.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod workload;

use std::{
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;

use self::{
    bench::Bench,
    fixture::Fixture,
    pinned_process::cpu_seconds_of_all,
    report::{IdleCpu, Program, Report},
    servers::{Limits, ServerKind},
};

/// The core of the gateway.
const SERVER_CORE: usize = 0;
/// The core of the load generator and Redis.
const LOAD_CORE: usize = 1;

/// Measures requests to the gateway with increasing numbers of jobs and streams.
#[derive(Debug, Parser)]
struct Args {
    /// Set by `cargo bench`, but not by test runners that list or run all targets.
    #[arg(long, hide = true)]
    bench: bool,
    /// Use fewer jobs and streams; takes less than two minutes.
    #[arg(long)]
    quick: bool,
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
    runtime.block_on(tokio::task::LocalSet::new().run_until(run(&args)))
}

async fn run(args: &Args) -> Result<()> {
    host_info::pin_to_core(LOAD_CORE);
    let dir = tempfile::Builder::new().prefix("bench-growth-").tempdir()?;
    let mut bench = Bench::new(ServerKind::Gateway, dir.path(), args.quick)?;
    bench.plan.long = Duration::from_secs(if args.quick { 2 } else { 4 });
    let mut report = Report::new(host_info::collect(&bench.redis, args.quick)?);
    report.program = Some(measure_program(&bench).await?);
    streams::measure(&bench, args.quick, &mut report).await?;
    jobs::measure(&bench, args.quick, &mut report).await?;
    println!("{}", report.text());
    println!("results: {}", report.write(&args.results)?.display());
    Ok(())
}

/// Size, memory and idle CPU of the gateway with an empty Redis and no requests.
async fn measure_program(bench: &Bench) -> Result<Program> {
    let fixture = Fixture::new(bench, Limits::Off).await?;
    Ok(Program {
        mib: std::fs::metadata(env!("CARGO_BIN_EXE_image2model-gateway"))?.len() as f64
            / 1_048_576.0,
        rss_mib: fixture.server.process.rss_kib() / 1024.0,
        idle: measure_idle(&fixture)?,
    })
}

/// CPU usage of the gateway and Redis without requests.
fn measure_idle(fixture: &Fixture<'_>) -> Result<IdleCpu> {
    let (bench, server) = (fixture.bench, &fixture.server);
    server.wait_until_idle()?;
    let cpu =
        || [server.process.cpu_seconds(), bench.redis.process.cpu_seconds(), cpu_seconds_of_all()];
    let (before, started) = (cpu(), Instant::now());
    sleep(bench.plan.long);
    let (after, seconds) = (cpu(), started.elapsed().as_secs_f64());
    let share = |index: usize| (after[index] - before[index]) / seconds;
    let background_share = (share(2) - share(0) - share(1)).max(0.0);
    Ok(IdleCpu { server_share: share(0), redis_share: share(1), background_share })
}
