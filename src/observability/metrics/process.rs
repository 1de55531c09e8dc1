//! The process itself and its runtime, read when somebody asks. The names `process_*` are Prometheus' own.

use std::time::Duration;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::registry::Maker;

pub(super) fn register(maker: &mut Maker) {
    maker
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
            "When the process started, in Unix seconds",
            self.started,
        )?;
        if let Some(bytes) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Memory that the process has in use", bytes)?;
        }
        if let Some(n) = open_files() {
            gauge("process_open_fds", "Open files and sockets", n)?;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            let metrics = runtime.metrics();
            gauge(
                "i2m_runtime_tasks",
                "Tasks of the runtime that live",
                count(metrics.num_alive_tasks()),
            )?;
            gauge(
                "i2m_runtime_queued_tasks",
                "Tasks that wait for a thread",
                count(metrics.global_queue_depth()),
            )?;
        }
        if let Some(time) = cpu_time() {
            let counter = ConstCounter::new(time.as_secs_f64());
            counter.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                "Processor time that the process has used",
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

/// From Linux' `/proc`; elsewhere nothing is said.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn open_files() -> Option<i64> {
    i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

fn cpu_time() -> Option<Duration> {
    // Linux tells every program this unit, whatever the kernel's own is.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks: u32 =
        fields.next()?.parse::<u32>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
    Some(TICK * ticks)
}
