//! Makes and registers handles. A handle with labels is made for each value at once, so that what has not happened
//! yet reads 0 and not nothing.

use prometheus_client::{
    encoding::EncodeMetric,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Metric, Registry},
};

/// One label, which is enough for most.
pub(super) type Label = [(&'static str, &'static str); 1];

/// Seconds within which requests are answered.
pub(super) const REQUEST_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds within which Redis answers, and what was written reaches a browser.
pub(super) const SHORT_SECONDS: &[f64] =
    &[0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Seconds within which work is done.
pub(super) const WORK_SECONDS: &[f64] =
    &[0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0];

/// Collects what is made in one registry.
pub(super) struct Maker {
    pub(super) registry: Registry,
}

impl Maker {
    pub(super) fn new() -> Self {
        Self { registry: Registry::default() }
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// One counter for each value of a label.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N] {
        let family = self.register(name, help, Family::<Label, Counter>::default());
        values.map(|value| family.get_or_create_owned(&[(label, value)]))
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        bounds: &'static [f64],
    ) -> Histogram {
        self.register(name, help, histogram(bounds))
    }

    pub(super) fn register<M: Metric + EncodeMetric + Clone>(
        &mut self,
        name: &str,
        help: &str,
        metric: M,
    ) -> M {
        self.registry.register(format!("i2m_{name}"), help, metric.clone());
        metric
    }
}

/// What makes the histograms of a family.
#[derive(Clone, Copy)]
pub(super) struct Bounds(pub(super) &'static [f64]);

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        histogram(self.0)
    }
}

fn histogram(bounds: &'static [f64]) -> Histogram {
    Histogram::new(bounds.iter().copied())
}
