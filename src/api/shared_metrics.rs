//! `/metrics` for Prometheus, without a key. `/api/v1/metrics/{name}`: workers change a shared metric, operators read
//! it.

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
            auth::{RequireAdmin, RequireWorker},
        },
        legacy_paths::alias_at,
        problem::Problem,
        state::AppState,
    },
    counters::{Change, Counters},
    error::{Error, Result},
    ids::MetricName,
    observability::metrics::{Metrics, ScrapedMetric, is_open_metrics, to_prometheus_text},
    workers::Workers,
};

/// `/metrics` is not rate-limited, because Prometheus scrapes it often.
pub(crate) fn metrics_router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(metrics))
        .routes(alias_at("/api/v1/health/metrics", routes!(metrics)))
}

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(change_metric, get_metric))
}

/// Contains either `increment` or `value`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MetricChange)]
struct ChangeMetricRequest {
    /// Amount to add to the counter.
    #[schema(minimum = 1, maximum = 1_000_000_000, example = 1)]
    increment: Option<u64>,
    /// New value of the gauge.
    #[schema(example = json!(null))]
    value: Option<f64>,
}

impl ChangeMetricRequest {
    fn validate(&self) -> Result<Change> {
        const MAX_INCREMENT: u64 = 1_000_000_000;
        match (self.increment, self.value) {
            (Some(amount @ 1..=MAX_INCREMENT), None) => Ok(Change::Increment(amount)),
            (Some(amount), None) => Err(Error::Validation(format!(
                "increment: {amount} is not between 1 and {MAX_INCREMENT}"
            ))),
            (None, Some(value)) if value.is_finite() => Ok(Change::Value(value)),
            _ => Err(Error::Validation(
                "the body must be like {\"increment\": 1} or {\"value\": 0.5}".to_owned(),
            )),
        }
    }
}

/// Change a shared counter or gauge
///
/// The process collects changes and writes them to Redis every `shared_metrics.flush_interval`.
#[utoipa::path(post, path = "/api/v1/metrics/{name}", operation_id = "write", tag = "metrics",
    security(("key" = ["worker"])), request_body = ChangeMetricRequest,
    responses(
        (status = 202, description = "The change will be written."),
        (status = 503, description = "SERVICE_BUSY"),
    ))]
async fn change_metric(
    State(counters): State<Counters>,
    _: RequireWorker,
    Path(name): Path<MetricName>,
    Json(request): Json<ChangeMetricRequest>,
) -> Result<StatusCode, Problem> {
    counters.record(name, request.validate()?)?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Metric)]
struct MetricResponse {
    name: MetricName,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
}

/// Read a shared counter or gauge
#[utoipa::path(get, path = "/api/v1/metrics/{name}", operation_id = "read", tag = "metrics",
    security(("key" = ["admin"])), responses((status = 200, body = MetricResponse), (status = 404, description = "METRIC_NOT_FOUND")))]
async fn get_metric(
    State(counters): State<Counters>,
    _: RequireAdmin,
    Path(name): Path<MetricName>,
) -> Result<Json<MetricResponse>, Problem> {
    let metric = counters.read(&name).await?;
    if metric.count.is_none() && metric.value.is_none() {
        return Err(Error::MetricNotFound(name).into());
    }
    Ok(Json(MetricResponse { name, count: metric.count, value: metric.value }))
}

/// Read metrics in the Prometheus text format
///
/// Contains the metrics of this process, the shared metrics and the state of the queue. The last two are omitted if
/// Redis does not respond in time, so that a scrape during an outage still returns the metrics of the process.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, body = String, content_type = "text/plain",
        example = "# HELP i2m_jobs_created_total Jobs that were created.\n# TYPE i2m_jobs_created_total counter\ni2m_jobs_created_total 7\n")))]
async fn metrics(
    State(counters): State<Counters>,
    State(metrics): State<Arc<Metrics>>,
    State(workers): State<Option<Workers>>,
    headers: HeaderMap,
) -> Response {
    let shared = text_or_timeout(&counters, &metrics, shared(&counters));
    let queue = async {
        match &workers {
            Some(workers) => Box::pin(text_or_timeout(&counters, &metrics, queue(workers))).await,
            None => String::new(),
        }
    };
    let (shared, queue) = tokio::join!(shared, queue);
    let accept =
        headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let open_metrics = is_open_metrics(accept);
    let content_type = if open_metrics {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    let text = to_prometheus_text(metrics.to_text() + &shared + &queue, open_metrics);
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// The text that `reading` returns, or an empty text if Redis fails or does not respond in time.
async fn text_or_timeout(
    counters: &Counters,
    metrics: &Metrics,
    reading: impl Future<Output = Result<String>>,
) -> String {
    match timeout(counters.scrape_timeout(), reading).await {
        Ok(Ok(text)) => return text,
        Ok(Err(error)) => debug!(%error, "cannot read metrics from Redis; they are omitted"),
        Err(_) => debug!("timeout reading metrics from Redis; they are omitted"),
    }
    metrics.shared.incomplete_scrapes.inc();
    String::new()
}

async fn shared(counters: &Counters) -> Result<String> {
    const COUNTER: ScrapedMetric = ScrapedMetric {
        name: "i2m_shared_counter",
        kind: "counter",
        help: "Counters shared by all processes and workers",
        label: "name",
    };
    const GAUGE: ScrapedMetric = ScrapedMetric {
        name: "i2m_shared_gauge",
        kind: "gauge",
        help: "Gauges shared by all processes and workers",
        label: "name",
    };
    let shared = counters.list().await?;
    Ok(COUNTER.to_text(shared.counts) + &GAUGE.to_text(shared.values))
}

async fn queue(workers: &Workers) -> Result<String> {
    const DEPTH: ScrapedMetric = ScrapedMetric {
        name: "i2m_celery_queue_depth",
        kind: "gauge",
        help: "Messages in the queue, by priority step",
        label: "priority",
    };
    const fn gauge(name: &'static str, help: &'static str) -> ScrapedMetric {
        ScrapedMetric { name, kind: "gauge", help, label: "" }
    }
    const IN_FLIGHT: ScrapedMetric = gauge(
        "i2m_celery_in_flight",
        "Messages of all queues that workers have received but not acknowledged",
    );
    const OLDEST: ScrapedMetric =
        gauge("i2m_celery_queue_oldest_seconds", "Age of the oldest job that is next in the queue");
    const WORKERS: ScrapedMetric =
        gauge("i2m_celery_workers_alive", "Workers with a heartbeat in the last minute");

    let gauges = workers.gauges().await?;
    let depths = [0, 3, 6, 9].iter().zip(gauges.report.depth_by_priority);
    let single = |value: u64| [(String::new(), value.to_string())];
    Ok([
        DEPTH.to_text(depths.map(|(step, depth)| (step.to_string(), depth.to_string()))),
        IN_FLIGHT.to_text(single(gauges.report.in_flight)),
        OLDEST.to_text(single(gauges.report.oldest_age_seconds.unwrap_or(0))),
        WORKERS.to_text(single(gauges.worker_count as u64)),
    ]
    .concat())
}
