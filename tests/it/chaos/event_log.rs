//! What callers and browsers met, written down while it happens.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::harness::wait_until;

/// Shared by all who take part.
#[derive(Clone, Default)]
pub(super) struct EventLog(Arc<Mutex<Records>>);

#[derive(Default)]
pub(super) struct Records {
    pub(super) n_requests: usize,
    /// When, and what was answered.
    pub(super) failures: Vec<(Instant, String)>,
    pub(super) writes: Vec<Instant>,
    pub(super) slowest: Duration,
    pub(super) n_over_timeout: usize,
    /// Ids of jobs that were answered with 201.
    pub(super) created: Vec<String>,
    /// By job, the numbers of the reports that were answered with 200.
    pub(super) reported: HashMap<String, HashSet<u64>>,
    /// By browser, its job and the numbers that it saw.
    pub(super) seen: Vec<(String, Vec<u64>)>,
}

impl EventLog {
    pub(super) fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap()
    }

    /// Waits until callers have had answers to so many requests more.
    pub(super) async fn wait_for_requests(&self, n: usize) {
        let wanted = self.records().n_requests + n;
        wait_until("requests are answered", async || self.records().n_requests >= wanted).await;
    }

    /// Waits until so many requests more have failed.
    pub(super) async fn wait_for_failures(&self, n: usize) {
        let wanted = self.records().failures.len() + n;
        wait_until("requests fail", async || self.records().failures.len() >= wanted).await;
    }

    /// A new browser's line in `seen`.
    pub(super) fn line(&self, job: &str) -> usize {
        let mut records = self.records();
        records.seen.push((job.to_owned(), Vec::new()));
        records.seen.len() - 1
    }
}

impl Records {
    /// The longest time between two successful writes, of those that end after `from`.
    pub(super) fn gap(&self, from: Instant) -> Duration {
        let mut writes = self.writes.clone();
        writes.sort();
        let pairs = writes.windows(2).filter(|pair| pair[1] > from);
        pairs.map(|pair| pair[1] - pair[0].max(from)).max().unwrap_or_default()
    }

    /// Reports that were acknowledged and that a browser of their job did not see, by browser. What was reported
    /// before the first that it saw came before the browser.
    pub(super) fn lost_events(&self) -> Vec<String> {
        let missing = |(job, seen): &(String, Vec<u64>)| {
            let first = seen.first().copied().unwrap_or(0);
            let seen: HashSet<u64> = seen.iter().copied().collect();
            let reported = self.reported.get(job).into_iter().flatten();
            let lost = reported.filter(move |number| **number > first && !seen.contains(number));
            lost.map(|number| format!("{job} {number}")).collect::<Vec<_>>()
        };
        self.seen.iter().flat_map(missing).collect()
    }

    pub(super) fn n_doubled_events(&self) -> usize {
        let more = |seen: &Vec<u64>| seen.len() - seen.iter().collect::<HashSet<_>>().len();
        self.seen.iter().map(|browser| more(&browser.1)).sum()
    }
}
