//! A load balancer that checks which services are ready.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

#[derive(Default)]
pub(super) struct Balancer {
    /// The address of each service, and whether it is ready.
    services: Mutex<Vec<(String, bool)>>,
    next: AtomicUsize,
}

impl Balancer {
    pub(super) fn set(&self, index: usize, base: &str) {
        let mut services = self.services.lock().unwrap();
        if services.len() <= index {
            services.resize(index + 1, (String::new(), false));
        }
        services[index] = (base.to_owned(), true);
    }

    /// Whether the last check found the service ready.
    pub(super) fn is_ready(&self, index: usize) -> bool {
        self.services.lock().unwrap()[index].1
    }

    /// The next service that is ready, or any if no service is ready.
    pub(super) fn base(&self) -> String {
        let services = self.services.lock().unwrap();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..services.len()).map(|i| &services[(turn + i) % services.len()]);
        let ready = in_turn.clone().find(|service| service.1);
        ready.or_else(|| in_turn.clone().next()).unwrap().0.clone()
    }

    /// Polls every service until the future is dropped.
    pub(super) async fn poll(&self) {
        let http = reqwest::Client::builder().timeout(Duration::from_millis(500)).build().unwrap();
        loop {
            let services = self.services.lock().unwrap().clone();
            for (index, (base, _)) in services.iter().enumerate() {
                let response = http.get(format!("{base}/readyz")).send().await;
                let is_ready = response.is_ok_and(|response| response.status().is_success());
                let mut services = self.services.lock().unwrap();
                if services[index].0 == *base {
                    services[index].1 = is_ready;
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}
