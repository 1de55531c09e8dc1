//! `make bench-http`: what requests cost, with and without limits, beside Redis itself and a `FastAPI` service.
//!
//! Everything runs on this machine: servers on one core, load and Redis on the other. See bench/README.md.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "its results are what it prints")]

mod load;
#[path = "../sse/machine.rs"]
mod machine;
#[path = "../sse/process.rs"]
#[expect(dead_code, reason = "shared with the benchmark of streams")]
mod process;
#[path = "../sse/redis.rs"]
#[expect(dead_code, reason = "shared with the benchmark of streams")]
mod redis;
mod report;
mod servers;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Parser;

use self::{
    load::{Load, raw_redis},
    redis::Redis,
    report::Report,
    servers::{Kind, Limits, Server},
};

/// Servers run on this core ...
const SERVER_CORE: usize = 0;
/// ... and the load, and Redis, on this one.
const LOAD_CORE: usize = 1;

/// Measures requests to the gateway beside Redis and `FastAPI`.
#[derive(Debug, Parser)]
struct Args {
    /// Given by `cargo bench`; test runners that list or run everything do not give it.
    #[arg(long, hide = true)]
    bench: bool,
    /// Shorter.
    #[arg(long)]
    quick: bool,
    /// Leave out the peer.
    #[arg(long)]
    alone: bool,
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
    let redis = Redis::start(LOAD_CORE, dir.path())?;
    let load = Load { dir: dir.path(), time: Duration::from_secs(if args.quick { 2 } else { 5 }) };
    let mut report = Report::new(machine::circumstances(&redis, args.quick)?);
    report.redis(&raw_redis(&redis, args.quick)?);
    let kinds: &[Kind] =
        if args.alone { &[Kind::Gateway] } else { &[Kind::Gateway, Kind::FastApi] };
    for kind in kinds {
        for limits in Limits::of(*kind) {
            let server = Server::start(*kind, *limits, &redis, dir.path()).await?;
            let job = server.prepare(*limits).await?;
            for what in limits.requests() {
                let measured = load.run(&server, *what, &job)?;
                eprintln!("{} {limits:?} {what:?}: {measured:?}", kind.name());
                report.add(*kind, *limits, *what, measured);
            }
        }
    }
    println!("{}", report.table());
    let path = report.write(&args.results)?;
    println!("written to {}", path.display());
    Ok(())
}
