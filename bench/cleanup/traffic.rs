//! Requests at a constant rate. A latency is measured from the scheduled time of the request (open-loop load).

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Method};
use serde_json::{Value, json};

const CLIENT_COUNT: usize = 8;
/// Time between two requests of a client.
const REQUEST_INTERVAL: Duration = Duration::from_millis(20);
const CLEANUP: &str = "/api/v1/admin/cleanup";

pub(crate) struct Traffic {
    http: Client,
    base: String,
    jobs: Vec<String>,
}

/// Latencies of completed requests.
pub(crate) struct Latencies {
    count: usize,
    p50_ms: f64,
    pub(crate) p99_ms: f64,
    max_ms: f64,
}

impl Traffic {
    /// Waits until the gateway is ready and creates one job for each client.
    pub(crate) async fn prepare(base: &str) -> Result<Self> {
        let mut traffic = Self { http: Client::new(), base: base.to_owned(), jobs: Vec::new() };
        traffic.wait_until_ready().await?;
        for _ in 0..CLIENT_COUNT {
            let files = json!({"files": [{"filename": "a.png"}, {"filename": "b.png"}]});
            let job = traffic.call(Method::POST, "/api/v1/jobs", Some(&files)).await?;
            let path = job["links"]["self"].as_str().context("the job has no self link")?;
            traffic.jobs.push(path.to_owned());
        }
        Ok(traffic)
    }

    async fn wait_until_ready(&self) -> Result<()> {
        const MAX_TRIES: usize = 500;
        for _ in 0..MAX_TRIES {
            if self.call(Method::GET, "/readyz", None).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("the gateway did not become ready")
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request =
            self.http.request(method, format!("{}{path}", self.base)).bearer_auth("bench");
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Starts a cleanup, waits for its end and returns its report.
    pub(crate) async fn clean_up(&self) -> Result<Value> {
        self.call(Method::POST, CLEANUP, None).await?;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let report = self.call(Method::GET, CLEANUP, None).await?;
            if report["state"] != "running" {
                ensure!(report["state"] == "finished", "{report}");
                return Ok(report);
            }
        }
    }

    /// Sends requests until `done` completes. Returns their latencies and the output of `done`.
    pub(crate) async fn measure<T>(&self, done: impl Future<Output = T>) -> Result<(Latencies, T)> {
        let latencies = RefCell::new(Vec::new());
        let clients = (0..CLIENT_COUNT).map(|client| self.send_requests(client, &latencies));
        let output = tokio::select! {
            failed = futures_util::future::try_join_all(clients) => {
                failed?;
                anyhow::bail!("a client ended early")
            }
            output = done => output,
        };
        Ok((Latencies::from_samples(latencies.into_inner()), output))
    }

    async fn send_requests(&self, client: usize, latencies: &RefCell<Vec<f64>>) -> Result<()> {
        let job = &self.jobs[client];
        let started = Instant::now() + REQUEST_INTERVAL * client as u32 / CLIENT_COUNT as u32;
        for number in 0u32.. {
            let scheduled = started + REQUEST_INTERVAL * number;
            tokio::time::sleep_until(scheduled.into()).await;
            match number % 3 {
                0 => self.call(Method::GET, job, None).await?,
                1 => self.call(Method::GET, &format!("{job}/progress"), None).await?,
                _ => {
                    let report = json!({"progress": number % 100, "attempt": 1 + number / 100});
                    let path = format!("{job}/files/file_000/progress");
                    self.call(Method::POST, &path, Some(&report)).await?
                }
            };
            latencies.borrow_mut().push(scheduled.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(())
    }
}

impl Latencies {
    fn from_samples(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let quantile = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize];
        Self {
            count: samples.len(),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            max_ms: quantile(1.0),
        }
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50_ms, p99_ms, max_ms } = self;
        write!(f, "{count} requests, p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, max {max_ms:.1} ms")
    }
}
