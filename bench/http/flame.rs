//! Where the gateway's time goes under a workload: samples of perf as a flame graph.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, CONNECTIONS},
    servers::Server,
    workload::{Ask, Workload},
};

const SAMPLES_PER_SECOND: u32 = 1999;
/// Of the whole, in percent; what is narrower is left out of the picture.
const NARROWEST: &str = "0.3";

/// Writes `flame-WORKLOAD.svg` into `results`.
pub(crate) fn record(
    bench: &Bench,
    server: &Server,
    workload: Workload,
    asks: &[Ask],
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
        .context("perf is not there; scripts/setup flames installs it")?;
    let measured = bench.measure(server, workload, asks, CONNECTIONS)?;
    ensure!(perf.wait()?.success(), "perf took no samples");
    let name = workload.name();
    let words: Vec<&str> = name.split(|it: char| !it.is_alphanumeric()).collect();
    let words: Vec<&str> = words.into_iter().filter(|it| !it.is_empty()).collect();
    let path = results.join(format!("flame-{}.svg", words.join("-").to_lowercase()));
    let title =
        format!("{name}: {:.1} us of CPU a request, {CONNECTIONS} connections", measured.cpu_us);
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
        .context("inferno is not there; scripts/setup flames installs it")?;
    let mut graph = Command::new("inferno-flamegraph")
        .args(["--title", title, "--minwidth", NARROWEST, "--deterministic"])
        .stdin(output(&mut collapse)?)
        .stdout(File::create(path)?)
        .spawn()?;
    for mut part in [script, collapse] {
        ensure!(part.wait()?.success(), "the samples could not be read");
    }
    ensure!(graph.wait()?.success(), "the picture could not be drawn");
    Ok(())
}

fn output(child: &mut Child) -> Result<Stdio> {
    Ok(child.stdout.take().context("no output")?.into())
}
