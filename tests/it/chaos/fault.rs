//! What can go wrong.

use std::time::{Duration, Instant};

use tokio::task::block_in_place;

use super::world::{Durability, World};
use crate::harness::{Weather, until};

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

/// Every fault with `wait`, and the three that move the primary without.
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
    let waiting = moving.iter().chain(&others).map(|it| (*it, Durability::Wait));
    waiting.chain(moving.iter().map(|it| (*it, Durability::Async))).collect()
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

    pub(super) fn is_of_the_network(self) -> bool {
        matches!(self, Self::Partition | Self::Latency)
    }

    /// Does it. Returns how long the sentinels needed for a new primary, if there had to be one.
    pub(super) async fn strike(self, world: &mut World) -> Option<Duration> {
        let primary = world.setup.primary().await;
        let port = world.setup.servers[primary].port;
        let began = Instant::now();
        match self {
            Self::PrimaryKilled => world.setup.servers[primary].kill(),
            Self::PrimaryHung => world.setup.servers[primary].signal("STOP"),
            Self::Failover => world.setup.fail_over().await,
            Self::SentinelKilled => {
                world.setup.sentinels[0].kill();
                until_missed(world, "sentinels").await;
            }
            Self::ReplicaKilled => {
                world.setup.servers[(primary + 1) % 3].kill();
                until_missed(world, "replicas").await;
            }
            Self::Partition => {
                change(world, Weather { is_cut: true, ..Weather::default() });
                let is_seen = async || !world.balancer.is_ready(0) && !world.balancer.is_ready(1);
                until("both services notice", is_seen).await;
                change(world, Weather::default());
            }
            Self::Latency => {
                let delay = Duration::from_millis(100);
                change(world, Weather { delay, ..Weather::default() });
                world.ledger.until_more_requests(300).await;
                change(world, Weather::default());
            }
            Self::ServiceKilled => {
                world.services[0].signal("KILL");
                until("the load balancer notices", async || !world.balancer.is_ready(0)).await;
                world.ledger.until_more_requests(100).await;
                world.start_service(0).await;
            }
            Self::RollingRestart => restart_all(world).await,
            Self::OutOfMemory => {
                world.setup.cli(port, &["config", "set", "maxmemory", "1"]).await;
                world.ledger.until_more_failures(300).await;
                world.setup.cli(port, &["config", "set", "maxmemory", "0"]).await;
            }
            Self::Loading => {
                world.setup.cli(port, &["config", "set", "key-load-delay", "300"]).await;
                world.setup.cli(port, &["debug", "reload"]).await;
            }
            Self::ClockJump => {
                world.jump(Duration::from_hours(1)).await;
                // So that browsers come back to the later time with what they got at the earlier.
                restart_all(world).await;
            }
        }
        if !matches!(self, Self::PrimaryKilled | Self::PrimaryHung | Self::Failover) {
            return None;
        }
        until("there is another primary", async || world.setup.primary().await != primary).await;
        Some(began.elapsed())
    }

    /// What must not stay for the end.
    pub(super) async fn undo(self, world: &mut World) {
        if self == Self::PrimaryHung {
            let primary = world.setup.primary().await;
            for (index, server) in world.setup.servers.iter().enumerate() {
                if index != primary {
                    server.signal("CONT");
                }
            }
        }
    }
}

/// Waits until a sentinel says that one of the others, or of the replicas, is down.
async fn until_missed(world: &World, whom: &str) {
    let port = world.setup.sentinels[1].port;
    until("a sentinel misses it", async || {
        let said = world.setup.ask_sentinel(port, &["sentinel", whom, "mymaster"]).await;
        said.contains("s_down")
    })
    .await;
}

fn change(world: &World, weather: Weather) {
    for proxy in &world.setup.proxies {
        proxy.weather.send_replace(weather);
    }
}

/// As a Deployment does it: a new one is ready before an old one is told to stop.
async fn restart_all(world: &mut World) {
    for place in 0..2 {
        world.services[place].signal("TERM");
        block_in_place(|| world.services[place].wait());
        world.start_service(place).await;
    }
}
