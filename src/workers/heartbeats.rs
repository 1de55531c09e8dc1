//! Live Celery workers, from the `worker.heartbeat` events that this process receives.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A worker is live for this time after its last heartbeat. Celery sends one every two seconds.
const LIVE_FOR: Duration = Duration::from_mins(1);
/// Bounds the memory that forged events with random host names can use.
const MAX_WORKERS: usize = 10_000;

/// The last heartbeat of each worker.
#[derive(Default)]
pub(super) struct Heartbeats(Mutex<BTreeMap<String, Instant>>);

/// A live worker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QueueWorker)]
pub(crate) struct Worker {
    #[schema(example = "celery@worker-1")]
    name: String,
    last_heartbeat_seconds: u64,
}

impl Heartbeats {
    /// Records a heartbeat event, a kombu message. Malformed events are ignored.
    pub(super) fn record(&self, payload: &[u8]) {
        #[derive(Deserialize)]
        struct Message {
            headers: Headers,
        }
        #[derive(Deserialize)]
        struct Headers {
            hostname: String,
        }
        let Ok(message) = serde_json::from_slice::<Message>(payload) else { return };
        let mut workers = self.0.lock();
        if workers.len() < MAX_WORKERS {
            workers.insert(message.headers.hostname, Instant::now());
        }
    }

    /// The live workers; forgets the others.
    pub(super) fn live(&self) -> Vec<Worker> {
        let mut workers = self.0.lock();
        workers.retain(|_, last| last.elapsed() < LIVE_FOR);
        let to_worker = |(name, last): (&String, &Instant)| Worker {
            name: name.clone(),
            last_heartbeat_seconds: last.elapsed().as_secs(),
        };
        workers.iter().map(to_worker).collect()
    }
}
