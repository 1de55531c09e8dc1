//! Describes the machine of a measurement.

use std::{fs, process::Command};

use anyhow::Result;

use crate::redis::Redis;

/// The date of a measurement and the properties of its machine.
pub(crate) struct HostInfo {
    pub(crate) date: String,
    /// Name and value.
    pub(crate) properties: Vec<(&'static str, String)>,
}

/// Pins this process and its future children to `core`.
pub(crate) fn pin_to_core(core: usize) {
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &core.to_string(), &pid])
        .output();
    if !pinned.is_ok_and(|output| output.status.success()) {
        eprintln!("could not pin the load generator to core {core}: all results will be worse");
    }
}

pub(crate) fn collect(redis: &Redis, is_quick: bool) -> Result<HostInfo> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("?", |line| line.trim_start_matches(['\t', ' ', ':'])).to_owned();
    let core_count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let nginx = Command::new("nginx").arg("-v").output();
    let nginx = nginx.map_or_else(
        |_| "not installed".to_owned(),
        |output| String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    );
    let load = read("/proc/loadavg");
    let properties = vec![
        ("CPU", format!("{model}, {core_count} cores")),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("Redis", redis.version()?),
        ("nginx", nginx),
        ("load average before", load),
        ("mode", if is_quick { "quick" } else { "full" }.to_owned()),
    ];
    Ok(HostInfo { date: chrono::Utc::now().format("%Y-%m-%d").to_string(), properties })
}
