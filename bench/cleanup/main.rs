//! `make bench-cleanup`: measures request latency during a cleanup of a million keys, and verifies the cleanup report.
//!
//! The gateway and its Redis run on this machine; run nothing else at the same time if possible.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the values are far below 2^52"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

mod fill;
mod traffic;

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::Value;

use self::{fill::Expected, traffic::Traffic};

/// Measures request latency without and with a concurrent cleanup.
#[derive(Debug, Parser)]
struct Args {
    /// Set by `cargo bench`, but not by test runners that list or run all targets.
    #[arg(long, hide = true)]
    bench: bool,
    /// Number of keys in thousands.
    #[arg(long, default_value_t = 1000)]
    thousands: usize,
    /// Duration of the first measurement, without a cleanup, in seconds.
    #[arg(long, default_value_t = 20)]
    quiet_secs: u64,
}

fn main() -> Result<()> {
    // Test runners start every target, with their own arguments.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let args = Args::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("bench-cleanup-").tempdir()?;
    let socket = dir.path().join("redis.sock");
    let _redis = KillOnDrop(start_redis(&socket, dir.path())?);
    let (gateway, base) = start_gateway(&socket, dir.path())?;
    let _gateway = KillOnDrop(gateway);
    let traffic = Traffic::prepare(&base).await?;
    let expected = fill::fill(&socket, args.thousands)?;
    let before = fill::key_count(&socket)?;
    println!("{before} keys");

    let quiet = traffic.measure(tokio::time::sleep(Duration::from_secs(args.quiet_secs))).await?.0;
    println!("without cleanup {quiet}");
    fill::reset_slow_log(&socket)?;
    let started = Instant::now();
    let (busy, report) = traffic.measure(traffic.clean_up()).await?;
    println!("with cleanup    {busy}");
    let report = report?;
    println!("took {:.1} s, {} steps", started.elapsed().as_secs_f64(), report["steps"]);
    println!(
        "the steps waited {} ms for Redis in total, the longest {} ms",
        report["work_ms"], report["longest_step_ms"]
    );
    println!(
        "{} commands of all clients took longer than 3 ms",
        fill::slow_command_count(&socket)?
    );
    println!("{}", report["totals"]);
    let removed_count = before.saturating_sub(fill::key_count(&socket)?);
    verify(&report, &expected, removed_count)?;
    println!("p99 with cleanup / p99 without: {:.2}", busy.p99_ms / quiet.p99_ms);
    Ok(())
}

/// Fails if the report differs from the expected changes. Prints the removed keys by report and by DBSIZE.
fn verify(report: &Value, expected: &Expected, removed_count: u64) -> Result<()> {
    let total = |change: &str| report["totals"][change].as_u64().unwrap_or_default();
    let adopted = [&report["families"]["progress"]["2"], &report["families"]["counter"]["4"]]
        .map(|family| family["adopted"].as_u64().unwrap_or_default());
    let reported = (total("removed"), total("pruned"), adopted);
    let expected = (expected.removed, expected.pruned, expected.adopted);
    ensure!(
        reported == expected,
        "removed, pruned, adopted: {reported:?}, expected {expected:?}: {report}"
    );
    println!(
        "{} keys removed by the report, {removed_count} fewer in the databases",
        total("removed")
    );
    Ok(())
}

/// A child process, killed on drop.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn start_redis(socket: &Path, dir: &Path) -> Result<Child> {
    let child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(socket)
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::null())
        .spawn()
        .context("could not start redis-server")?;
    wait_for("Redis", || std::os::unix::net::UnixStream::connect(socket).is_ok())?;
    Ok(child)
}

fn start_gateway(socket: &Path, dir: &Path) -> Result<(Child, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let child = Command::new(env!("CARGO_BIN_EXE_image2model-gateway"))
        .current_dir(dir)
        .env("I2M__REDIS__URL", format!("redis+unix://{}", socket.display()))
        .env("I2M__SERVER__LISTEN", &address)
        .env("I2M__RATE_LIMIT__ENABLED", "false")
        .env("I2M__LOG__LEVEL", "warn")
        .stdout(Stdio::null())
        .spawn()?;
    wait_for("the gateway", || std::net::TcpStream::connect(&address).is_ok())?;
    Ok((child, format!("http://{address}")))
}

fn wait_for(name: &str, mut is_ready: impl FnMut() -> bool) -> Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let started = Instant::now();
    while !is_ready() {
        ensure!(started.elapsed() < TIMEOUT, "{name} is not reachable");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
