//! The service that knows the models: `GET {origin}/{model_id}` answers a model as JSON, or 404.

use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::{Client, StatusCode, Url, header, redirect};
use serde::de::IgnoredAny;

use super::Config;
use crate::{
    config::Secret,
    error::{Error, Result},
    ids::ModelId,
};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Origin {
    http: Client,
    url: Url,
    key: Secret,
    max_bytes: usize,
}

impl Origin {
    /// None if none is set, or it is no URL to which a model's id can be added.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let url = Url::parse(&config.origin).ok()?;
        if !["http", "https"].contains(&url.scheme()) || url.cannot_be_a_base() {
            return None;
        }
        // Where to ask is the operator's to say, not the origin's.
        let http = Client::builder().redirect(redirect::Policy::none()).build().ok()?;
        let max_bytes = usize::try_from(config.max_size.as_u64()).unwrap_or(usize::MAX);
        Some(Self { http, url, key: config.origin_key.clone(), max_bytes })
    }

    /// Fetches a model as JSON; nothing if the origin has none. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// [`Error::Origin`].
    pub(super) async fn fetch(self, model: ModelId) -> Result<Option<Bytes>> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(model.as_str());
        }
        let mut request = self.http.get(url).header(header::ACCEPT, "application/json");
        if !self.key.is_empty() {
            request = request.bearer_auth(self.key.expose());
        }
        let failed = |error: reqwest::Error| Error::Origin(error.without_url().to_string());
        let response = request.send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => (),
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            status => return Err(Error::Origin(format!("it answered {status}"))),
        }
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(failed)?);
            if body.len() > self.max_bytes {
                let reason = format!("its model is larger than {} bytes", self.max_bytes);
                return Err(Error::Origin(reason));
            }
        }
        if serde_json::from_slice::<IgnoredAny>(&body).is_err() {
            return Err(Error::Origin("its model is no JSON".to_owned()));
        }
        Ok(Some(Bytes::from(body)))
    }
}
