//! Flame graphs of the gateway under a workload, from samples of perf.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, CONNECTIONS},
    servers::Server,
    workload::{Request, Workload},
};

const SAMPLES_PER_SECOND: u32 = 1999;
/// Minimal share of all samples in percent; narrower frames are omitted.
const MIN_WIDTH: &str = "0.3";

/// Writes `flame-WORKLOAD.svg` into `results`.
pub(crate) fn record(
    bench: &Bench,
    server: &Server,
    workload: Workload,
    requests: &[Request],
    results: &Path,
) -> Result<()> {
    let samples = bench.dir.join("perf.data");
    let mut perf = Command::new("perf")
        .args([
            "record",
            "--quiet",
            "--call-graph",
            "fp",
            "--freq",
            &SAMPLES_PER_SECOND.to_string(),
        ])
        .args(["--pid", &server.process.pid().to_string(), "--output"])
        .arg(&samples)
        .args(["--", "sleep", &bench.plan.long.as_secs().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .context("perf is not installed; run scripts/setup flames")?;
    let measured = bench.measure(server, workload, requests, CONNECTIONS)?;
    ensure!(perf.wait()?.success(), "perf failed");
    let name = workload.name();
    let words: Vec<&str> = name.split(|character: char| !character.is_alphanumeric()).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let path = results.join(format!("flame-{}.svg", words.join("-").to_lowercase()));
    let title =
        format!("{name}: {:.1} us of CPU per request, {CONNECTIONS} connections", measured.cpu_us);
    draw(&samples, &title, &path)?;
    eprintln!("   {title}; {}", path.display());
    Ok(())
}

fn draw(samples: &Path, title: &str, path: &Path) -> Result<()> {
    let mut script = Command::new("perf")
        .args(["script", "--no-inline", "--input"])
        .arg(samples)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut collapse = Command::new("inferno-collapse-perf")
        .stdin(output(&mut script)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("inferno is not installed; run scripts/setup flames")?;
    let mut graph = Command::new("inferno-flamegraph")
        .args(["--title", title, "--minwidth", MIN_WIDTH, "--deterministic"])
        .stdin(output(&mut collapse)?)
        .stdout(File::create(path)?)
        .spawn()?;
    for mut child in [script, collapse] {
        ensure!(child.wait()?.success(), "could not process the samples");
    }
    ensure!(graph.wait()?.success(), "could not draw the flame graph");
    Ok(())
}

fn output(child: &mut Child) -> Result<Stdio> {
    Ok(child.stdout.take().context("stdout is not piped")?.into())
}
