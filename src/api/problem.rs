//! Error responses: the only mapping from [`Error`] to status, error code and RFC 9457 `application/problem+json`.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::{
    error::Error,
    ids::{InvalidId, LockName, truncate_quoted},
};

/// An error response. `code` is part of the API; `detail` is for people and may change.
///
/// [`crate::api::middleware::request::AccessLogEntry::render_problem`] writes its body, because that contains the
/// request id.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    pub(crate) details: Map<String, Value>,
    pub(crate) retry_after: Option<Duration>,
    /// Whether the client sent an invalid key or ticket, which counts as a guess.
    pub(crate) is_auth_failure: bool,
    /// The server error that caused the response, for the log.
    pub(crate) cause: Option<Arc<Error>>,
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemResponse<'a> {
    /// Identifies the kind of problem.
    r#type: String,
    /// The reason phrase of the status.
    title: &'a str,
    status: u16,
    /// Explains the problem to people; the text may change.
    detail: &'a str,
    /// Always true.
    error: bool,
    /// Identifies the problem to programs; it does not change.
    error_code: &'a str,
    /// The same as `detail`.
    message: &'a str,
    /// The `X-Request-Id` of the response.
    request_id: &'a str,
    /// Named values that belong to `error_code`.
    details: &'a Map<String, Value>,
}

