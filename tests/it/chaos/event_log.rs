//! A log of the results of clients and browsers.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::harness::wait_until;

/// Shared by all clients and browsers.
#[derive(Clone, Default)]
pub(super) struct EventLog(Arc<Mutex<Records>>);

#[derive(Default)]
pub(super) struct Records {
    pub(super) request_count: usize,
    /// The time and the response or error.
    pub(super) failures: Vec<(Instant, String)>,
    pub(super) writes: Vec<Instant>,
    pub(super) slowest: Duration,
    pub(super) timeout_count: usize,
    /// Ids of jobs whose creation got a 201.
    pub(super) created: Vec<String>,
    /// By job, the numbers of the reports that got a 200.
    pub(super) reported: HashMap<String, HashSet<u64>>,
    /// By browser, its job and the numbers that it received.
    pub(super) seen: Vec<(String, Vec<u64>)>,
}

impl EventLog {
    pub(super) fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap()
    }

    /// Waits for `count` further requests.
    pub(super) async fn wait_for_requests(&self, count: usize) {
        let target = self.records().request_count + count;
        wait_until("requests are completed", async || self.records().request_count >= target).await;
    }

    /// Waits for `count` further failures.
    pub(super) async fn wait_for_failures(&self, count: usize) {
        let target = self.records().failures.len() + count;
        wait_until("requests fail", async || self.records().failures.len() >= target).await;
    }

    /// Adds a browser and returns its index in `seen`.
    pub(super) fn add_browser(&self, job: &str) -> usize {
        let mut records = self.records();
        records.seen.push((job.to_owned(), Vec::new()));
        records.seen.len() - 1
    }
}

impl Records {
    /// The longest time after `from` between two successful writes.
    pub(super) fn gap(&self, from: Instant) -> Duration {
        let mut writes = self.writes.clone();
        writes.sort();
        let pairs = writes.windows(2).filter(|pair| pair[1] > from);
        pairs.map(|pair| pair[1] - pair[0].max(from)).max().unwrap_or_default()
    }

    /// Acknowledged reports that a browser of the job did not receive, by browser. Reports before the first number that
    /// the browser received preceded its stream.
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

    pub(super) fn duplicate_count(&self) -> usize {
        let more = |seen: &Vec<u64>| seen.len() - seen.iter().collect::<HashSet<_>>().len();
        self.seen.iter().map(|browser| more(&browser.1)).sum()
    }
}
