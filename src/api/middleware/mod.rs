//! Middleware that runs before and after the handlers.

pub(crate) mod rate_limit;
pub(crate) mod request;
pub(crate) mod security_headers;
pub(crate) mod trace;
