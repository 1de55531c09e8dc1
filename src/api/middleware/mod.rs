//! Middleware: what every request passes through before and after its handler.

pub(crate) mod rate_limit;
pub(crate) mod request;
pub(crate) mod security_headers;
pub(crate) mod trace;
