//! Which workers live: Celery's `worker.heartbeat` events, as this process hears them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A worker is forgotten after this long without a heartbeat; Celery sends one every two seconds.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);
/// Names kept, against a flood of made-up ones.
const MAX_WORKERS: usize = 10_000;

/// The last heartbeat of each worker.
#[derive(Default)]
pub(super) struct Heartbeats(Mutex<BTreeMap<String, Instant>>);

/// A worker that lives.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QueueWorker)]
pub(crate) struct Worker {
    #[schema(example = "celery@worker-1")]
    name: String,
    last_heartbeat_seconds: u64,
}

impl Heartbeats {
    /// Takes in an event message of kombu's.
    pub(super) fn note(&self, payload: &[u8]) {
        #[derive(Deserialize)]
        struct Message {
            headers: Headers,
        }
        #[derive(Deserialize)]
        struct Headers {
            hostname: String,
        }
        let Ok(message) = serde_json::from_slice::<Message>(payload) else { return };
        let mut seen = self.0.lock();
        if seen.len() < MAX_WORKERS {
            seen.insert(message.headers.hostname, Instant::now());
        }
    }

    pub(super) fn alive(&self) -> Vec<Worker> {
        let mut seen = self.0.lock();
        seen.retain(|_, last| last.elapsed() < FORGOTTEN_AFTER);
        let worker = |(name, last): (&String, &Instant)| Worker {
            name: name.clone(),
            last_heartbeat_seconds: last.elapsed().as_secs(),
        };
        seen.iter().map(worker).collect()
    }
}
