//! Measures every request, by the route it matched.

use std::{collections::HashSet, fmt, sync::Arc, time::Instant};

use hyper::{Method, StatusCode};
use parking_lot::RwLock;
use prometheus_client::{
    encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use super::{
    Held, Metrics,
    registry::{Bounds, Label, Maker, REQUEST_SECONDS},
};

/// Requests as they were answered.
pub(crate) struct Requests {
    durations: Family<Labels, Histogram, Bounds>,
    in_flight: Gauge,
    /// Route patterns seen so far, shared by all label sets so that no request allocates one.
    routes: RwLock<HashSet<Arc<str>>>,
    problems: Family<Label, Counter>,
    /// Nobody, unknown keys and tickets, roles that do not suffice.
    failed_auth: [Counter; 3],
}

/// Routes and methods are those of the router, so there are few.
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
    pub(super) fn new(maker: &mut Maker) -> Self {
        let durations = Family::new_with_constructor(Bounds(REQUEST_SECONDS));
        Self {
            durations: maker.register(
                "http_request_duration_seconds",
                "Time until an answer began; of a stream too",
                durations,
            ),
            in_flight: maker
                .gauge("http_requests_in_flight", "Requests whose answer has not begun"),
            routes: RwLock::default(),
            problems: maker.register(
                "http_problems",
                "Refusals and failures by their error code",
                Family::default(),
            ),
            failed_auth: maker.counters(
                "auth_failures",
                "Callers that were not let in",
                "reason",
                ["no_key", "wrong_key_or_ticket", "wrong_role"],
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

    fn note_problem(&self, code: &'static str) {
        self.problems.get_or_create(&[("code", code)]).inc();
        let [no_key, wrong_key, wrong_role] = &self.failed_auth;
        match code {
            "AUTHENTICATION_REQUIRED" => no_key.inc(),
            "INVALID_API_KEY" => wrong_key.inc(),
            "INSUFFICIENT_PERMISSIONS" => wrong_role.inc(),
            _ => 0,
        };
    }
}

/// A request, measured until its answer begins.
pub(crate) struct MeasuredRequest<'a> {
    requests: &'a Requests,
    started: Instant,
    _held: Held,
    method: &'static str,
    route: Option<Arc<str>>,
}

impl<'a> MeasuredRequest<'a> {
    /// `route` is the pattern that the path matched, if any.
    pub(crate) fn begin(metrics: &'a Metrics, method: &Method, route: Option<&str>) -> Self {
        Self {
            requests: &metrics.requests,
            started: Instant::now(),
            _held: Held::one_of(&metrics.requests.in_flight),
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
            requests.note_problem(code);
        }
    }
}

/// A method may be any word; those that no route takes are one.
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
