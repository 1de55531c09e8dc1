//! Callers and browsers: they keep on, whatever happens, as patient clients do.

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

use super::{balancer::Balancer, ledger::Ledger};
use crate::harness::{Answer, As, EventSource, id_of, path_of};

/// The longest that any call may take: `redis.failover_wait`, one attempt more, and room for a busy machine.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(6);

const JOBS: usize = 10;
const BROWSERS_A_JOB: usize = 5;
const CREATORS: usize = 3;
const READERS: usize = 2;

pub(super) struct Traffic {
    http: reqwest::Client,
    balancer: Arc<Balancer>,
    ledger: Ledger,
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
    browsers: JoinSet<()>,
}

impl Traffic {
    pub(super) async fn begin(balancer: Arc<Balancer>, ledger: Ledger) -> Self {
        let http = reqwest::Client::builder().pool_idle_timeout(Duration::from_secs(2));
        let mut traffic = Self {
            http: http.build().unwrap(),
            balancer,
            ledger,
            stop: Arc::default(),
            callers: JoinSet::new(),
            browsers: JoinSet::new(),
        };
        for name in 0..JOBS {
            let job = traffic.caller().create(&format!("watched-{name}")).await.unwrap();
            for _ in 0..BROWSERS_A_JOB {
                let caller = traffic.caller();
                traffic.browsers.spawn(caller.watch(job.clone()));
            }
            let caller = traffic.caller();
            traffic.callers.spawn(caller.report(job));
        }
        for name in 0..CREATORS {
            let caller = traffic.caller();
            traffic.callers.spawn(caller.keep_creating(name));
        }
        for _ in 0..READERS {
            let caller = traffic.caller();
            traffic.callers.spawn(caller.keep_reading());
        }
        traffic
    }

    fn caller(&self) -> Caller {
        Caller {
            http: self.http.clone(),
            balancer: self.balancer.clone(),
            ledger: self.ledger.clone(),
            stop: self.stop.clone(),
        }
    }

    /// Lets callers finish what they do, and browsers see what is left.
    pub(super) async fn end(mut self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        self.stop.store(true, Ordering::Relaxed);
        while self.callers.join_next().await.is_some() {}
        // What they have not seen by then they never will.
        let deadline = Instant::now() + PATIENCE;
        while !self.ledger.open().lost_events().is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        self.browsers.shutdown().await;
    }

    /// Jobs that were acknowledged and are not there.
    pub(super) async fn lost(http: &reqwest::Client, balancer: &Balancer, ids: &[String]) -> usize {
        let mut n_lost = 0;
        for id in ids {
            let read = http.get(format!("{}/api/v1/jobs/{id}", balancer.base()));
            let answer = Answer::of(read.bearer_auth(As::Alice.key().unwrap())).await;
            n_lost += usize::from(answer.status == 404);
        }
        n_lost
    }
}

struct Caller {
    http: reqwest::Client,
    balancer: Arc<Balancer>,
    ledger: Ledger,
    stop: Arc<AtomicBool>,
}

impl Caller {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// One request, written down. `None` if it failed.
    async fn ask(&self, what: &str, request: RequestBuilder) -> Option<Value> {
        let started = Instant::now();
        let answer = async {
            let response = request.timeout(CALL_LIMIT * 2).send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.text().await?))
        }
        .await;
        let took = started.elapsed();
        let mut pages = self.ledger.open();
        pages.n_requests += 1;
        pages.slowest = pages.slowest.max(took);
        pages.n_over_timeout += usize::from(took > CALL_LIMIT);
        match answer {
            Ok((status, text)) if status < 400 => serde_json::from_str(&text).ok(),
            Ok((status, text)) => {
                pages.failures.push((started, format!("{what}: {status} {text}")));
                None
            }
            Err(error) => {
                pages.failures.push((started, format!("{what}: {error:?}")));
                None
            }
        }
    }

    async fn create(&self, key: &str) -> Option<Value> {
        let body = json!({"files": [{"filename": "a.png"}]});
        let url = format!("{}/api/v1/jobs", self.balancer.base());
        let request = self.http.post(url).bearer_auth(As::Alice.key().unwrap()).json(&body);
        let job = self.ask("create", request.header("idempotency-key", key)).await?;
        let mut pages = self.ledger.open();
        pages.writes.push(Instant::now());
        pages.created.push(id_of(&job).to_owned());
        Some(job)
    }

    async fn keep_creating(self, name: usize) {
        for n in 0.. {
            while self.create(&format!("{name}-{n}")).await.is_none() && self.goes_on() {
                sleep(Duration::from_millis(50)).await;
            }
            sleep(Duration::from_millis(30)).await;
            if !self.goes_on() {
                return;
            }
        }
    }

    async fn keep_reading(self) {
        while self.goes_on() {
            let id = self.ledger.open().created.last().cloned().unwrap_or_default();
            for path in [format!("/api/v1/jobs/{id}"), "/api/v1/jobs".to_owned()] {
                let url = format!("{}{path}", self.balancer.base());
                let request = self.http.get(url).bearer_auth(As::Alice.key().unwrap());
                self.ask("read", request).await;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// A worker that numbers its reports, and repeats each until it is taken.
    async fn report(self, job: Value) {
        for n in 1_u64.. {
            let body = json!({"progress": 50, "message": n.to_string()});
            loop {
                let path = format!("{}/files/file_000/progress", path_of(&job));
                let request = self.http.post(format!("{}{path}", self.balancer.base()));
                let request = request.bearer_auth(As::Worker.key().unwrap()).json(&body);
                if self.ask("report", request).await.is_some() {
                    let mut pages = self.ledger.open();
                    pages.writes.push(Instant::now());
                    pages.reported.entry(id_of(&job).to_owned()).or_default().insert(n);
                    break;
                }
                if !self.goes_on() {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
            sleep(Duration::from_millis(100)).await;
            if !self.goes_on() {
                return;
            }
        }
    }

    /// A browser, which comes back with the last id it saw.
    async fn watch(self, job: Value) {
        let line = self.ledger.line(id_of(&job));
        let mut last_id = None;
        loop {
            let url =
                format!("{}{}", self.balancer.base(), job["links"]["stream"].as_str().unwrap());
            let mut request = self.http.get(url);
            if let Some(id) = &last_id {
                request = request.header("last-event-id", id);
            }
            if let Ok(response) = request.send().await {
                let mut source = EventSource::of(response, last_id.as_deref());
                while let Some(event) = source.next().await {
                    if event.name == "file_update"
                        && let Some(n) =
                            event.data["message"].as_str().and_then(|it| it.parse().ok())
                    {
                        self.ledger.open().seen[line].1.push(n);
                    }
                    last_id = Some(event.id);
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}
