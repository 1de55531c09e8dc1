//! OpenTelemetry traces over OTLP/HTTP, off by default: from a request through Redis to the Celery message.
//!
//! Spans have the target [`TARGET`], which the log excludes. Without an endpoint they are disabled and cost one
//! comparison.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::settings::{HumanDuration, validate_range};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use hyper::HeaderMap;
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry::{
    Context,
    propagation::TextMapPropagator as _,
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError, hyper::HyperClient};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Tracer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Timeout of an export. Spans that wait longer would only fill the bounded queue.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Target of spans that are exported but not logged.
pub(crate) const TARGET: &str = "traces";

/// Export of OpenTelemetry traces.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Collector that accepts OTLP over HTTP, such as `http://localhost:4318`. Empty: no traces.
    pub endpoint: String,
    /// Fraction of the traces started here that are exported, 0 to 1. A client that sends a `traceparent` decides for its own traces.
    pub sample_ratio: f64,
    /// Interval between exports.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub export_interval: Duration,
}

impl Config {
    pub(crate) fn is_enabled(&self) -> bool {
        !self.endpoint.is_empty()
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        let schemes = ["http://", "https://"];
        if self.is_enabled() && !schemes.iter().any(|scheme| self.endpoint.starts_with(scheme)) {
            bail!("endpoint must start with http:// or https://");
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            bail!("sample_ratio is {}; it must be between 0 and 1", self.sample_ratio);
        }
        validate_range("export_interval", self.export_interval, ms(10), secs(600))
    }
}

/// The span exporter. Spans wait in a bounded queue, which drops spans when it is full.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Must be called on the runtime that sends the exports.
    ///
    /// # Errors
    ///
    /// If the system has no trusted certificates, or the endpoint is invalid.
    pub(crate) fn start(config: &Config) -> Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("the system certificates cannot be read")?
            .https_or_http()
            .enable_http1()
            .build();
        let client = TokioHttpClient {
            client: Arc::new(HyperClient::new(connector, EXPORT_TIMEOUT, None)),
            runtime: Handle::current(),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{}/v1/traces", config.endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let batches =
            BatchConfigBuilder::default().with_scheduled_delay(config.export_interval).build();
        let sampler = Sampler::TraceIdRatioBased(config.sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(
                BatchSpanProcessor::builder(exporter).with_batch_config(batches).build(),
            )
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(Resource::builder().with_service_name(env!("CARGO_PKG_NAME")).build())
            .build();
        Ok(Self(provider))
    }

    pub(crate) fn tracer(&self) -> Tracer {
        self.0.tracer(env!("CARGO_PKG_NAME"))
    }

    /// Exports the remaining spans, within the timeout of an export.
    pub(crate) fn shutdown(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

/// Sends requests on the tokio runtime, because the thread of the exporter has none.
#[derive(Debug)]
struct TokioHttpClient<C> {
    client: Arc<C>,
    runtime: Handle,
}

impl<C: HttpClient + 'static> HttpClient for TokioHttpClient<C> {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: hyper::Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<hyper::Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move { client.send_bytes(request).await });
        Box::pin(async move { sending.await? })
    }
}

/// The W3C Trace Context (`traceparent`) for work that a request starts: of the current span, or without one the
/// context that the client sent.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let context = Span::current().context();
    let current = context.span().span_context().clone();
    let from_client =
        || -> Context { TraceContextPropagator::new().extract(&HeaderExtractor(headers)) };
    let known =
        if current.is_valid() { current } else { from_client().span().span_context().clone() };
    known.is_valid().then(|| {
        let flags = known.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", known.trace_id(), known.span_id())
    })
}
