//! How errors look to callers: RFC 9457 `application/problem+json`, decided here only.

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
    ids::{InvalidId, Resource, quoted},
};

/// An error response. `code` is part of the API; `detail` is for humans and may change.
///
/// Its body is written by [`crate::api::middleware::request::LogLine::render_problem`], which knows the request's id.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    pub(crate) details: Map<String, Value>,
    pub(crate) retry_after: Option<Duration>,
    /// Whether the caller showed a key or a ticket that it may have guessed.
    pub(crate) is_guess: bool,
    /// The error behind the response, for the log.
    pub(crate) cause: Option<Arc<Error>>,
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// A name for this kind of problem.
    r#type: String,
    /// The status in words.
    title: &'a str,
    status: u16,
    /// What is wrong, for people; may change.
    detail: &'a str,
    /// Always true.
    error: bool,
    /// What is wrong, for programs; does not change.
    error_code: &'a str,
    /// The same as `detail`.
    message: &'a str,
    /// The answer's `X-Request-Id`.
    request_id: &'a str,
    /// Names and values that belong to `error_code`.
    details: &'a Map<String, Value>,
}

impl Problem {
    /// What went wrong with a request, for the log and for metrics: what its caller is told, or is not.
    pub(crate) fn of(response: &Response) -> Option<&Self> {
        let extensions = response.extensions();
        extensions.get::<Self>().or_else(|| extensions.get::<Unsaid>().map(|it| &it.0))
    }

    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            details: Map::new(),
            retry_after: None,
            is_guess: false,
            cause: None,
        }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR", detail)
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// The response's body. `detail` and `message` say the same: clients of this product read either.
    pub(super) fn body(&self, request_id: &str) -> Vec<u8> {
        let body = ProblemBody {
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
    fn from(error: Error) -> Self {
        use StatusCode as S;

        let mut problem = match &error {
            Error::Invalid(detail) => Self::invalid(detail.as_str()),
            Error::InvalidJobId => Self::new(S::BAD_REQUEST, "INVALID_JOB_ID", error.to_string()),
            Error::TooManyFiles { max, got } => {
                Self::new(S::UNPROCESSABLE_ENTITY, "TOO_MANY_FILES", error.to_string())
                    .with("max_files", *max)
                    .with("got", *got)
            }
            Error::Unauthenticated
            | Error::InvalidKey
            | Error::InvalidTicket
            | Error::ExpiredTicket
            | Error::Forbidden { .. } => Self::of_caller(&error),
            Error::JobNotFound(job) => Self::missing(&error, "JOB_NOT_FOUND", "job_id", job),
            Error::ModelNotFound(model) => {
                Self::missing(&error, "MODEL_NOT_FOUND", "model_id", model)
            }
            Error::NoMetric(_) => Self::new(S::NOT_FOUND, "METRIC_NOT_FOUND", error.to_string()),
            Error::KeyNotFound(_) => Self::new(S::NOT_FOUND, "KEY_NOT_FOUND", error.to_string()),
            Error::TooManyKeys(_) => Self::new(S::CONFLICT, "TOO_MANY_KEYS", error.to_string()),
            Error::IdempotencyConflict => {
                Self::new(S::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_CONFLICT", error.to_string())
            }
            Error::JobExists(job) => Self::new(S::CONFLICT, "JOB_EXISTS", error.to_string())
                .with("job_id", job.to_string()),
            Error::FileNotFound { file, .. } => {
                Self::missing(&error, "FILE_NOT_FOUND", "file_id", file)
            }
            Error::WrongStatus { present, wanted, .. } => {
                Self::new(S::CONFLICT, "INVALID_TRANSITION", error.to_string())
                    .with("status", present.as_str())
                    .with("wanted", *wanted)
            }
            Error::StaleAttempt { present, .. } => {
                Self::new(S::CONFLICT, "INVALID_TRANSITION", error.to_string())
                    .with("attempt", *present)
            }
            Error::LockUnavailable { resource, expires_in } => {
                Self::locked(error.to_string(), resource, *expires_in)
            }
            Error::LockLost { resource } => Self::new(S::CONFLICT, "LOCK_LOST", error.to_string())
                .with("resource", resource.to_string()),
            Error::CleanupRunning => Self::new(S::CONFLICT, "CLEANUP_RUNNING", error.to_string()),
            Error::RateLimited { policy, retry_after } => Self::too_many(policy, *retry_after),
            Error::TooSlow(_)
            | Error::Busy(_)
            | Error::RedisUnavailable(_)
            | Error::NotReplicated { .. }
            | Error::Redis(_)
            | Error::Origin(_)
            | Error::SchemaChanged(_)
            | Error::Corrupt { .. } => Self::of_failure(&error),
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
    /// Callers read about their mistakes, and nothing about our failures.
    fn of_failure(error: &Error) -> Self {
        use StatusCode as S;

        match error {
            Error::TooSlow(_) => Self::new(
                S::GATEWAY_TIMEOUT,
                "TIMEOUT",
                "the service took too long; please try again",
            ),
            Error::Busy(reason) => Self::new(S::SERVICE_UNAVAILABLE, "SERVICE_BUSY", *reason),
            Error::RedisUnavailable(_) | Error::NotReplicated { .. } => Self::unavailable(error),
            Error::Origin(_) => Self::new(
                S::BAD_GATEWAY,
                "ORIGIN_FAILED",
                "the service that knows this did not answer as it should; please try again",
            ),
            _ => Self::internal(),
        }
    }

    fn of_caller(error: &Error) -> Self {
        use StatusCode as S;

        match error {
            Error::Unauthenticated => {
                Self::new(S::FORBIDDEN, "AUTHENTICATION_REQUIRED", error.to_string())
            }
            Error::InvalidKey | Error::InvalidTicket | Error::ExpiredTicket => Self {
                is_guess: !matches!(error, Error::ExpiredTicket),
                ..Self::new(S::FORBIDDEN, "INVALID_API_KEY", error.to_string())
            },
            Error::Forbidden { needed } => {
                Self::new(S::FORBIDDEN, "INSUFFICIENT_PERMISSIONS", error.to_string())
                    .with("needed_role", *needed)
            }
            _ => Self::internal(),
        }
    }

    fn missing(error: &Error, code: &'static str, name: &str, id: &impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, error.to_string()).with(name, id.to_string())
    }

    fn locked(detail: String, resource: &Resource, expires_in: Option<Duration>) -> Self {
        let problem = Self::new(StatusCode::CONFLICT, "LOCK_UNAVAILABLE", detail)
            .with("resource", resource.to_string());
        match expires_in.and_then(|it| u64::try_from(it.as_millis()).ok()) {
            Some(ms) => problem.with("expires_in_ms", ms),
            None => problem,
        }
    }

    fn too_many(policy: &str, retry_after: Duration) -> Self {
        let secs = retry_after.as_secs();
        let detail = format!("too many requests by the limit {policy:?}; try again in {secs} s");
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut problem = Self::new(status, "RATE_LIMIT_EXCEEDED", detail)
            .with("policy", policy)
            .with("retry_after_secs", secs);
        problem.retry_after = Some(retry_after);
        problem
    }

    fn unavailable(error: &Error) -> Self {
        let detail = if matches!(error, Error::NotReplicated { .. }) {
            "the job could not be stored as safely as it has to be; please try again with the same \
             Idempotency-Key, which makes no second job"
        } else {
            "the service cannot reach its storage right now; please try again"
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "REDIS_UNAVAILABLE", detail)
    }

    fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            "the service failed; the request id helps to find out why",
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

/// A problem that the log shall know of, and the caller not.
#[derive(Clone, Debug)]
pub(crate) struct Unsaid(pub(crate) Problem);

/// Answers a path that does not exist.
pub(crate) async fn not_found(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "NOT_FOUND",
        format!("there is nothing at {}", quoted(uri.path())),
    )
}

/// Answers a method that a path does not take.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {}", quoted(uri.path()), quoted(method.as_str()));
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
}

/// Answers for a handler that panicked, after logging what it said.
#[expect(clippy::needless_pass_by_value, reason = "the signature that CatchPanicLayer asks for")]
pub(crate) fn render_panic(panic: Box<dyn Any + Send>) -> Response<Body> {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = said, "a handler panicked");
    Problem::internal().with("panic", json!(true)).into_response()
}
