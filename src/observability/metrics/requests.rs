//! Metrics of HTTP requests, by the matched route.

use std::{collections::HashSet, fmt, sync::Arc, time::Instant};

use hyper::{Method, StatusCode};
use parking_lot::RwLock;
use prometheus_client::{
    encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use super::{
    GaugeGuard, Metrics,
    registry::{HistogramBuckets, Label, MetricsBuilder, REQUEST_BUCKETS},
};

/// Handles of request metrics.
pub(crate) struct Requests {
    durations: Family<Labels, Histogram, HistogramBuckets>,
    in_flight: Gauge,
    /// Route patterns seen so far, shared by all label sets so that no request allocates one.
    routes: RwLock<HashSet<Arc<str>>>,
    problems: Family<Label, Counter>,
    /// By reason: no credential, an invalid credential, an insufficient role.
    failed_auth: [Counter; 3],
}

/// Routes and methods come from the router, so the number of label sets is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels {
    method: &'static str,
    /// `None` for a path that does not exist.
    route: Option<Arc<str>>,
    status: &'static str,
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("method", self.method).encode(encoder.encode_label())?;
        let route = self.route.as_deref().unwrap_or("none");
        ("route", route).encode(encoder.encode_label())?;
        ("status", self.status).encode(encoder.encode_label())
    }
}

impl Requests {
    pub(super) fn new(builder: &mut MetricsBuilder) -> Self {
        let durations = Family::new_with_constructor(HistogramBuckets(REQUEST_BUCKETS));
        Self {
            durations: builder.register(
                "http_request_duration_seconds",
                "Time until the response starts, including streams; the route `none` is an unknown path",
                durations,
            ),
            in_flight: builder
                .gauge("http_requests_in_flight", "Requests whose response has not started"),
            routes: RwLock::default(),
            problems: builder.register(
                "http_problems",
                "Error responses by `error_code`, including streams told to reconnect later",
                Family::default(),
            ),
            failed_auth: builder.counters(
                "auth_failures",
                "Requests rejected by authentication or authorization",
                "reason",
                ["no_key", "invalid_credential", "wrong_role"],
            ),
        }
    }

    fn intern_route(&self, route: &str) -> Arc<str> {
        if let Some(known) = self.routes.read().get(route) {
            return known.clone();
        }
        let mut routes = self.routes.write();
        if let Some(known) = routes.get(route) {
            return known.clone();
        }
        let interned: Arc<str> = Arc::from(route);
        routes.insert(interned.clone());
        interned
    }

    fn record_problem(&self, code: &'static str) {
        self.problems.get_or_create(&[("code", code)]).inc();
        let [no_key, invalid_credential, wrong_role] = &self.failed_auth;
        match code {
            "AUTHENTICATION_REQUIRED" => no_key.inc(),
            "INVALID_API_KEY" => invalid_credential.inc(),
            "INSUFFICIENT_PERMISSIONS" => wrong_role.inc(),
            _ => 0,
        };
    }
}

/// Measures a request until its response starts.
pub(crate) struct MeasuredRequest<'a> {
    requests: &'a Requests,
    started: Instant,
    _in_flight: GaugeGuard,
    method: &'static str,
    route: Option<Arc<str>>,
}

impl<'a> MeasuredRequest<'a> {
    /// `route` is the pattern that the path matched, if any.
    pub(crate) fn begin(metrics: &'a Metrics, method: &Method, route: Option<&str>) -> Self {
        Self {
            requests: &metrics.requests,
            started: Instant::now(),
            _in_flight: GaugeGuard::inc(&metrics.requests.in_flight),
            method: known_method(method),
            route: route.map(|route| metrics.requests.intern_route(route)),
        }
    }

    /// `problem` is the error code of the response, if it has one.
    pub(crate) fn end(self, status: StatusCode, problem: Option<&'static str>) {
        let Self { requests, started, method, route, .. } = self;
        let labels = Labels { method, route, status: class(status) };
        requests.durations.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
        if let Some(code) = problem {
            requests.record_problem(code);
        }
    }
}

/// Maps methods that no route accepts to one label value, because clients may send any token.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
