//! `make bench-cleanup`: what requests notice of a cleanup of a million keys, and whether its report is true.
//!
//! The gateway and a Redis of its own run on this machine, with nothing else if possible.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people; none comes near 2^52"
)]
#![expect(clippy::print_stdout, reason = "its results are what it prints")]

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

/// Measures requests without and with a cleanup beside them.
#[derive(Debug, Parser)]
struct Args {
    /// Given by `cargo bench`; test runners that list or run everything do not give it.
    #[arg(long, hide = true)]
    bench: bool,
    /// Thousands of keys.
    #[arg(long, default_value_t = 1000)]
    thousands: usize,
    /// Seconds of quiet that are measured first.
    #[arg(long, default_value_t = 20)]
    quiet_secs: u64,
}

fn main() -> Result<()> {
    // A test runner calls every target, each with arguments of its own.
    if !std::env::args().any(|it| it == "--bench") {
        return Ok(());
    }
    let args = Args::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("bench-cleanup-").tempdir()?;
    let socket = dir.path().join("redis.sock");
    let _redis = Ended(start_redis(&socket, dir.path())?);
    let (gateway, base) = start_gateway(&socket, dir.path())?;
    let _gateway = Ended(gateway);
    let traffic = Traffic::prepare(&base).await?;
    let expected = fill::fill(&socket, args.thousands)?;
    let before = fill::n_keys(&socket)?;
    println!("{before} keys");

    let quiet = traffic.measure(tokio::time::sleep(Duration::from_secs(args.quiet_secs))).await?.0;
    println!("quiet           {quiet}");
    fill::watch_for_slow_commands(&socket)?;
    let begun_at = Instant::now();
    let (busy, report) = traffic.measure(traffic.clean_up()).await?;
    println!("with a cleanup  {busy}");
    let report = report?;
    println!("took {:.1} s, {} steps", begun_at.elapsed().as_secs_f64(), report["steps"]);
    println!(
        "steps waited {} ms for Redis, the longest step {} ms",
        report["work_ms"], report["longest_step_ms"]
    );
    println!("{} commands of all took Redis longer than 3 ms", fill::n_slow_commands(&socket)?);
    println!("{}", report["totals"]);
    let n_gone = before.saturating_sub(fill::n_keys(&socket)?);
    check(&report, &expected, n_gone)?;
    println!("p99 is {:.2} of the quiet one", busy.p99_ms / quiet.p99_ms);
    Ok(())
}

/// The report says what was there to be done, and what the databases say was done.
fn check(report: &Value, expected: &Expected, n_gone: u64) -> Result<()> {
    let total = |what: &str| report["totals"][what].as_u64().unwrap_or_default();
    let adopted = [&report["families"]["progress"]["2"], &report["families"]["counter"]["4"]]
        .map(|it| it["adopted"].as_u64().unwrap_or_default());
    let found = (total("removed"), total("pruned"), adopted);
    let wanted = (expected.removed, expected.pruned, expected.adopted);
    ensure!(found == wanted, "removed, pruned, adopted are {found:?} and not {wanted:?}: {report}");
    println!("{} removed by the report, {n_gone} fewer in the databases", total("removed"));
    Ok(())
}

/// A child that ends with this.
struct Ended(Child);

impl Drop for Ended {
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
        .context("redis-server is installed")?;
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

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let begun_at = Instant::now();
    while !is_there() {
        ensure!(begun_at.elapsed() < PATIENCE, "{what} does not answer");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
