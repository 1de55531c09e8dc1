//! One delivery attempt: a signed POST to an allowed address. Redirects are not followed, proxies are not used, and of
//! the response only the status is read.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpStream, time::timeout};
use tower::Service;

use super::{
    Config,
    signature::{self, Key},
    ssrf::{self, ForbiddenAddress},
    store::Claimed,
};
use crate::error::{causes, display_chain};

/// Sends webhooks.
pub(super) struct Sender {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
    keys: Vec<Key>,
    config: Arc<Config>,
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeliveryOutcome {
    /// The status code of the response.
    Responded(u16),
    TimedOut,
    /// The URL's address is not allowed.
    Forbidden,
    /// The connection could not be established, or it failed.
    ConnectionFailed,
}

impl fmt::Display for DeliveryOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Responded(status) => write!(f, "response status {status}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Forbidden => f.write_str("the address is not public"),
            Self::ConnectionFailed => f.write_str("connection failed"),
        }
    }
}

impl Sender {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let keys = config.secrets.iter().map(|secret| Key::parse(secret.expose()));
        let config = Arc::new(config.clone());
        let https = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("webhooks: could not load the system's root certificates")?
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector { config: config.clone() });
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(https),
            keys: keys.collect::<Result<_>>()?,
            config,
        })
    }

    pub(super) async fn send(&self, claimed: &Claimed, now_secs: u64) -> DeliveryOutcome {
        // All attempts have the same id, so that the receiver can detect duplicates.
        let id = format!("msg_{}", claimed.webhook_id.replace(':', "_"));
        let signature = signature::header(&self.keys, &id, now_secs, &claimed.payload);
        let request = Request::post(&claimed.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
            )
            .header("webhook-id", &id)
            .header("webhook-timestamp", now_secs.to_string())
            .header("webhook-signature", signature)
            .body(Full::new(Bytes::from(claimed.payload.clone())));
        // The URL was validated before it was stored, unless another program wrote it.
        let Ok(request) = request else { return DeliveryOutcome::ConnectionFailed };
        if ssrf::validate_url(&claimed.url, &self.config).is_err() {
            return DeliveryOutcome::Forbidden;
        }
        match timeout(self.config.timeout, self.client.request(request)).await {
            Ok(Ok(response)) => DeliveryOutcome::Responded(response.status().as_u16()),
            Ok(Err(error)) if is_forbidden(&error) => DeliveryOutcome::Forbidden,
            Ok(Err(error)) => {
                tracing::debug!(
                    webhook = claimed.webhook_id,
                    error = display_chain(&error),
                    "a webhook attempt failed"
                );
                DeliveryOutcome::ConnectionFailed
            }
            Err(_) => DeliveryOutcome::TimedOut,
        }
    }
}

fn is_forbidden(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(<dyn StdError>::is::<ForbiddenAddress>)
}

/// Connects to allowed addresses only, for URLs with host names and URLs with IP addresses.
#[derive(Clone)]
struct Connector {
    config: Arc<Config>,
}

type BoxError = Box<dyn StdError + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let config = self.config.clone();
        Box::pin(async move {
            let host = uri.host().ok_or_else(|| io::Error::other("the URL has no host"))?;
            let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let port = uri.port_u16().unwrap_or(default_port);
            let addresses = ssrf::resolve(host, port, &config).await?;
            let stream = TcpStream::connect(&addresses[..]).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
