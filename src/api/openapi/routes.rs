//! `/openapi.json`: the OpenAPI document of this service.

use axum::{
    Router,
    body::Bytes,
    http::{HeaderValue, header},
    routing::get,
};
use serde_json::Value;

/// Serves `document` without authentication.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(document: &Value) -> Router<S> {
    let body = Bytes::from(document.to_string());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Router::new().route("/openapi.json", get(move || async move { (headers, body) }))
}
