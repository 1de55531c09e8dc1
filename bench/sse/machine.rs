//! What the figures were measured on.

use std::{fs, process::Command};

use anyhow::Result;

use crate::redis::Redis;

/// Where and when.
pub(crate) struct Circumstances {
    pub(crate) date: String,
    /// Name and value.
    pub(crate) machine: Vec<(&'static str, String)>,
}

/// Keeps this program, and what it starts from now on, on `core`.
pub(crate) fn pin(core: usize) {
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &core.to_string(), &pid])
        .output();
    if !pinned.is_ok_and(|it| it.status.success()) {
        eprintln!("there is no core {core} for the load alone: expect worse figures for all");
    }
}

pub(crate) fn circumstances(redis: &Redis, is_quick: bool) -> Result<Circumstances> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|it| it.strip_prefix("model name"));
    let model = model.map_or("?", |it| it.trim_start_matches(['\t', ' ', ':'])).to_owned();
    let n_cores = cpus.lines().filter(|it| it.starts_with("processor")).count();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let nginx = Command::new("nginx").arg("-v").output();
    let nginx = nginx.map_or_else(
        |_| "absent".to_owned(),
        |it| String::from_utf8_lossy(&it.stderr).trim().to_owned(),
    );
    let load = read("/proc/loadavg");
    let machine = vec![
        ("CPU", format!("{model}, {n_cores} cores")),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("Redis", redis.version()?),
        ("nginx", nginx),
        ("load average before", load),
        ("mode", if is_quick { "quick" } else { "full" }.to_owned()),
    ];
    Ok(Circumstances { date: chrono::Utc::now().format("%Y-%m-%d").to_string(), machine })
}
