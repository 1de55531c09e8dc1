//! An HTTP answer, and what tests ask of it.

use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, header::HeaderMap};
use serde_json::Value;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) took: Duration,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let started = Instant::now();
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap(), took: started.elapsed() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// An answer with this status, whatever its body.
    #[track_caller]
    pub(crate) fn ok_status(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.text);
    }

    /// A problem with this status and code, in the shape that every problem has.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["error_code"], code, "{body}");
        assert_eq!(body["error"], true);
        assert_eq!(body["status"], status);
        assert_eq!(body["detail"], body["message"]);
        assert!(body["detail"].as_str().is_some_and(|it| !it.is_empty()), "{body}");
        assert_eq!(body["request_id"], self.header("x-request-id"));
        assert!(
            body["details"].is_object() && body["type"].is_string() && body["title"].is_string(),
            "{body}"
        );
        body
    }
}
