//! A gauge that counts live objects.

use prometheus_client::metrics::gauge::Gauge;

/// Increments a gauge while it is alive.
pub(crate) struct GaugeGuard(Gauge);

impl GaugeGuard {
    pub(crate) fn inc(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
