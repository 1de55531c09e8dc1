//! Redis with sentinels, two services, and a load balancer in front of them.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::{JoinSet, block_in_place};

use super::{balancer::Balancer, event_log::EventLog, fault::Fault};
use crate::harness::{GatewayProcess, SentinelSetup, Topology, wait_until};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Durability {
    Async,
    Wait,
}

pub(super) struct DeploymentEnvironment {
    pub(super) setup: SentinelSetup,
    pub(super) services: Vec<GatewayProcess>,
    pub(super) balancer: Arc<Balancer>,
    pub(super) log: EventLog,
    environment: Vec<(&'static str, String)>,
    dir: TempDir,
    _polling: JoinSet<()>,
}

impl DeploymentEnvironment {
    pub(super) async fn start(fault: Fault, durability: Durability) -> Self {
        let topology = Topology {
            is_proxied: fault.is_network_fault(),
            server_lines: "enable-debug-command yes\nloading-process-events-interval-bytes 1024\n"
                .to_owned(),
            ..Topology::default()
        };
        let setup = SentinelSetup::start_with(topology).await;
        let dir = tempfile::Builder::new().prefix("i2m-test-").tempdir().unwrap();
        let mut environment = vec![
            ("I2M__REDIS__MODE", "sentinel".to_owned()),
            ("I2M__REDIS__SENTINELS", setup.addresses()),
            ("I2M__REDIS__DURABILITY", format!("{durability:?}").to_lowercase()),
            ("I2M__AUTH__TICKET_SECRETS", "the same for both services".to_owned()),
            ("I2M__RATE_LIMIT__ENABLED", "false".to_owned()),
            ("I2M__SERVER__SHUTDOWN_DELAY", "500ms".to_owned()),
            ("I2M__SERVER__DRAIN_SPREAD", "500ms".to_owned()),
            ("I2M__SSE__RETRY", "100ms".to_owned()),
        ];
        if fault == Fault::ClockJump {
            std::fs::write(dir.path().join("clock"), "+0\n").unwrap();
            environment.extend([
                ("LD_PRELOAD", libfaketime().display().to_string()),
                ("FAKETIME_TIMESTAMP_FILE", dir.path().join("clock").display().to_string()),
                ("FAKETIME_NO_CACHE", "1".to_owned()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ]);
        }
        let balancer = Arc::new(Balancer::default());
        let mut polling = JoinSet::new();
        let polled_balancer = balancer.clone();
        polling.spawn(async move { polled_balancer.poll().await });
        let mut deployment = Self {
            setup,
            services: Vec::new(),
            balancer,
            log: EventLog::default(),
            environment,
            dir,
            _polling: polling,
        };
        for index in 0..2 {
            deployment.start_service(index).await;
        }
        deployment
    }

    /// Starts a service in place of the one with the same index, and waits until it is ready.
    pub(super) async fn start_service(&mut self, index: usize) {
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|variable| (variable.0, variable.1.as_str())).collect();
        let service = block_in_place(|| GatewayProcess::start(self.dir.path(), &environment));
        let ready = format!("{}/readyz", service.base);
        wait_until("the service is ready", async || {
            reqwest::get(&ready).await.is_ok_and(|response| response.status().is_success())
        })
        .await;
        self.balancer.set(index, &service.base);
        if index < self.services.len() {
            self.services[index] = service;
        } else {
            self.services.push(service);
        }
    }

    /// Sets the clock of the services ahead and waits until their health reports show the new time.
    pub(super) async fn jump(&self, ahead: Duration) {
        let text = format!("+{}\n", ahead.as_secs());
        std::fs::write(self.dir.path().join("clock"), text).unwrap();
        for service in &self.services {
            let url = format!("{}/health", service.base);
            wait_until("the clock of the service is ahead", async || {
                let health: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
                let reported: DateTime<Utc> =
                    health["timestamp"].as_str().unwrap().parse().unwrap();
                (reported - Utc::now()).to_std().is_ok_and(|offset| offset > ahead / 2)
            })
            .await;
        }
    }
}

fn libfaketime() -> PathBuf {
    let found = Command::new("sh")
        .args([
            "-c",
            "ls /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib64/faketime/libfaketimeMT.so.1",
        ])
        .output()
        .unwrap();
    let paths = String::from_utf8(found.stdout).unwrap();
    PathBuf::from(paths.lines().next().expect("make test-chaos has set up libfaketime"))
}
