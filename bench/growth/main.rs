//! `make bench-growth`: what a request costs while jobs and open streams grow in number, and what a stream holds.
//!
//! The service on one core, load and Redis on the other. See bench/README.md.

#![expect(clippy::cast_precision_loss, reason = "figures for people; none comes near 2^52")]
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "its results are what it prints")]

#[path = "../http/bars.rs"]
mod bars;
#[path = "../http/bench.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod bench;
mod chart;
mod fill;
mod held;
mod jobs;
#[path = "../sse/machine.rs"]
mod machine;
#[path = "../http/monitor.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod monitor;
#[path = "../sse/process.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod process;
#[path = "../sse/redis.rs"]
#[expect(dead_code, reason = "shared with the benchmark of streams")]
mod redis;
mod report;
#[path = "../http/servers.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod servers;
#[path = "../http/stage.rs"]
#[expect(dead_code, reason = "shared with the benchmark of requests")]
mod stage;
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
    process::cpu_seconds_of_all,
    report::{Idle, Program, Report},
    servers::{Kind, Limits},
    stage::Stage,
};

/// The service runs on this core ...
const SERVER_CORE: usize = 0;
/// ... and the load, and Redis, on this one.
const LOAD_CORE: usize = 1;

/// Measures the gateway while jobs and streams grow in number.
#[derive(Debug, Parser)]
struct Args {
    /// Given by `cargo bench`; test runners that list or run everything do not give it.
    #[arg(long, hide = true)]
    bench: bool,
    /// Fewer jobs and streams, within two minutes.
    #[arg(long)]
    quick: bool,
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
    runtime.block_on(tokio::task::LocalSet::new().run_until(run(&args)))
}

async fn run(args: &Args) -> Result<()> {
    machine::pin(LOAD_CORE);
    let dir = tempfile::Builder::new().prefix("bench-growth-").tempdir()?;
    let mut bench = Bench::new(Kind::Gateway, dir.path(), args.quick)?;
    bench.plan.long = Duration::from_secs(if args.quick { 2 } else { 4 });
    let mut report = Report::new(machine::circumstances(&bench.redis, args.quick)?);
    report.program = Some(program(&bench).await?);
    streams::measure(&bench, args.quick, &mut report).await?;
    jobs::measure(&bench, args.quick, &mut report).await?;
    println!("{}", report.text());
    println!("written to {}", report.write(&args.results)?.display());
    Ok(())
}

/// With an empty Redis and nobody who asks.
async fn program(bench: &Bench) -> Result<Program> {
    let stage = Stage::new(bench, Limits::Off).await?;
    Ok(Program {
        mib: std::fs::metadata(env!("CARGO_BIN_EXE_image2model-gateway"))?.len() as f64
            / 1_048_576.0,
        rss_mib: stage.server.process.rss_kib() / 1024.0,
        idle: idle(&stage)?,
    })
}

/// What the service and Redis take by themselves while nobody asks for anything.
fn idle(stage: &Stage<'_>) -> Result<Idle> {
    let (bench, server) = (stage.bench, &stage.server);
    server.settle()?;
    let cpu =
        || [server.process.cpu_seconds(), bench.redis.process.cpu_seconds(), cpu_seconds_of_all()];
    let (before, begin) = (cpu(), Instant::now());
    sleep(bench.plan.long);
    let (after, seconds) = (cpu(), begin.elapsed().as_secs_f64());
    let share = |i: usize| (after[i] - before[i]) / seconds;
    let others_share = (share(2) - share(0) - share(1)).max(0.0);
    Ok(Idle { server_share: share(0), redis_share: share(1), others_share })
}
