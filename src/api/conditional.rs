//! JSON answers that a client may keep: `ETag`, 304, `Cache-Control`, `X-Cache`.

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use crate::ids::Sha256Hex;

/// Where an answer came from: `hit`, `stale`, `miss`, `negative`.
pub(crate) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Answers with `json`, or with 304 if the request says that it has this already.
pub(crate) fn cached_json(
    request: &HeaderMap,
    json: Bytes,
    x_cache: &'static str,
    cache_control: &str,
) -> Response {
    let etag = format!("\"{}\"", Sha256Hex::of(&String::from_utf8_lossy(&json)).as_str());
    let mut response = if knows(request, &etag) {
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

/// `If-None-Match` by RFC 9110, which compares weakly.
fn knows(request: &HeaderMap, etag: &str) -> bool {
    let lines = request.get_all(header::IF_NONE_MATCH).into_iter();
    let mut tags = lines.filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','));
    tags.any(|it| {
        let tag = it.trim();
        tag == "*" || tag.trim_start_matches("W/") == etag
    })
}
