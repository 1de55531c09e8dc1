//! `make bench-http`: what requests cost, beside Redis itself and a `FastAPI` service that does the same work.
//!
//! Everything runs on this machine: servers on one core, load and Redis on the other. See bench/README.md.

#![expect(clippy::cast_precision_loss, reason = "figures for people; none comes near 2^52")]
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "its results are what it prints")]

mod bars;
mod bench;
mod chart;
mod flame;
#[path = "../sse/machine.rs"]
mod machine;
mod monitor;
#[path = "../sse/process.rs"]
mod process;
mod raw;
#[path = "../sse/redis.rs"]
#[expect(dead_code, reason = "shared with the benchmark of streams")]
mod redis;
mod report;
mod servers;
mod stage;
mod targets;
mod workload;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use self::{
    bench::{Bench, CONNECTIONS},
    report::{Report, Row},
    servers::{BEFORE, Kind, Limits},
    stage::{Sample, Stage},
    workload::Workload,
};

/// Servers run on this core ...
const SERVER_CORE: usize = 0;
/// ... and the load, and Redis, on this one.
const LOAD_CORE: usize = 1;

/// Measures requests to the gateway beside Redis and `FastAPI`.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct Args {
    /// Given by `cargo bench`; test runners that list or run everything do not give it.
    #[arg(long, hide = true)]
    bench: bool,
    /// Shorter and coarser, within three minutes.
    #[arg(long)]
    quick: bool,
    /// Leave out the peer.
    #[arg(long)]
    alone: bool,
    /// Only these workloads, by parts of their names.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another build of the gateway, to be measured beside this one.
    #[arg(long)]
    before: Option<PathBuf>,
    /// Instead of figures, pictures of where the gateway's time goes.
    #[arg(long)]
    flames: bool,
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
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> Result<()> {
    machine::pin(LOAD_CORE);
    let dir = tempfile::Builder::new().prefix("bench-http-").tempdir()?;
    let mut kinds = vec![Kind::Gateway];
    if let Some(program) = &args.before {
        kinds.push(Kind::Before);
        _ = BEFORE.set(program.clone());
    }
    if !(args.alone || args.flames) {
        kinds.push(Kind::FastApi);
    }
    let start = |kind: &Kind| Bench::new(*kind, dir.path(), args.quick);
    let benches: Vec<Bench> = kinds.iter().map(start).collect::<Result<_>>()?;
    let mut report = Report::new(machine::circumstances(&benches[0].redis, args.quick)?);
    for limits in Limits::ALL {
        let mut stages = Vec::new();
        for bench in &benches {
            stages.push(Stage::new(bench, limits).await?);
        }
        for workload in Workload::of(limits) {
            // One server right after the other: what else the machine does changes with time.
            for stage in &mut stages {
                let asks = stage.prepare(*workload).await?;
                let name = workload.name();
                if args.flames && workload.is_drawn() {
                    flame::record(stage.bench, &stage.server, *workload, &asks, &args.results)?;
                } else if !args.flames
                    && (args.only.is_empty() || args.only.iter().any(|it| name.contains(it)))
                {
                    let outcome = run_workload(stage, *workload, &asks, &mut report).await;
                    if let Err(error) = outcome {
                        let error = format!("{name}, {}: {error:#}", stage.server.kind.name());
                        eprintln!("   {error}");
                        report.errors.push(error);
                    }
                }
            }
        }
    }
    if args.flames {
        return Ok(());
    }
    println!("{}", report.text());
    println!("written to {}", report.write(&args.results)?.display());
    ensure!(report.errors.is_empty(), "not measured: {:#?}", report.errors);
    Ok(())
}

async fn run_workload(
    stage: &Stage<'_>,
    workload: Workload,
    asks: &[workload::Ask],
    report: &mut Report,
) -> Result<()> {
    let (bench, kind) = (stage.bench, stage.server.kind);
    eprintln!("== {}, {}", workload.name(), kind.name());
    let Sample { round_trips, call } = stage.sample(workload, asks).await?;
    for n_connections in workload.connections(kind) {
        let measured = bench.measure(&stage.server, workload, asks, *n_connections)?;
        eprintln!(
            "   {n_connections:>3} connections: {:.0}/s, p99 {:.2} ms, {:.1} µs; others {:.0} % of a core",
            measured.per_second,
            measured.p99_ms,
            measured.cpu_us,
            measured.others_share * 100.0
        );
        report.rows.push(Row {
            kind,
            workload,
            n_connections: *n_connections,
            round_trips,
            measured,
        });
        if kind == Kind::Gateway && workload.is_one_call() && *n_connections == CONNECTIONS {
            let (command, id) =
                call.as_ref().context("the gateway does not make one call to Redis")?;
            let raw = raw::measure(bench, workload, (command, id))?;
            eprintln!("   Redis by itself: {:.0}/s", raw.per_second);
            report.raws.push((workload, raw));
        }
    }
    stage.check(workload, asks).await
}
