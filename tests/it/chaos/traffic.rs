//! Clients and browsers that keep sending requests and reconnecting during faults.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use super::{balancer::Balancer, event_log::EventLog};
use crate::harness::{ApiResponse, Caller, EventSource, id_of, path_of};

/// The time limit of a call: `redis.failover_wait`, one further attempt, and a margin for a busy machine.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(6);

const JOBS: usize = 10;
const BROWSERS_PER_JOB: usize = 5;
const CREATORS: usize = 3;
const READERS: usize = 2;

pub(super) struct Traffic {
    http: reqwest::Client,
    balancer: Arc<Balancer>,
    log: EventLog,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
    browsers: JoinSet<()>,
}

impl Traffic {
    pub(super) async fn start(balancer: Arc<Balancer>, log: EventLog) -> Self {
        let http = reqwest::Client::builder().pool_idle_timeout(Duration::from_secs(2));
        let mut traffic = Self {
            http: http.build().unwrap(),
            balancer,
            log,
            stop: Arc::default(),
            clients: JoinSet::new(),
            browsers: JoinSet::new(),
        };
        for name in 0..JOBS {
            let job = traffic.client().create(&format!("watched-{name}")).await.unwrap();
            for _ in 0..BROWSERS_PER_JOB {
                let client = traffic.client();
                traffic.browsers.spawn(client.watch(job.clone()));
            }
            let client = traffic.client();
            traffic.clients.spawn(client.report(job));
        }
        for name in 0..CREATORS {
            let client = traffic.client();
            traffic.clients.spawn(client.keep_creating(name));
        }
        for _ in 0..READERS {
            let client = traffic.client();
            traffic.clients.spawn(client.keep_reading());
        }
        traffic
    }

    fn client(&self) -> Client {
        Client {
            http: self.http.clone(),
            balancer: self.balancer.clone(),
            log: self.log.clone(),
            stop: self.stop.clone(),
        }
    }

    /// Lets clients finish their requests, and browsers receive the remaining events.
    pub(super) async fn stop(mut self) {
        const TIMEOUT: Duration = Duration::from_secs(5);
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        // An event that is missing after this time is lost.
        let deadline = Instant::now() + TIMEOUT;
        while !self.log.records().lost_events().is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        self.browsers.shutdown().await;
    }

    /// The number of acknowledged jobs that do not exist.
    pub(super) async fn lost(http: &reqwest::Client, balancer: &Balancer, ids: &[String]) -> usize {
        let mut lost_count = 0;
        for id in ids {
            let read = http.get(format!("{}/api/v1/jobs/{id}", balancer.base()));
            let response = ApiResponse::send(read.bearer_auth(Caller::Alice.key().unwrap())).await;
            lost_count += usize::from(response.status == 404);
        }
        lost_count
    }
}

struct Client {
    http: reqwest::Client,
    balancer: Arc<Balancer>,
    log: EventLog,
    stop: Arc<AtomicBool>,
}

impl Client {
    fn is_running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Sends a request and logs the result. `None` if it failed.
    async fn send(&self, name: &str, request: RequestBuilder) -> Option<Value> {
        let started = Instant::now();
        let response = async {
            let response = request.timeout(CALL_LIMIT * 2).send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.text().await?))
        }
        .await;
        let took = started.elapsed();
        let mut records = self.log.records();
        records.request_count += 1;
        records.slowest = records.slowest.max(took);
        records.timeout_count += usize::from(took > CALL_LIMIT);
        match response {
            Ok((status, text)) if status < 400 => serde_json::from_str(&text).ok(),
            Ok((status, text)) => {
                records.failures.push((started, format!("{name}: {status} {text}")));
                None
            }
            Err(error) => {
                records.failures.push((started, format!("{name}: {error:?}")));
                None
            }
        }
    }

    async fn create(&self, key: &str) -> Option<Value> {
        let body = json!({"files": [{"filename": "a.png"}]});
        let url = format!("{}/api/v1/jobs", self.balancer.base());
        let request = self.http.post(url).bearer_auth(Caller::Alice.key().unwrap()).json(&body);
        let job = self.send("create", request.header("idempotency-key", key)).await?;
        let mut records = self.log.records();
        records.writes.push(Instant::now());
        records.created.push(id_of(&job).to_owned());
        Some(job)
    }

    async fn keep_creating(self, name: usize) {
        for n in 0.. {
            while self.create(&format!("{name}-{n}")).await.is_none() && self.is_running() {
                sleep(Duration::from_millis(50)).await;
            }
            sleep(Duration::from_millis(30)).await;
            if !self.is_running() {
                return;
            }
        }
    }

    async fn keep_reading(self) {
        while self.is_running() {
            let id = self.log.records().created.last().cloned().unwrap_or_default();
            for path in [format!("/api/v1/jobs/{id}"), "/api/v1/jobs".to_owned()] {
                let url = format!("{}{path}", self.balancer.base());
                let request = self.http.get(url).bearer_auth(Caller::Alice.key().unwrap());
                self.send("read", request).await;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// A worker that numbers its reports and repeats each until it is accepted.
    async fn report(self, job: Value) {
        for n in 1_u64.. {
            let body = json!({"progress": 50, "message": n.to_string()});
            loop {
                let path = format!("{}/files/file_000/progress", path_of(&job));
                let request = self.http.post(format!("{}{path}", self.balancer.base()));
                let request = request.bearer_auth(Caller::Worker.key().unwrap()).json(&body);
                if self.send("report", request).await.is_some() {
                    let mut records = self.log.records();
                    records.writes.push(Instant::now());
                    records.reported.entry(id_of(&job).to_owned()).or_default().insert(n);
                    break;
                }
                if !self.is_running() {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
            sleep(Duration::from_millis(100)).await;
            if !self.is_running() {
                return;
            }
        }
    }

    /// A browser, which reconnects with the id of its last event.
    async fn watch(self, job: Value) {
        let index = self.log.add_browser(id_of(&job));
        let mut last_id = None;
        loop {
            let url =
                format!("{}{}", self.balancer.base(), job["links"]["stream"].as_str().unwrap());
            let mut request = self.http.get(url);
            if let Some(id) = &last_id {
                request = request.header("last-event-id", id);
            }
            if let Ok(response) = request.send().await {
                let mut source = EventSource::new(response, last_id.as_deref());
                while let Some(event) = source.next().await {
                    if event.name == "file_update"
                        && let Some(n) =
                            event.data["message"].as_str().and_then(|message| message.parse().ok())
                    {
                        self.log.records().seen[index].1.push(n);
                    }
                    last_id = Some(event.id);
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}
