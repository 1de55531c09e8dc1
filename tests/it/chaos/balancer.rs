//! A load balancer: knows which services are ready.

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
    /// Addresses, and whether each is ready.
    services: Mutex<Vec<(String, bool)>>,
    next: AtomicUsize,
}

impl Balancer {
    pub(super) fn set(&self, place: usize, base: &str) {
        let mut services = self.services.lock().unwrap();
        if services.len() <= place {
            services.resize(place + 1, (String::new(), false));
        }
        services[place] = (base.to_owned(), true);
    }

    /// Whether the service of this place is taken for ready.
    pub(super) fn is_ready(&self, place: usize) -> bool {
        self.services.lock().unwrap()[place].1
    }

    /// The next service that is ready, or any if none is.
    pub(super) fn base(&self) -> String {
        let services = self.services.lock().unwrap();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..services.len()).map(|i| &services[(turn + i) % services.len()]);
        let ready = in_turn.clone().find(|service| service.1);
        ready.or_else(|| in_turn.clone().next()).unwrap().0.clone()
    }

    /// Asks every service all the time.
    pub(super) async fn look(&self) {
        let http = reqwest::Client::builder().timeout(Duration::from_millis(500)).build().unwrap();
        loop {
            let services = self.services.lock().unwrap().clone();
            for (place, (base, _)) in services.iter().enumerate() {
                let response = http.get(format!("{base}/readyz")).send().await;
                let is_ready = response.is_ok_and(|response| response.status().is_success());
                let mut services = self.services.lock().unwrap();
                if services[place].0 == *base {
                    services[place].1 = is_ready;
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}
