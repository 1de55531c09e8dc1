//! Security headers of responses.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

/// For API responses, which a browser must not render as a page. The dashboard sets its own policy.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // Responses contain data of one client, and may contain tickets.
    (header::CACHE_CONTROL, "no-store"),
];
const HSTS: &str = "max-age=31536000";

/// Adds the headers that the response does not set itself. HSTS is added only if this service terminates TLS: a proxy
/// that terminates TLS sets its own.
pub(crate) fn add_security_headers(response: &mut Response, has_tls: bool) {
    let headers = response.headers_mut();
    // One reservation, because the map rehashes all names each time it grows.
    headers.reserve(HEADERS.len() + 1);
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if has_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
}
