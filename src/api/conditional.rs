//! Conditional requests: JSON responses with `ETag`, `Cache-Control` and `X-Cache`, and 304.

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use crate::ids::Sha256Hex;

/// Source of a response: `hit`, `stale`, `miss` or `negative`.
pub(crate) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Responds with `json`, or with 304 if `If-None-Match` contains its tag.
pub(crate) fn json_with_etag(
    request: &HeaderMap,
    json: Bytes,
    x_cache: &'static str,
    cache_control: &str,
) -> Response {
    let etag = format!("\"{}\"", Sha256Hex::digest(&String::from_utf8_lossy(&json)).as_str());
    let mut response = if if_none_match(request, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], json).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(X_CACHE, HeaderValue::from_static(x_cache));
    for (name, value) in [(header::CACHE_CONTROL, cache_control), (header::ETAG, &etag)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Whether `If-None-Match` contains `etag`, by the weak comparison of RFC 9110.
fn if_none_match(request: &HeaderMap, etag: &str) -> bool {
    let lines = request.get_all(header::IF_NONE_MATCH).into_iter();
    let mut tags = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.trim_start_matches("W/") == etag
    })
}
