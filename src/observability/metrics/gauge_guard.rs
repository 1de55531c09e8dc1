//! A gauge that counts what lives.

use prometheus_client::metrics::gauge::Gauge;

/// Counts one in a gauge for as long as it lives.
pub(crate) struct Held(Gauge);

impl Held {
    pub(crate) fn one_of(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
