//! Child processes that are pinned to a core and measured through /proc.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Clock ticks per second in /proc (`USER_HZ`), a constant of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child process, terminated on drop.
pub(crate) struct PinnedProcess {
    child: Child,
}

impl PinnedProcess {
    /// Starts `program` on `core`. Its output is written to a log file in `dir`.
    pub(crate) fn start(
        core: usize,
        program: &str,
        args: &[String],
        env: &[(&str, String)],
        dir: &Path,
    ) -> Result<Self> {
        let name = program.rsplit('/').next().unwrap_or(program);
        let log = fs::File::create(dir.join(format!("{name}.log")))?;
        // The child ends when this process ends for any reason.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "--cpu-list", &core.to_string(), program])
            .args(args)
            .envs(env.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("could not start {program}"))?;
        Ok(Self { child })
    }

    /// The process and its children; nginx serves requests in a child.
    fn process_tree(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        [pid]
            .into_iter()
            .chain(children.split_whitespace().filter_map(|pid| pid.parse().ok()))
            .collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.process_tree().into_iter().map(cpu_seconds_of).sum()
    }

    pub(crate) fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> f64 {
        self.process_tree().into_iter().map(rss_kib_of).sum()
    }
}

impl Drop for PinnedProcess {
    fn drop(&mut self) {
        const TIMEOUT: Duration = Duration::from_secs(5);
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let started = Instant::now();
        while started.elapsed() < TIMEOUT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// CPU time of all processes of this machine, without interrupts.
pub(crate) fn cpu_seconds_of_all() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    // The first line contains: cpu, user, nice, system, ...
    let ticks =
        stat.split_whitespace().skip(1).take(3).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// CPU time of the terminated children of this process.
pub(crate) fn cpu_seconds_of_children() -> f64 {
    cpu_fields("self", 13)
}

pub(crate) fn cpu_seconds_of(pid: u32) -> f64 {
    cpu_fields(&pid.to_string(), 11)
}

/// User and system time in seconds: two consecutive fields of /proc/PID/stat, counted after the process name.
fn cpu_fields(pid: &str, first: usize) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name is in parentheses and may contain spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(first).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

fn rss_kib_of(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}
