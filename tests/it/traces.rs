//! Traces from a caller through the service and Redis to the Celery worker, as a collector receives them.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value, trace::v1::Span,
};
use prost::Message as _;
use serde_json::{Value, json};

use crate::harness::{CeleryWorker, GatewayProcess, TestRedis, is_on_cluster, path_of, wait_until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

impl Collector {
    #[expect(clippy::disallowed_methods, reason = "the collector runs beside the test")]
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router =
            Router::new().route("/v1/traces", post(Self::take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, endpoint)
    }

    #[expect(clippy::unused_async, reason = "a handler")]
    async fn take(State(collector): State<Self>, body: Bytes) -> StatusCode {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        collector.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        StatusCode::OK
    }

    /// The spans of the caller's trace.
    fn spans(&self) -> Vec<Span> {
        let spans = self.0.lock().unwrap();
        spans.iter().filter(|span| hex(&span.trace_id) == TRACE).cloned().collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

async fn start(redis: &TestRedis, endpoint: &str) -> GatewayProcess {
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__CELERY__ENABLED", "true"),
        ("I2M__TRACES__ENDPOINT", endpoint),
        ("I2M__TRACES__EXPORT_INTERVAL", "50ms"),
    ];
    let service = GatewayProcess::start(redis.dir(), &environment);
    wait_until("the service is ready", async || {
        let ready = reqwest::get(format!("{}/readyz", service.base)).await;
        ready.is_ok_and(|response| response.status() == 200)
    })
    .await;
    service
}

async fn create(service: &GatewayProcess) -> Value {
    let new = json!({"files": [{"filename": "trace.png"}]});
    let request = reqwest::Client::new().post(format!("{}/api/v1/jobs", service.base));
    let request = request.bearer_auth("k").header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    let response = request.json(&new).send().await.unwrap();
    assert_eq!(response.status(), 201);
    response.json().await.unwrap()
}

/// The trace context that the worker received with its task.
async fn seen_by_worker(service: &GatewayProcess, job: &Value) -> String {
    let mut error = Value::Null;
    wait_until("the worker has reported its trace context", async || {
        let request = reqwest::Client::new().get(format!("{}{}", service.base, path_of(job)));
        let shown: Value = request.bearer_auth("k").send().await.unwrap().json().await.unwrap();
        error = shown["files"][0]["error"].clone();
        error.is_string()
    })
    .await;
    error.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_trace_goes_from_the_caller_through_redis_to_the_worker() {
    let (collector, endpoint) = Collector::start().await;
    let redis = TestRedis::start();
    let mut service = start(&redis, &endpoint).await;
    let job = create(&service).await;
    let _worker = CeleryWorker::start(&redis, "w", 1).await;
    let seen = seen_by_worker(&service, &job).await;
    // On shutdown the service exports its spans.
    service.signal("TERM");
    assert!(service.wait().success());

    let spans = collector.spans();
    let request = spans.iter().find(|span| span.name == "POST /api/v1/jobs").unwrap();
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(attribute(request, "http.response.status_code"), "201");
    assert_eq!(seen, format!("00-{TRACE}-{}-01", hex(&request.span_id)));
    let calls: Vec<&Span> =
        spans.iter().filter(|span| span.parent_span_id == request.span_id).collect();
    // One call creates the job, and others send its task.
    for name in ["jobs", if is_on_cluster() { "broker" } else { "queue" }] {
        let call = calls.iter().find(|span| span.name == name).unwrap();
        assert_eq!(attribute(call, "db.system.name"), "redis");
        assert!(call.end_time_unix_nano >= call.start_time_unix_nano);
    }
}

#[tokio::test]
async fn the_callers_context_is_propagated_with_a_missing_or_unreachable_collector() {
    for endpoint in ["", "http://127.0.0.1:9"] {
        let redis = TestRedis::start();
        let mut service = start(&redis, endpoint).await;
        create(&service).await;
        let message: String =
            redis.run(0, &["LINDEX", "batch_processing", "0"]).await.convert().unwrap();
        let message: Value = serde_json::from_str(&message).unwrap();
        let traceparent = message["headers"]["traceparent"].as_str().unwrap();
        assert!(traceparent.starts_with(&format!("00-{TRACE}-")), "{traceparent}");
        assert_eq!(traceparent.contains(CALLER), endpoint.is_empty(), "{traceparent}");
        service.signal("TERM");
        assert!(service.wait().success());
    }
}
