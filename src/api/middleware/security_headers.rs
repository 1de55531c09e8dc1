//! Headers that tell browsers what not to do with an answer.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

/// For answers that no browser should show as a page; the dashboard has its own policy.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // Answers are about somebody's jobs, and may hold tickets.
    (header::CACHE_CONTROL, "no-store"),
];
const HSTS: &str = "max-age=31536000";

/// Adds to an answer what it does not say otherwise. A proxy that ends TLS says for itself that there is TLS.
pub(crate) fn secure_headers(response: &mut Response, has_tls: bool) {
    let headers = response.headers_mut();
    // At once, and not again and again: each time all names are sorted in anew.
    headers.reserve(HEADERS.len() + 1);
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if has_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
}
