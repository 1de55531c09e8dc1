//! Metrics of the process and its runtime, read at scrape time. The names `process_*` are the standard ones of
//! Prometheus client libraries.

use std::time::Duration;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::registry::MetricsBuilder;

pub(super) fn register(builder: &mut MetricsBuilder) {
    builder
        .registry
        .register_collector(Box::new(Process { started: chrono::Utc::now().timestamp() }));
}

#[derive(Debug)]
struct Process {
    /// Unix seconds.
    started: i64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "process_start_time_seconds",
            "Start time of the process in Unix seconds",
            self.started,
        )?;
        if let Some(bytes) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Resident memory (Linux)", bytes)?;
        }
        if let Some(count) = open_files() {
            gauge("process_open_fds", "Open files and sockets (Linux)", count)?;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
            let metrics = runtime.metrics();
            gauge(
                "i2m_runtime_tasks",
                "Live tasks of the async runtime",
                count(metrics.num_alive_tasks()),
            )?;
            gauge(
                "i2m_runtime_queued_tasks",
                "Tasks that wait for a runtime thread",
                count(metrics.global_queue_depth()),
            )?;
        }
        if let Some(time) = cpu_time() {
            let counter = ConstCounter::new(time.as_secs_f64());
            counter.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                "CPU time used by the process (Linux)",
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

/// Read from `/proc`; `None` on systems other than Linux.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn open_files() -> Option<i64> {
    i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

fn cpu_time() -> Option<Duration> {
    // The unit of `/proc/self/stat`, independent of the kernel configuration.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program name, in parentheses, may contain spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks: u32 =
        fields.next()?.parse::<u32>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
    Some(TICK * ticks)
}
