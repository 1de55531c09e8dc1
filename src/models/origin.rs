//! The service that knows the models: `GET {origin}/{model_id}` answers a model as JSON, or 404. It is asked directly,
//! and redirects are not followed: where to ask is the operator's to say, not the origin's.

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
    error::{Error, Result, chain},
    ids::ModelId,
    settings::Secret,
};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Origin {
    http: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: Url,
    key: Secret,
    max_bytes: usize,
}

impl Origin {
    /// The URL of the settings, to which a model's id can be added.
    pub(super) fn url(config: &Config) -> Option<Url> {
        let url = Url::parse(&config.origin).ok()?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        (["http", "https"].contains(&url.scheme()) && !has_user).then_some(url)
    }

    /// None if no origin is set.
    ///
    /// # Errors
    ///
    /// If it speaks TLS, and the system has no certificates to trust.
    pub(super) fn new(config: &Config) -> AnyResult<Option<Self>> {
        let Some(url) = Self::url(config) else { return Ok(None) };
        let builder = HttpsConnectorBuilder::new();
        let builder = if url.scheme() == "https" {
            builder.with_native_roots().context("models.origin needs the system's certificates")?
        } else {
            let nobody = RootCertStore::empty();
            builder.with_tls_config(
                ClientConfig::builder().with_root_certificates(nobody).with_no_client_auth(),
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

    /// Fetches a model as JSON; nothing if the origin has none. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// [`Error::Origin`].
    pub(super) async fn fetch(self, model: ModelId) -> Result<Option<Bytes>> {
        let response = self.http.request(self.request(&model)?).await.map_err(|it| failed(&it))?;
        match response.status() {
            StatusCode::OK => (),
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            status => return Err(Error::Origin(format!("it answered {status}"))),
        }
        let body = Limited::new(response.into_body(), self.max_bytes).collect();
        let body = body.await.map_err(|it| failed(&*it))?.to_bytes();
        if serde_json::from_slice::<IgnoredAny>(&body).is_err() {
            return Err(Error::Origin("its model is no JSON".to_owned()));
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
        request.body(Empty::new()).map_err(|it| failed(&it))
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Origin(chain(error))
}
