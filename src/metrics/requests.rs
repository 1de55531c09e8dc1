//! Measures every request, by the route it matched.

use std::{
    fmt,
    hash::{Hash, Hasher},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{Method, StatusCode},
    response::Response,
};
use prometheus_client::{
    encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use super::{
    Held, Metrics,
    maker::{Bounds, Label, Maker, REQUEST_SECONDS},
};
use crate::http::Problem;

/// Requests as they were answered.
pub(crate) struct Requests {
    durations: Family<Labels, Histogram, Bounds>,
    in_flight: Gauge,
    problems: Family<Label, Counter>,
    /// Nobody, unknown keys and tickets, roles that do not suffice.
    failed_auth: [Counter; 3],
}

/// Routes and methods are those of the router, so there are few.
#[derive(Clone, Debug)]
struct Labels {
    method: &'static str,
    /// `None` for a path that does not exist.
    route: Option<MatchedPath>,
    status: &'static str,
}

impl Labels {
    fn parts(&self) -> (&str, &str, &str) {
        (self.method, self.route.as_ref().map_or("none", |it| it.as_str()), self.status)
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let (method, route, status) = self.parts();
        ("method", method).encode(encoder.encode_label())?;
        ("route", route).encode(encoder.encode_label())?;
        ("status", status).encode(encoder.encode_label())
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
    route: Option<MatchedPath>,
}

impl<'a> MeasuredRequest<'a> {
    pub(crate) fn begin(metrics: &'a Metrics, request: &Request) -> Self {
        Self {
            requests: &metrics.requests,
            started: Instant::now(),
            _held: Held::one_of(&metrics.requests.in_flight),
            method: known_method(request.method()),
            route: request.extensions().get::<MatchedPath>().cloned(),
        }
    }

    pub(crate) fn end(self, response: &Response) {
        let Self { requests, started, method, route, .. } = self;
        let labels = Labels { method, route, status: class(response.status()) };
        requests.durations.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
        if let Some(problem) = Problem::of(response) {
            requests.note_problem(problem.code);
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
