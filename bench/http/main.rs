//! `make bench-http`: measures the cost of requests and compares it with Redis alone and an equivalent `FastAPI`
//! service.
//!
//! All processes run on this machine: servers on one core, the load generator and Redis on the other. See
//! bench/README.md.

#![expect(clippy::cast_precision_loss, reason = "the values are far below 2^52")]
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a benchmark prints its results")]

mod bar_chart;
mod bench;
mod chart;
mod fixture;
mod flame;
#[path = "../sse/host_info.rs"]
mod host_info;
#[path = "../sse/pinned_process.rs"]
mod pinned_process;
#[path = "../sse/redis.rs"]
#[expect(dead_code, reason = "shared with the benchmark of streams")]
mod redis;
mod redis_baseline;
mod redis_monitor;
mod report;
mod servers;
mod targets;
mod workload;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use self::{
    bench::{Bench, CONNECTIONS},
    fixture::{Fixture, Sample},
    report::{Report, Row},
    servers::{BEFORE_PROGRAM, Limits, ServerKind},
    workload::Workload,
};

/// The core of the servers.
const SERVER_CORE: usize = 0;
/// The core of the load generator and Redis.
const LOAD_CORE: usize = 1;

/// Compares requests to the gateway with Redis alone and `FastAPI`.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "the options are independent")]
struct Args {
    /// Set by `cargo bench`, but not by test runners that list or run all targets.
    #[arg(long, hide = true)]
    bench: bool,
    /// Shorter and less precise; takes less than three minutes.
    #[arg(long)]
    quick: bool,
    /// Measure the gateway only, without `FastAPI`.
    #[arg(long)]
    alone: bool,
    /// Measure only workloads whose names contain one of these strings.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Path of another build of the gateway to compare with.
    #[arg(long)]
    before: Option<PathBuf>,
    /// Draw flame graphs instead of measuring.
    #[arg(long)]
    flames: bool,
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
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> Result<()> {
    host_info::pin_to_core(LOAD_CORE);
    let dir = tempfile::Builder::new().prefix("bench-http-").tempdir()?;
    let mut kinds = vec![ServerKind::Gateway];
    if let Some(program) = &args.before {
        kinds.push(ServerKind::Before);
        _ = BEFORE_PROGRAM.set(program.clone());
    }
    if !(args.alone || args.flames) {
        kinds.push(ServerKind::FastApi);
    }
    let start = |kind: &ServerKind| Bench::new(*kind, dir.path(), args.quick);
    let benches: Vec<Bench> = kinds.iter().map(start).collect::<Result<_>>()?;
    let mut report = Report::new(host_info::collect(&benches[0].redis, args.quick)?);
    for limits in Limits::ALL {
        let mut fixtures = Vec::new();
        for bench in &benches {
            fixtures.push(Fixture::new(bench, limits).await?);
        }
        for workload in Workload::for_limits(limits) {
            // Servers alternate within a workload, because the background load changes over time.
            for fixture in &mut fixtures {
                let requests = fixture.prepare(*workload).await?;
                let name = workload.name();
                if args.flames && workload.has_flame_graph() {
                    flame::record(
                        fixture.bench,
                        &fixture.server,
                        *workload,
                        &requests,
                        &args.results,
                    )?;
                } else if !args.flames
                    && (args.only.is_empty() || args.only.iter().any(|part| name.contains(part)))
                {
                    let outcome = run_workload(fixture, *workload, &requests, &mut report).await;
                    if let Err(error) = outcome {
                        let error = format!("{name}, {}: {error:#}", fixture.server.kind.name());
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
    println!("results: {}", report.write(&args.results)?.display());
    ensure!(report.errors.is_empty(), "failed measurements: {:#?}", report.errors);
    Ok(())
}

async fn run_workload(
    fixture: &Fixture<'_>,
    workload: Workload,
    requests: &[workload::Request],
    report: &mut Report,
) -> Result<()> {
    let (bench, kind) = (fixture.bench, fixture.server.kind);
    eprintln!("== {}, {}", workload.name(), kind.name());
    let Sample { round_trips, call } = fixture.sample(workload, requests).await?;
    for connection_count in workload.connections(kind) {
        let measured = bench.measure(&fixture.server, workload, requests, *connection_count)?;
        eprintln!(
            "   {connection_count:>3} connections: {:.0}/s, p99 {:.2} ms, {:.1} µs; background {:.0} % of a core",
            measured.per_second,
            measured.p99_ms,
            measured.cpu_us,
            measured.background_share * 100.0
        );
        report.rows.push(Row {
            kind,
            workload,
            connection_count: *connection_count,
            round_trips,
            measured,
        });
        if kind == ServerKind::Gateway && workload.is_one_call() && *connection_count == CONNECTIONS
        {
            let (command, id) =
                call.as_ref().context("the gateway does not send exactly one call to Redis")?;
            let baseline = redis_baseline::measure(bench, workload, (command, id))?;
            eprintln!("   Redis alone: {:.0}/s", baseline.per_second);
            report.baselines.push((workload, baseline));
        }
    }
    fixture.verify(workload, requests).await
}
