//! Creates and registers metric handles. A labelled metric gets a handle for each label value at once, so that events
//! that have not happened yet read 0 instead of being absent.

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

/// A label set with a single label.
pub(super) type Label = [(&'static str, &'static str); 1];

/// Histogram buckets of requests, in seconds.
pub(super) const REQUEST_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Histogram buckets of Redis calls and of event delivery, in seconds.
pub(super) const REDIS_BUCKETS: &[f64] =
    &[0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Histogram buckets of jobs, in seconds.
pub(super) const JOB_BUCKETS: &[f64] =
    &[0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0];

/// Builds handles and registers them in one registry.
pub(super) struct MetricsBuilder {
    pub(super) registry: Registry,
}

impl MetricsBuilder {
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
        buckets: &'static [f64],
    ) -> Histogram {
        self.register(name, help, histogram(buckets))
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

/// Creates the histograms of a family with these buckets.
#[derive(Clone, Copy)]
pub(super) struct HistogramBuckets(pub(super) &'static [f64]);

impl MetricConstructor<Histogram> for HistogramBuckets {
    fn new_metric(&self) -> Histogram {
        histogram(self.0)
    }
}

fn histogram(buckets: &'static [f64]) -> Histogram {
    Histogram::new(buckets.iter().copied())
}
