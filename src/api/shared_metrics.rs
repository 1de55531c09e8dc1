//! `/metrics` for Prometheus, without a key; `/api/v1/metrics/{name}`: workers write, operators read.

use std::{future::Future, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::debug;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        extract::{
            Json, Path,
            auth::{Admin, Worker},
        },
        legacy_paths::also_at,
        problem::Problem,
        state::AppState,
    },
    counters::{Change, Counters},
    error::{Error, Result},
    ids::MetricName,
    observability::metrics::{Metrics, ScrapedMetric, is_open_metrics, to_prometheus_text},
    workers::Workers,
};

/// Without limits: operators' machines ask often.
pub(crate) fn page() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(metrics))
        .routes(also_at("/api/v1/health/metrics", routes!(metrics)))
}

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(write, read))
}

/// One of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MetricChange)]
struct ChangeBody {
    /// Added to the counter.
    #[schema(minimum = 1, maximum = 1_000_000_000, example = 1)]
    increment: Option<u64>,
    /// The gauge's new value.
    #[schema(example = json!(null))]
    value: Option<f64>,
}

impl ChangeBody {
    fn change(&self) -> Result<Change> {
        const MAX_INCREMENT: u64 = 1_000_000_000;
        match (self.increment, self.value) {
            (Some(by @ 1..=MAX_INCREMENT), None) => Ok(Change::Increment(by)),
            (Some(by), None) => {
                Err(Error::Invalid(format!("increment: {by} is not between 1 and {MAX_INCREMENT}")))
            }
            (None, Some(value)) if value.is_finite() => Ok(Change::Value(value)),
            _ => Err(Error::Invalid(
                "a metric is changed by {\"increment\": 1} or {\"value\": 0.5}".to_owned(),
            )),
        }
    }
}

/// Change a shared counter or gauge
///
/// Written within `metrics.flush_interval`, with all that came meanwhile.
#[utoipa::path(post, path = "/api/v1/metrics/{name}", tag = "metrics", security(("key" = ["worker"])),
    request_body = ChangeBody, responses((status = 202, description = "It will be written."), (status = 503, description = "SERVICE_BUSY")))]
async fn write(
    State(counters): State<Counters>,
    _: Worker,
    Path(name): Path<MetricName>,
    Json(body): Json<ChangeBody>,
) -> Result<StatusCode, Problem> {
    counters.note(name, body.change()?)?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Metric)]
struct ReadingBody {
    name: MetricName,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
}

/// Read a shared counter or gauge
#[utoipa::path(get, path = "/api/v1/metrics/{name}", tag = "metrics", security(("key" = ["admin"])),
    responses((status = 200, body = ReadingBody), (status = 404, description = "METRIC_NOT_FOUND")))]
async fn read(
    State(counters): State<Counters>,
    _: Admin,
    Path(name): Path<MetricName>,
) -> Result<Json<ReadingBody>, Problem> {
    let reading = counters.read(&name).await?;
    if reading.count.is_none() && reading.value.is_none() {
        return Err(Error::NoMetric(name).into());
    }
    Ok(Json(ReadingBody { name, count: reading.count, value: reading.value }))
}

/// Read metrics in Prometheus' text format
///
/// What this process measures, the shared metrics, and how the queue stands. The last two are left out when Redis
/// does not answer in time: then one needs the first the most.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, body = String, content_type = "text/plain",
        example = "# HELP i2m_jobs_created_total Jobs that were created.\n# TYPE i2m_jobs_created_total counter\ni2m_jobs_created_total 7\n")))]
async fn metrics(
    State(counters): State<Counters>,
    State(metrics): State<Arc<Metrics>>,
    State(workers): State<Option<Workers>>,
    headers: HeaderMap,
) -> Response {
    let shared = in_time(&counters, &metrics, shared(&counters));
    let queue = async {
        match &workers {
            Some(workers) => Box::pin(in_time(&counters, &metrics, queue(workers))).await,
            None => String::new(),
        }
    };
    let (shared, queue) = tokio::join!(shared, queue);
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let open_metrics = is_open_metrics(accept);
    let content_type = if open_metrics {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    let text = to_prometheus_text(metrics.to_text() + &shared + &queue, open_metrics);
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

async fn in_time(
    counters: &Counters,
    metrics: &Metrics,
    asking: impl Future<Output = Result<String>>,
) -> String {
    match timeout(counters.scrape_timeout(), asking).await {
        Ok(Ok(text)) => return text,
        Ok(Err(error)) => debug!(%error, "metrics without what Redis knows"),
        Err(_) => debug!("metrics without what Redis knows: it does not answer in time"),
    }
    metrics.shared.incomplete_scrapes.inc();
    String::new()
}

async fn shared(counters: &Counters) -> Result<String> {
    const COUNTER: ScrapedMetric = ScrapedMetric {
        name: "i2m_shared_counter",
        kind: "counter",
        help: "Counters that all processes and workers share",
        label: "name",
    };
    const GAUGE: ScrapedMetric = ScrapedMetric {
        name: "i2m_shared_gauge",
        kind: "gauge",
        help: "Gauges that all processes and workers share",
        label: "name",
    };
    let listed = counters.list().await?;
    Ok(COUNTER.to_text(listed.counts) + &GAUGE.to_text(listed.values))
}

async fn queue(workers: &Workers) -> Result<String> {
    const DEPTH: ScrapedMetric = ScrapedMetric {
        name: "i2m_celery_queue_depth",
        kind: "gauge",
        help: "Messages in the queue, by priority step",
        label: "priority",
    };
    const fn plain(name: &'static str, help: &'static str) -> ScrapedMetric {
        ScrapedMetric { name, kind: "gauge", help, label: "" }
    }
    const IN_FLIGHT: ScrapedMetric = plain(
        "i2m_celery_in_flight",
        "Messages of all queues that workers have taken and not acknowledged",
    );
    const OLDEST: ScrapedMetric =
        plain("i2m_celery_queue_oldest_seconds", "Age of the oldest job that is served next");
    const WORKERS: ScrapedMetric =
        plain("i2m_celery_workers_alive", "Workers heard in the last minute");

    let gauges = workers.gauges().await?;
    let depths = [0, 3, 6, 9].iter().zip(gauges.report.depth_by_priority);
    let one = |value: u64| [(String::new(), value.to_string())];
    Ok([
        DEPTH.to_text(depths.map(|(step, depth)| (step.to_string(), depth.to_string()))),
        IN_FLIGHT.to_text(one(gauges.report.in_flight)),
        OLDEST.to_text(one(gauges.report.oldest_age_seconds.unwrap_or(0))),
        WORKERS.to_text(one(gauges.n_workers as u64)),
    ]
    .concat())
}
