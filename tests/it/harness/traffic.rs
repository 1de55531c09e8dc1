//! Clients that send requests while servers fail and return.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinSet;

use super::{ApiResponse, Caller, TestApp, id_of};

/// The results of all requests of the clients.
#[derive(Debug, Default)]
pub(crate) struct TrafficResult {
    pub(crate) created: Vec<String>,
    pub(crate) failures: Vec<String>,
    pub(crate) slowest: Duration,
}

/// Clients that create jobs and read them until they are stopped. They do not repeat failed requests.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    clients: JoinSet<TrafficResult>,
}

impl Traffic {
    pub(crate) fn start(app: &TestApp) -> Self {
        const CLIENTS: usize = 4;
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (stop, http, base) = (stop.clone(), app.http.clone(), app.base.clone());
            clients.spawn(async move {
                let mut result = TrafficResult::default();
                let url = format!("{base}/api/v1/jobs");
                let new = json!({"files": [{"filename": "a.png"}]});
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let create =
                        http.post(&url).bearer_auth(Caller::Alice.key().unwrap()).json(&new);
                    let key = format!("{client}-{n}");
                    let response = ApiResponse::send(create.header("idempotency-key", key)).await;
                    result.record(&response);
                    if response.status != 201 {
                        continue;
                    }
                    let id = id_of(&response.json()).to_owned();
                    let read =
                        http.get(format!("{url}/{id}")).bearer_auth(Caller::Alice.key().unwrap());
                    result.created.push(id);
                    result.record(&ApiResponse::send(read).await);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                result
            });
        }
        Self { stop, clients }
    }

    pub(crate) async fn stop(mut self) -> TrafficResult {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = TrafficResult::default();
        while let Some(result) = self.clients.join_next().await {
            let result = result.unwrap();
            all.created.extend(result.created);
            all.failures.extend(result.failures);
            all.slowest = all.slowest.max(result.slowest);
        }
        all
    }
}

impl TrafficResult {
    fn record(&mut self, response: &ApiResponse) {
        self.slowest = self.slowest.max(response.took);
        if response.status >= 400 {
            self.failures.push(format!("{} {}", response.status, response.text));
        }
    }
}
