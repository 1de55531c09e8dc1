//! OpenTelemetry traces by OTLP over HTTP, off by default: from a request through Redis to the Celery message.
//!
//! Spans have the target [`TARGET`], which the log leaves out. Without an endpoint nobody asks for them, and they
//! cost a comparison.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::settings::{Time, check_between};
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

/// The target of spans that are for traces and not for the log.
pub(crate) const TARGET: &str = "traces";

/// Where traces go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The collector that takes OTLP over HTTP, such as `http://localhost:4318`; empty for none.
    pub endpoint: String,
    /// The part of traces that begin here and are kept; who calls with a `traceparent` decides for its own.
    pub sample_ratio: f64,
    /// Time between exports.
    #[serde(with = "Time")]
    pub export_interval: Duration,
    /// The longest that an export may take.
    #[serde(with = "Time")]
    pub timeout: Duration,
}

impl Config {
    pub(crate) fn is_enabled(&self) -> bool {
        !self.endpoint.is_empty()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        let known = ["http://", "https://"];
        if self.is_enabled() && !known.iter().any(|it| self.endpoint.starts_with(it)) {
            bail!("endpoint has to begin with http:// or https://");
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            bail!("sample_ratio is {}; it has to be between 0 and 1", self.sample_ratio);
        }
        check_between("export_interval", self.export_interval, ms(10), secs(600))?;
        check_between("timeout", self.timeout, ms(10), secs(600))
    }
}

/// What exports spans. They are gathered in a bounded queue, which drops what is too much.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Must be called on the runtime that is to send them.
    ///
    /// # Errors
    ///
    /// If the system has no certificates to trust, or the endpoint is none.
    pub(crate) fn start(config: &Config) -> Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("traces need the system's certificates")?
            .https_or_http()
            .enable_http1()
            .build();
        let client = OnRuntime {
            client: Arc::new(HyperClient::new(connector, config.timeout, None)),
            runtime: Handle::current(),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{}/v1/traces", config.endpoint.trim_end_matches('/')))
            .with_timeout(config.timeout)
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

    /// Sends what is left, within the export's timeout.
    pub(crate) fn finish(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces are lost");
        }
    }
}

/// Sends from the exporter's own thread, on which there is no runtime.
#[derive(Debug)]
struct OnRuntime<C> {
    client: Arc<C>,
    runtime: Handle,
}

impl<C: HttpClient + 'static> HttpClient for OnRuntime<C> {
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

/// W3C Trace Context for what a request sets going: the present span's, or without one the caller's own.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let context = Span::current().context();
    let present = context.span().span_context().clone();
    let caller = || -> Context { TraceContextPropagator::new().extract(&HeaderExtractor(headers)) };
    let known = if present.is_valid() { present } else { caller().span().span_context().clone() };
    known.is_valid().then(|| {
        let flags = known.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", known.trace_id(), known.span_id())
    })
}
