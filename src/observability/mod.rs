//! Logs, metrics and traces of the process.

pub(crate) mod log_throttle;
pub(crate) mod logging;
pub(crate) mod metrics;
pub(crate) mod traces;
