//! Extractors for JSON bodies, paths and queries. They reject invalid input with a problem that names the invalid part.

pub(crate) mod auth;

use std::time::Duration;

use axum::{
    RequestExt as _,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Serialize, de::DeserializeOwned};

use super::problem::Problem;
use crate::ids::{FileId, InvalidId, JobId, KeyId, LockName, MetricName, ModelId};

/// The size limit and timeout of a request body, which the router adds to the extensions of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimit {
    pub(crate) bytes: usize,
    pub(crate) timeout: Duration,
}

/// A JSON body of a request or a response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers().get(header::CONTENT_TYPE)) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                "the body must be JSON, with Content-Type: application/json",
            ));
        }
        let body = read_body(request).await?;
        // Serde would accept an array as a struct, with the fields in order.
        if body.trim_ascii_start().starts_with(b"[") {
            return Err(Problem::invalid("the body must be a JSON object, not an array"));
        }
        match serde_json::from_slice(&body) {
            Ok(value) => Ok(Self(value)),
            // Tracking the path doubles the cost of parsing, so only invalid bodies pay for it.
            Err(_) => locate_json_error(&body).map(Self),
        }
    }
}

/// Parses an invalid JSON body a second time, to name the path of the error.
fn locate_json_error<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let not_json = |error: serde_json::Error| {
        let detail = format!("the body is not JSON: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", detail)
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let at = if path == "." { String::new() } else { format!(" at {path}") };
        match inner.classify() {
            serde_json::error::Category::Data => {
                Problem::invalid(format!("the body is not valid{at}: {inner}"))
            }
            _ => not_json(inner),
        }
    })?;
    json.end().map_err(not_json)?;
    Ok(value)
}

/// Reads the body.
///
/// # Errors
///
/// If the body exceeds its [`BodyLimit`] in size or time, or the client disconnects.
pub(crate) async fn read_body(request: Request) -> Result<Bytes, Problem> {
    const DEFAULT: BodyLimit = BodyLimit { bytes: 1 << 20, timeout: Duration::from_secs(10) };
    let limit = request.extensions().get::<BodyLimit>().copied().unwrap_or(DEFAULT);
    let too_large = || {
        let detail = format!("the body is larger than {} bytes", limit.bytes);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", detail)
    };
    let content_length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if content_length.is_some_and(|length| length > limit.bytes as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_limited_body(), limit.bytes).collect();
    let Ok(body) = tokio::time::timeout(limit.timeout, body).await else {
        let detail = format!("the body did not arrive within {:?}", limit.timeout);
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", detail));
    };
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", "the body is incomplete"))
        }
    }
}

fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let essence = content_type
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    essence.is_some_and(|essence| {
        essence == "application/json"
            || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        // Most responses fit, so the buffer is not reallocated.
        const INITIAL_CAPACITY: usize = 2048;
        let mut body = Vec::with_capacity(INITIAL_CAPACITY);
        match serde_json::to_writer(&mut body, &self.0) {
            Ok(()) => {
                ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body)
                    .into_response()
            }
            Err(error) => Problem::from(crate::error::Error::CorruptData {
                what: "response",
                reason: error.to_string(),
            })
            .into_response(),
        }
    }
}

/// Path parameters, parsed to `T`. Its parse error becomes the detail of the problem.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<T>(pub(crate) T);

/// A type that is parsed from the parameters of a path, in path order.
pub(crate) trait FromPath: Sized {
    fn from_path(segments: &[(String, String)]) -> Result<Self, InvalidId>;
}

macro_rules! one_segment {
    ($($id:ty),+) => {$(
        impl FromPath for $id {
            fn from_path(segments: &[(String, String)]) -> Result<Self, InvalidId> {
                segment(segments, 0).parse()
            }
        }
    )+};
}

one_segment!(JobId, MetricName, KeyId, LockName, ModelId);

impl FromPath for (JobId, FileId) {
    fn from_path(segments: &[(String, String)]) -> Result<Self, InvalidId> {
        Ok((segment(segments, 0).parse()?, segment(segments, 1).parse()?))
    }
}

fn segment(segments: &[(String, String)], index: usize) -> &str {
    segments.get(index).map_or("", |(_, value)| value.as_str())
}

impl<S: Send + Sync, T: FromPath> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[expect(
            clippy::disallowed_types,
            reason = "the only place that turns its rejections into problems"
        )]
        let raw = axum::extract::Path::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|_| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "VALIDATION_ERROR",
                    "the path is not valid UTF-8",
                )
            })?;
        Ok(Self(T::from_path(&raw.0)?))
    }
}

/// Query parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[expect(
            clippy::disallowed_types,
            reason = "the only place that turns its rejections into problems"
        )]
        let query =
            axum::extract::Query::<T>::from_request_parts(parts, state).await.map_err(|error| {
                Problem::invalid(format!("the query is not valid: {}", error.body_text()))
            })?;
        Ok(Self(query.0))
    }
}
