//! One attempt: a signed POST over a connection to an address that was checked. Redirects are not followed, proxies
//! not used, and of the answer only the status is read.

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
    ssrf::{self, Forbidden},
    store::Claimed,
};
use crate::error::{causes, chain};

/// Sends webhooks.
pub(super) struct Sender {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
    keys: Vec<Key>,
    config: Arc<Config>,
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With this status.
    Answered(u16),
    TimedOut,
    /// The address is not one that may be sent to.
    Forbidden,
    /// No connection, or none that lasted.
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "answered {status}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Forbidden => f.write_str("the address is not public"),
            Self::Failed => f.write_str("no connection"),
        }
    }
}

impl Sender {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let keys = config.secrets.iter().map(|it| Key::parse(it.expose()));
        let config = Arc::new(config.clone());
        let https = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("webhooks need the system's certificates")?
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector { config: config.clone() });
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(https),
            keys: keys.collect::<Result<_>>()?,
            config,
        })
    }

    pub(super) async fn send(&self, claimed: &Claimed, now_secs: u64) -> Outcome {
        // The same for every attempt, so that a receiver knows what it has.
        let id = format!("msg_{}", claimed.of.replace(':', "_"));
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
        // A URL that is stored was checked, or another program wrote it.
        let Ok(request) = request else { return Outcome::Failed };
        if ssrf::check_url(&claimed.url, &self.config).is_err() {
            return Outcome::Forbidden;
        }
        match timeout(self.config.timeout, self.client.request(request)).await {
            Ok(Ok(response)) => Outcome::Answered(response.status().as_u16()),
            Ok(Err(error)) if is_forbidden(&error) => Outcome::Forbidden,
            Ok(Err(error)) => {
                tracing::debug!(webhook = claimed.of, error = chain(&error), "a webhook failed");
                Outcome::Failed
            }
            Err(_) => Outcome::TimedOut,
        }
    }
}

fn is_forbidden(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(<dyn StdError>::is::<Forbidden>)
}

/// Connects to checked addresses only, whether a URL names a host or an address.
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
            let host = uri.host().ok_or_else(|| io::Error::other("a URL without a host"))?;
            let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let port = uri.port_u16().unwrap_or(usual);
            let addresses = ssrf::resolve(host, port, &config).await?;
            let stream = TcpStream::connect(&addresses[..]).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