impl Problem {
    /// The problem of a response, for the log and for metrics: the one sent to the client, or a [`LoggedProblem`].
    pub(crate) fn from_response(response: &Response) -> Option<&Self> {
        let extensions = response.extensions();
        extensions
            .get::<Self>()
            .or_else(|| extensions.get::<LoggedProblem>().map(|logged| &logged.0))
    }

    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            details: Map::new(),
            retry_after: None,
            is_auth_failure: false,
            cause: None,
        }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR", detail)
    }

    fn with_detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// The body of the response. `detail` and `message` are equal, because some clients read one and some the other.
    pub(super) fn body(&self, request_id: &str) -> Vec<u8> {
        let body = ProblemResponse {
            r#type: format!("/problems/{}", self.code.to_lowercase().replace('_', "-")),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            error: true,
            error_code: self.code,
            message: &self.detail,
            request_id,
            details: &self.details,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Problem {
    #[expect(clippy::too_many_lines, reason = "a table with one entry for each error")]
    fn from(error: Error) -> Self {
        use StatusCode as S;

        let mut problem = match &error {
            Error::Validation(detail) => Self::invalid(detail.as_str()),
            Error::InvalidJobId => Self::new(S::BAD_REQUEST, "INVALID_JOB_ID", error.to_string()),
            Error::TooManyFiles { max, got } => {
                Self::new(S::UNPROCESSABLE_ENTITY, "TOO_MANY_FILES", error.to_string())
                    .with_detail("max_files", *max)
                    .with_detail("got", *got)
            }
            Error::Unauthenticated
            | Error::InvalidKey
            | Error::InvalidTicket
            | Error::ExpiredTicket
            | Error::Forbidden { .. } => Self::from_auth_error(&error),
            Error::JobNotFound(job) => Self::not_found(&error, "JOB_NOT_FOUND", "job_id", job),
            Error::ModelNotFound(model) => {
                Self::not_found(&error, "MODEL_NOT_FOUND", "model_id", model)
            }
            Error::MetricNotFound(_) => {
                Self::new(S::NOT_FOUND, "METRIC_NOT_FOUND", error.to_string())
            }
            Error::KeyNotFound(_) => Self::new(S::NOT_FOUND, "KEY_NOT_FOUND", error.to_string()),
            Error::TooManyKeys(_) => Self::new(S::CONFLICT, "TOO_MANY_KEYS", error.to_string()),
            Error::IdempotencyConflict => {
                Self::new(S::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_CONFLICT", error.to_string())
            }
            Error::JobExists(job) => Self::new(S::CONFLICT, "JOB_EXISTS", error.to_string())
                .with_detail("job_id", job.to_string()),
            Error::FileNotFound { file, .. } => {
                Self::not_found(&error, "FILE_NOT_FOUND", "file_id", file)
            }
            Error::InvalidTransition { current: present, requested: wanted, .. } => {
                Self::new(S::CONFLICT, "INVALID_TRANSITION", error.to_string())
                    .with_detail("status", present.as_str())
                    .with_detail("wanted", *wanted)
            }
            Error::StaleAttempt { present, .. } => {
                Self::new(S::CONFLICT, "INVALID_TRANSITION", error.to_string())
                    .with_detail("attempt", *present)
            }
            Error::LockUnavailable { resource, expires_in } => {
                Self::locked(error.to_string(), resource, *expires_in)
            }
            Error::LockLost { resource } => Self::new(S::CONFLICT, "LOCK_LOST", error.to_string())
                .with_detail("resource", resource.to_string()),
            Error::CleanupRunning => Self::new(S::CONFLICT, "CLEANUP_RUNNING", error.to_string()),
            Error::RateLimited { policy, retry_after } => Self::rate_limited(policy, *retry_after),
            Error::Timeout(_)
            | Error::Overloaded(_)
            | Error::RedisUnavailable(_)
            | Error::NotReplicated { .. }
            | Error::Redis(_)
            | Error::Origin(_)
            | Error::MigrationChecksumMismatch(_)
            | Error::CorruptData { .. } => Self::from_server_error(&error),
        };
        if problem.status.is_server_error() {
            problem.retry_after =
                (problem.status != S::INTERNAL_SERVER_ERROR).then_some(Duration::from_secs(1));
            problem.cause = Some(Arc::new(error));
        }
        problem
    }
}

impl Problem {
    /// Clients see the cause of their own errors, but only the kind of a server error.
    fn from_server_error(error: &Error) -> Self {
        use StatusCode as S;

        match error {
            Error::Timeout(_) => {
                Self::new(S::GATEWAY_TIMEOUT, "TIMEOUT", "the request timed out; please try again")
            }
            Error::Overloaded(reason) => Self::new(S::SERVICE_UNAVAILABLE, "SERVICE_BUSY", *reason),
            Error::RedisUnavailable(_) | Error::NotReplicated { .. } => Self::unavailable(error),
            Error::Origin(_) => Self::new(
                S::BAD_GATEWAY,
                "ORIGIN_FAILED",
                "the origin of models failed; please try again",
            ),
            _ => Self::internal(),
        }
    }

    fn from_auth_error(error: &Error) -> Self {
        use StatusCode as S;

        match error {
            Error::Unauthenticated => {
                Self::new(S::FORBIDDEN, "AUTHENTICATION_REQUIRED", error.to_string())
            }
            Error::InvalidKey | Error::InvalidTicket | Error::ExpiredTicket => Self {
                is_auth_failure: !matches!(error, Error::ExpiredTicket),
                ..Self::new(S::FORBIDDEN, "INVALID_API_KEY", error.to_string())
            },
            Error::Forbidden { needed } => {
                Self::new(S::FORBIDDEN, "INSUFFICIENT_PERMISSIONS", error.to_string())
                    .with_detail("needed_role", *needed)
            }
            _ => Self::internal(),
        }
    }

    fn not_found(error: &Error, code: &'static str, name: &str, id: &impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, error.to_string()).with_detail(name, id.to_string())
    }

    fn locked(detail: String, resource: &LockName, expires_in: Option<Duration>) -> Self {
        let problem = Self::new(StatusCode::CONFLICT, "LOCK_UNAVAILABLE", detail)
            .with_detail("resource", resource.to_string());
        match expires_in.and_then(|time| u64::try_from(time.as_millis()).ok()) {
            Some(ms) => problem.with_detail("expires_in_ms", ms),
            None => problem,
        }
    }

    fn rate_limited(policy: &str, retry_after: Duration) -> Self {
        let secs = retry_after.as_secs();
        let detail = format!("rate limit {policy:?} exceeded; try again in {secs} s");
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut problem = Self::new(status, "RATE_LIMIT_EXCEEDED", detail)
            .with_detail("policy", policy)
            .with_detail("retry_after_secs", secs);
        problem.retry_after = Some(retry_after);
        problem
    }

    fn unavailable(error: &Error) -> Self {
        let detail = if matches!(error, Error::NotReplicated { .. }) {
            "too few replicas have stored the job; please try again with the same Idempotency-Key, which does not \
             create a second job"
        } else {
            "the storage is unavailable; please try again"
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "REDIS_UNAVAILABLE", detail)
    }

    fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            "internal error; the log has its cause under this request id",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// A problem for the log and metrics only: the client gets another response, such as one that makes it reconnect.
#[derive(Clone, Debug)]
pub(crate) struct LoggedProblem(pub(crate) Problem);

/// The response to an unknown path.
pub(crate) async fn not_found(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "NOT_FOUND",
        format!("{} does not exist", truncate_quoted(uri.path())),
    )
}

/// The response to a method that the path does not support.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!(
        "{} does not support {}",
        truncate_quoted(uri.path()),
        truncate_quoted(method.as_str())
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
}

/// The response for a handler that panicked; logs the panic message.
#[expect(clippy::needless_pass_by_value, reason = "the signature that CatchPanicLayer requires")]
pub(crate) fn render_panic(panic: Box<dyn Any + Send>) -> Response<Body> {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = message, "handler panicked");
    Problem::internal().with_detail("panic", json!(true)).into_response()
}
