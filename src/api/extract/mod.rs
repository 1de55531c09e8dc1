//! Extractors whose refusals are problems that say what is wrong and where.

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
use crate::ids::{FileId, InvalidId, JobId, KeyId, MetricName, ModelId, Resource};

/// How large the body of a request may be and how long it may take, left in its extensions by the router.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimit {
    pub(crate) bytes: usize,
    pub(crate) within: Duration,
}

/// A JSON body, in or out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers().get(header::CONTENT_TYPE)) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                "the body has to be JSON, with Content-Type: application/json",
            ));
        }
        let body = read_body(request).await?;
        // Serde would take a list for an object whose fields come in order.
        if body.trim_ascii_start().starts_with(b"[") {
            return Err(Problem::invalid("the body has to be a JSON object, and is a list"));
        }
        match serde_json::from_slice(&body) {
            Ok(value) => Ok(Self(value)),
            // Noting all the while where one is costs as much as reading.
            Err(_) => explain(&body).map(Self),
        }
    }
}

/// Reads JSON that could not be read once more, to say where it is wrong.
fn explain<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let no_json = |error: serde_json::Error| {
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
            _ => no_json(inner),
        }
    })?;
    json.end().map_err(no_json)?;
    Ok(value)
}

/// The body, if it is no larger than it may be, and comes in time.
pub(crate) async fn read_body(request: Request) -> Result<Bytes, Problem> {
    const WITHOUT: BodyLimit = BodyLimit { bytes: 1 << 20, within: Duration::from_secs(10) };
    let BodyLimit { bytes: limit, within } =
        request.extensions().get::<BodyLimit>().copied().unwrap_or(WITHOUT);
    let too_large = || {
        let detail = format!("the body is larger than {limit} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", detail)
    };
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|it| it > limit as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_limited_body(), limit).collect();
    let Ok(body) = tokio::time::timeout(within, body).await else {
        let detail = format!("the body did not arrive within {within:?}");
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", detail));
    };
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "VALIDATION_ERROR",
            "the body did not arrive whole",
        )),
    }
}

fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let essence = content_type
        .and_then(|it| it.to_str().ok())
        .map(|it| it.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    essence.is_some_and(|it| {
        it == "application/json" || (it.starts_with("application/") && it.ends_with("+json"))
    })
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        // Most answers fit, and so are not moved while they are written.
        const USUAL_BYTES: usize = 2048;
        let mut body = Vec::with_capacity(USUAL_BYTES);
        match serde_json::to_writer(&mut body, &self.0) {
            Ok(()) => {
                ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body)
                    .into_response()
            }
            Err(error) => Problem::from(crate::error::Error::Corrupt {
                what: "answer",
                reason: error.to_string(),
            })
            .into_response(),
        }
    }
}

/// Path parameters that parse to `T`, whose own error says what is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<T>(pub(crate) T);

/// A type that is parsed from the parameters of a path, in their order.
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

one_segment!(JobId, MetricName, KeyId, Resource, ModelId);

impl FromPath for (JobId, FileId) {
    fn from_path(segments: &[(String, String)]) -> Result<Self, InvalidId> {
        Ok((segment(segments, 0).parse()?, segment(segments, 1).parse()?))
    }
}

fn segment(segments: &[(String, String)], index: usize) -> &str {
    segments.get(index).map_or("", |it| it.1.as_str())
}

impl<S: Send + Sync, T: FromPath> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[expect(
            clippy::disallowed_types,
            reason = "the one place that turns its refusals into problems"
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
            reason = "the one place that turns its refusals into problems"
        )]
        let query =
            axum::extract::Query::<T>::from_request_parts(parts, state).await.map_err(|error| {
                Problem::invalid(format!("the query is not valid: {}", error.body_text()))
            })?;
        Ok(Self(query.0))
    }
}
