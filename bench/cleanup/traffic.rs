//! Requests at a steady rate, timed from when each was due.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Method};
use serde_json::{Value, json};

const N_CLIENTS: usize = 8;
/// Between two requests of a client.
const PERIOD: Duration = Duration::from_millis(20);
const CLEANUP: &str = "/api/v1/admin/cleanup";

pub(crate) struct Traffic {
    http: Client,
    base: String,
    jobs: Vec<String>,
}

/// Latencies of requests.
pub(crate) struct Latencies {
    n: usize,
    p50_ms: f64,
    pub(crate) p99_ms: f64,
    max_ms: f64,
}

impl Traffic {
    /// Makes a job for each client to work on.
    pub(crate) async fn prepare(base: &str) -> Result<Self> {
        let mut traffic = Self { http: Client::new(), base: base.to_owned(), jobs: Vec::new() };
        traffic.until_ready().await?;
        for _ in 0..N_CLIENTS {
            let files = json!({"files": [{"filename": "a.png"}, {"filename": "b.png"}]});
            let job = traffic.call(Method::POST, "/api/v1/jobs", Some(&files)).await?;
            let path = job["links"]["self"].as_str().context("a job without a link")?;
            traffic.jobs.push(path.to_owned());
        }
        Ok(traffic)
    }

    async fn until_ready(&self) -> Result<()> {
        const TRIES: usize = 500;
        for _ in 0..TRIES {
            if self.call(Method::GET, "/readyz", None).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("the gateway does not get ready")
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request =
            self.http.request(method, format!("{}{path}", self.base)).bearer_auth("bench");
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Cleans up and returns the report.
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

    /// Makes requests until `done` is, and says how long they took.
    pub(crate) async fn measure<T>(&self, done: impl Future<Output = T>) -> Result<(Latencies, T)> {
        let latencies = RefCell::new(Vec::new());
        let clients = (0..N_CLIENTS).map(|it| self.keep_calling(it, &latencies));
        let output = tokio::select! {
            failed = futures_util::future::try_join_all(clients) => {
                failed?;
                anyhow::bail!("clients do not end")
            }
            output = done => output,
        };
        Ok((Latencies::of(latencies.into_inner()), output))
    }

    async fn keep_calling(&self, client: usize, latencies: &RefCell<Vec<f64>>) -> Result<()> {
        let job = &self.jobs[client];
        let begun_at = Instant::now() + PERIOD * client as u32 / N_CLIENTS as u32;
        for n in 0u32.. {
            let due = begun_at + PERIOD * n;
            tokio::time::sleep_until(due.into()).await;
            match n % 3 {
                0 => self.call(Method::GET, job, None).await?,
                1 => self.call(Method::GET, &format!("{job}/progress"), None).await?,
                _ => {
                    let report = json!({"progress": n % 100, "attempt": 1 + n / 100});
                    let path = format!("{job}/files/file_000/progress");
                    self.call(Method::POST, &path, Some(&report)).await?
                }
            };
            latencies.borrow_mut().push(due.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(())
    }
}

impl Latencies {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
        Self { n: all.len(), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n, p50_ms, p99_ms, max_ms } = self;
        write!(f, "{n} requests, p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, longest {max_ms:.1} ms")
    }
}
