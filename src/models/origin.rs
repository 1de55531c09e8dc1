//! Client of the service that stores the models: `GET {origin}/{model_id}` returns a model as JSON, or 404.
//!
//! Proxies are not used and redirects are not followed, so that only the operator decides which host is contacted.

use anyhow::{Context as _, Result as AnyResult};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use reqwest::Url;
use serde::de::IgnoredAny;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Config;
use crate::{
    error::{Error, Result, display_chain},
    ids::ModelId,
    settings::Secret,
};

/// An HTTP client for the origin. Cheap to clone.
#[derive(Clone)]
pub(super) struct OriginClient {
    http: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: Url,
    key: Secret,
    max_bytes: usize,
}

impl OriginClient {
    /// The configured URL, or `None` if it is empty or invalid.
    pub(super) fn parse_url(config: &Config) -> Option<Url> {
        let url = Url::parse(&config.origin).ok()?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        (["http", "https"].contains(&url.scheme()) && !has_user).then_some(url)
    }

    /// `None` if no origin is configured.
    ///
    /// # Errors
    ///
    /// If the origin uses TLS and the system has no root certificates.
    pub(super) fn new(config: &Config) -> AnyResult<Option<Self>> {
        let Some(url) = Self::parse_url(config) else { return Ok(None) };
        let builder = HttpsConnectorBuilder::new();
        let builder = if url.scheme() == "https" {
            builder
                .with_native_roots()
                .context("models.origin: cannot load the system's root certificates")?
        } else {
            // The builder requires a TLS configuration; it is not used for http.
            let no_roots = RootCertStore::empty();
            builder.with_tls_config(
                ClientConfig::builder().with_root_certificates(no_roots).with_no_client_auth(),
            )
        };
        let https = builder.https_or_http().enable_http1().build();
        Ok(Some(Self {
            http: Client::builder(TokioExecutor::new()).build(https),
            url,
            key: config.origin_key.clone(),
            max_bytes: usize::try_from(config.max_size.as_u64()).unwrap_or(usize::MAX),
        }))
    }

    /// Fetches a model as JSON; `None` if the origin does not have it. The caller sets the timeout.
    ///
    /// # Errors
    ///
    /// [`Error::Origin`].
    pub(super) async fn fetch(self, model: ModelId) -> Result<Option<Bytes>> {
        let response =
            self.http.request(self.request(&model)?).await.map_err(|error| origin_error(&error))?;
        match response.status() {
            StatusCode::OK => (),
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            status => return Err(Error::Origin(format!("it responded with {status}"))),
        }
        let body = Limited::new(response.into_body(), self.max_bytes).collect();
        let body = body.await.map_err(|error| origin_error(&*error))?.to_bytes();
        if serde_json::from_slice::<IgnoredAny>(&body).is_err() {
            return Err(Error::Origin("the model is not valid JSON".to_owned()));
        }
        Ok(Some(body))
    }

    fn request(&self, model: &ModelId) -> Result<Request<Empty<Bytes>>> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(model.as_str());
        }
        let mut request = Request::get(url.as_str()).header(header::ACCEPT, "application/json");
        if !self.key.is_empty() {
            let authorization = format!("Bearer {}", self.key.expose());
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(Empty::new()).map_err(|error| origin_error(&error))
    }
}

fn origin_error(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Origin(display_chain(error))
}
