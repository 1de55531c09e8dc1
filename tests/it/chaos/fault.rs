//! The faults that the tests inject.

use std::time::{Duration, Instant};

use tokio::task::block_in_place;

use super::deployment::{DeploymentEnvironment, Durability};
use crate::harness::{NetworkFault, wait_until};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    PrimaryKilled,
    PrimaryHung,
    Failover,
    SentinelKilled,
    ReplicaKilled,
    Partition,
    ServiceKilled,
    RollingRestart,
    OutOfMemory,
    Loading,
    Latency,
    ClockJump,
}

/// Every fault with `durability = "wait"`, and those that move the primary with `async`, too.
pub(super) fn plan() -> Vec<(Fault, Durability)> {
    use Fault::{
        ClockJump, Failover, Latency, Loading, OutOfMemory, Partition, PrimaryHung, PrimaryKilled,
        ReplicaKilled, RollingRestart, SentinelKilled, ServiceKilled,
    };
    let moving = [PrimaryKilled, PrimaryHung, Failover];
    let others = [
        SentinelKilled,
        ReplicaKilled,
        Partition,
        ServiceKilled,
        RollingRestart,
        OutOfMemory,
        Loading,
        Latency,
        ClockJump,
    ];
    let waiting = moving.iter().chain(&others).map(|fault| (*fault, Durability::Wait));
    waiting.chain(moving.iter().map(|fault| (*fault, Durability::Async))).collect()
}

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PrimaryKilled => "`kill -9` of the primary",
            Self::PrimaryHung => "primary hung (SIGSTOP)",
            Self::Failover => "`SENTINEL FAILOVER`",
            Self::SentinelKilled => "`kill -9` of a sentinel",
            Self::ReplicaKilled => "`kill -9` of a replica",
            Self::Partition => "services cut off from the primary until neither is ready",
            Self::ServiceKilled => "`kill -9` of one of two services",
            Self::RollingRestart => "rolling restart of both services",
            Self::OutOfMemory => "Redis out of memory for 300 requests",
            Self::Loading => "Redis loading its data",
            Self::Latency => "200 ms of latency for 300 requests",
            Self::ClockJump => "the services' clock jumps ahead an hour, and both restart",
        }
    }

    pub(super) fn is_network_fault(self) -> bool {
        matches!(self, Self::Partition | Self::Latency)
    }

    /// Injects the fault. Returns the duration of the failover, if there was one.
    pub(super) async fn inject(self, deployment: &mut DeploymentEnvironment) -> Option<Duration> {
        let primary = deployment.setup.primary().await;
        let port = deployment.setup.servers[primary].port;
        let began = Instant::now();
        match self {
            Self::PrimaryKilled => deployment.setup.servers[primary].kill(),
            Self::PrimaryHung => deployment.setup.servers[primary].signal("STOP"),
            Self::Failover => deployment.setup.fail_over().await,
            Self::SentinelKilled => {
                deployment.setup.sentinels[0].kill();
                wait_until_missed(deployment, "sentinels").await;
            }
            Self::ReplicaKilled => {
                deployment.setup.servers[(primary + 1) % 3].kill();
                wait_until_missed(deployment, "replicas").await;
            }
            Self::Partition => {
                set_network_fault(
                    deployment,
                    NetworkFault { is_cut: true, ..NetworkFault::default() },
                );
                let is_seen =
                    async || !deployment.balancer.is_ready(0) && !deployment.balancer.is_ready(1);
                wait_until("both services are not ready", is_seen).await;
                set_network_fault(deployment, NetworkFault::default());
            }
            Self::Latency => {
                let delay = Duration::from_millis(100);
                set_network_fault(deployment, NetworkFault { delay, ..NetworkFault::default() });
                deployment.log.wait_for_requests(300).await;
                set_network_fault(deployment, NetworkFault::default());
            }
            Self::ServiceKilled => kill_and_restart_service(deployment).await,
            Self::RollingRestart => restart_all(deployment).await,
            Self::OutOfMemory => {
                deployment.setup.cli(port, &["config", "set", "maxmemory", "1"]).await;
                deployment.log.wait_for_failures(300).await;
                deployment.setup.cli(port, &["config", "set", "maxmemory", "0"]).await;
            }
            Self::Loading => {
                deployment.setup.cli(port, &["config", "set", "key-load-delay", "300"]).await;
                deployment.setup.cli(port, &["debug", "reload"]).await;
            }
            Self::ClockJump => {
                deployment.jump(Duration::from_hours(1)).await;
                // Browsers must reconnect after the jump with tickets from before it.
                restart_all(deployment).await;
            }
        }
        if !matches!(self, Self::PrimaryKilled | Self::PrimaryHung | Self::Failover) {
            return None;
        }
        wait_until("another server is the primary", async || {
            deployment.setup.primary().await != primary
        })
        .await;
        Some(began.elapsed())
    }

    /// Reverts the effects that the measurement must not see.
    pub(super) async fn undo(self, deployment: &mut DeploymentEnvironment) {
        if self == Self::PrimaryHung {
            let primary = deployment.setup.primary().await;
            for (index, server) in deployment.setup.servers.iter().enumerate() {
                if index != primary {
                    server.signal("CONT");
                }
            }
        }
    }
}

/// Waits until a sentinel reports that one of the other `nodes`, `sentinels` or `replicas`, is down.
async fn wait_until_missed(deployment: &DeploymentEnvironment, nodes: &str) {
    let port = deployment.setup.sentinels[1].port;
    wait_until("a sentinel reports the node down", async || {
        let reply = deployment.setup.ask_sentinel(port, &["sentinel", nodes, "mymaster"]).await;
        reply.contains("s_down")
    })
    .await;
}

fn set_network_fault(deployment: &DeploymentEnvironment, fault: NetworkFault) {
    for proxy in &deployment.setup.proxies {
        proxy.fault.send_replace(fault);
    }
}

/// Restarts the services one after another.
async fn kill_and_restart_service(deployment: &mut DeploymentEnvironment) {
    deployment.services[0].signal("KILL");
    wait_until("the load balancer detects the failure", async || !deployment.balancer.is_ready(0))
        .await;
    deployment.log.wait_for_requests(100).await;
    deployment.start_service(0).await;
}

async fn restart_all(deployment: &mut DeploymentEnvironment) {
    for index in 0..2 {
        deployment.services[index].signal("TERM");
        block_in_place(|| deployment.services[index].wait());
        deployment.start_service(index).await;
    }
}
