//! A client of a running service.

use std::{ops::ControlFlow, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::ids::FileId;

/// The service at a URL, called with one key.
pub(super) struct Service {
    http: Client,
    base: String,
    key: String,
}

/// A job as it was created.
#[derive(Debug, Deserialize)]
pub(super) struct Job {
    #[serde(rename = "job_id")]
    pub(super) id: Uuid,
    pub(super) files: Vec<File>,
    links: Links,
}

#[derive(Debug, Deserialize)]
pub(super) struct File {
    pub(super) file_id: FileId,
    pub(super) filename: String,
}

#[derive(Debug, Deserialize)]
struct Links {
    stream: String,
}

#[derive(Deserialize)]
struct Problem {
    error_code: String,
    detail: String,
}

impl Service {
    pub(super) fn new(url: &str, key: String) -> Result<Self> {
        const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
        // Longer than the heartbeat interval of a stream.
        const READ_TIMEOUT: Duration = Duration::from_mins(1);
        let base = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        if !base.starts_with("http://") {
            bail!("{url} is not an http:// URL; the demo supports no other scheme");
        }
        // A proxy from the environment does not apply to a service on this machine.
        let http = Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key })
    }

    pub(super) async fn create(&self, new: &Value) -> Result<Job> {
        let response = self.send(self.request(Method::POST, "/api/v1/jobs").json(new)).await?;
        let job = ensure_success(response).await?.json().await;
        job.map_err(reqwest::Error::without_url).context("the response of the service is not a job")
    }

    /// The URL of the page of `job`.
    pub(super) fn page_of(&self, job: &Job) -> String {
        format!("{}/#job={}", self.base, job.id)
    }

    /// The stream of `job`; `None` if no event follows `last_event_id`.
    pub(super) async fn follow(
        &self,
        job: &Job,
        last_event_id: Option<&str>,
    ) -> Result<Option<Response>> {
        let mut request = self.http.get(format!("{}{}", self.base, job.links.stream));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response =
            ensure_success(self.send(request.header(header::ACCEPT, "text/event-stream")).await?)
                .await?;
        Ok((response.status() != StatusCode::NO_CONTENT).then_some(response))
    }

    /// Sends a worker report; `Break` if the job has ended and accepts no more.
    pub(super) async fn report(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<ControlFlow<()>> {
        let response = self.send(self.request(method, path).json(body)).await?;
        if response.status() == StatusCode::CONFLICT {
            return Ok(ControlFlow::Break(()));
        }
        ensure_success(response).await?;
        Ok(ControlFlow::Continue(()))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| {
            let message = if error.is_connect() {
                format!("no service is reachable at {} (start one with: make run)", self.base)
            } else {
                format!("{} did not answer", self.base)
            };
            // The URL may contain a ticket.
            anyhow!(error.without_url()).context(message)
        })
    }
}

/// Returns a successful response; otherwise fails with the problem in its body.
async fn ensure_success(response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    match response.json::<Problem>().await {
        Ok(problem) => {
            bail!("the service rejected the request: {} ({})", problem.detail, problem.error_code)
        }
        Err(_) => bail!("the service rejected the request: {status}"),
    }
}
