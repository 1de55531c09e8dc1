//! The sentinel monitor: asks every sentinel regularly for the primary, and listens to their announcements.
//!
//! Each sentinel has a connection of its own, so one that hangs does not delay another. The report with the highest
//! configuration epoch is used, not the majority: a sentinel that missed a failover is out of date. While a failover
//! promotes a replica, the primary counts as unknown, because a write to the old primary would be lost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use fred::{
    clients::SubscriberClient,
    error::Error as FredError,
    interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _},
    prelude::Builder,
    types::{CustomCommand, FromValue, Message},
};
use parking_lot::Mutex;
use tokio::{
    sync::{broadcast::Receiver, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    config::Config,
    endpoint::{Endpoint, Node},
    one_shot::{OneShotConnection, within},
};
use crate::tasks::TaskSupervisor;

/// Time between requests to each sentinel.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long a sentinel may take to answer.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);
/// Older reports are ignored.
const REPORT_TTL: Duration = Duration::from_secs(5);
/// The longest that a failover keeps the primary unknown.
const MAX_FAILOVER_HOLD: Duration = Duration::from_secs(3);

/// A sentinel is about to promote a replica.
const FAILOVER_STARTING: &str = "+failover-state-send-slaveof-noone";
/// Announcements after which the sentinel is asked at once.
const ANNOUNCEMENTS: [&str; 6] = [
    FAILOVER_STARTING,
    "+promoted-slave",
    "+switch-master",
    "+failover-end",
    "-failover-abort-slave-timeout",
    "-failover-abort-master-is-back",
];

/// One sentinel's report on the service.
struct SentinelReport {
    /// The configuration epoch of the last failover.
    epoch: u64,
    primary: Node,
    replicas: Vec<Node>,
    received_at: Instant,
}

/// The reports of all sentinels, and the conclusion from them.
struct SentinelMonitor {
    service_name: String,
    /// By sentinel.
    reports: Mutex<Vec<Option<SentinelReport>>>,
    /// The primary that a failover demotes, and until when it is not used.
    demoting: Mutex<Option<(Node, Instant)>>,
    primary: watch::Sender<Option<Node>>,
    replicas: watch::Sender<Vec<Node>>,
}

/// Starts to ask the sentinels of `config`. Returns the endpoint of the primary, and its connected replicas.
///
/// # Errors
///
/// If the settings are invalid.
pub(super) fn start(
    config: &Config,
    tasks: &TaskSupervisor,
) -> anyhow::Result<(Endpoint, watch::Receiver<Vec<Node>>)> {
    let nodes = config.sentinel_nodes()?;
    let template = config.connection_template().context("redis")?;
    let (primary, primary_rx) = watch::channel(None);
    let (replicas, replicas_rx) = watch::channel(Vec::new());
    let monitor = Arc::new(SentinelMonitor {
        service_name: config.service_name.clone(),
        reports: Mutex::new(nodes.iter().map(|_| None).collect()),
        demoting: Mutex::new(None),
        primary,
        replicas,
    });
    let endpoint = Endpoint::dynamic(template, primary_rx);
    for (index, node) in nodes.into_iter().enumerate() {
        let builder = config.sentinel_builder(endpoint.for_node(&node));
        let sentinel = Sentinel { index, node, builder, monitor: monitor.clone() };
        tasks.spawn_critical("redis sentinel", sentinel.run(tasks.shutdown_token()));
    }
    Ok((endpoint, replicas_rx))
}

impl SentinelMonitor {
    fn on_report(&self, index: usize, report: SentinelReport) {
        let mut reports = self.reports.lock();
        reports[index] = Some(report);
        let current = self.primary.borrow().clone();
        let Some(report) =
            select_report(reports.iter().flatten(), current.as_ref(), Instant::now())
        else {
            return;
        };
        let reported = report.primary.clone();
        self.replicas.send_if_modified(|replicas| set(replicas, report.replicas.clone()));
        let mut demoting = self.demoting.lock();
        let is_demoted = demoting
            .as_ref()
            .is_some_and(|(node, until)| *node == reported && *until > Instant::now());
        if !is_demoted {
            *demoting = None;
        }
        let new = (!is_demoted).then_some(reported);
        self.primary.send_if_modified(|primary| {
            let is_changed = set(primary, new);
            if let (true, Some(node)) = (is_changed, primary) {
                info!(primary = %node, "the sentinels report a new primary");
            }
            is_changed
        });
    }

    /// The primary is unknown until the sentinels report another one.
    fn begin_failover(&self) {
        let Some(node) = self.primary.borrow().clone() else { return };
        info!(primary = %node, "a failover replaces the primary");
        *self.demoting.lock() = Some((node, Instant::now() + MAX_FAILOVER_HOLD));
        self.primary.send_replace(None);
    }

    fn abort_failover(&self) {
        *self.demoting.lock() = None;
    }
}

/// Returns whether the value was different before.
fn set<T: PartialEq>(target: &mut T, value: T) -> bool {
    *target != value && {
        *target = value;
        true
    }
}

/// The report of the highest epoch. Among equals, one that names the `current` primary; of those, the newest.
fn select_report<'a>(
    reports: impl Iterator<Item = &'a SentinelReport>,
    current: Option<&Node>,
    now: Instant,
) -> Option<&'a SentinelReport> {
    reports
        .filter(|report| now.duration_since(report.received_at) < REPORT_TTL)
        .max_by_key(|report| (report.epoch, Some(&report.primary) == current, report.received_at))
}

struct Sentinel {
    index: usize,
    node: Node,
    builder: Builder,
    monitor: Arc<SentinelMonitor>,
}

impl Sentinel {
    async fn run(self, shutdown: CancellationToken) {
        let mut has_failed = false;
        loop {
            let Some(error) = shutdown.run_until_cancelled(self.poll()).await else { return };
            if !std::mem::replace(&mut has_failed, true) {
                warn!(sentinel = %self.node, %error, "a sentinel does not answer");
            }
            if shutdown.run_until_cancelled(sleep(POLL_INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    /// Asks over one connection until it fails.
    async fn poll(&self) -> FredError {
        let mut connection = match SentinelConnection::open(&self.builder).await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        loop {
            match connection.report(&self.monitor.service_name).await {
                Ok(report) => self.monitor.on_report(self.index, report),
                Err(error) => return error,
            }
            tokio::select! {
                () = sleep(POLL_INTERVAL) => (),
                Ok(message) = connection.messages.recv() => self.on_announcement(&message),
            }
        }
    }

    /// Announcements about all services share the channels; each message contains the name of its service.
    fn on_announcement(&self, message: &Message) {
        let text = message.value.as_string().unwrap_or_default();
        if !text.split(' ').any(|word| word == self.monitor.service_name) {
            return;
        }
        match &*message.channel {
            FAILOVER_STARTING => self.monitor.begin_failover(),
            aborted if aborted.starts_with('-') => self.monitor.abort_failover(),
            // The next request follows at once in any case.
            _ => (),
        }
    }
}

/// A connection to one sentinel.
struct SentinelConnection {
    connection: OneShotConnection<SubscriberClient>,
    messages: Receiver<Message>,
}

impl SentinelConnection {
    async fn open(builder: &Builder) -> Result<Self, FredError> {
        let client = builder.build_subscriber_client()?;
        let messages = client.message_rx();
        let connection = OneShotConnection::open(client);
        let client = connection.client();
        within(REPLY_TIMEOUT, async {
            client.wait_for_connect().await?;
            client.subscribe(ANNOUNCEMENTS.to_vec()).await
        })
        .await?;
        Ok(Self { connection, messages })
    }

    async fn report(&self, service: &str) -> Result<SentinelReport, FredError> {
        within(REPLY_TIMEOUT, async {
            // The epoch first: read after the address, it could make an old address look new.
            let status: HashMap<String, String> = self.sentinel("MASTER", service).await?;
            let (host, port) = self.sentinel("GET-MASTER-ADDR-BY-NAME", service).await?;
            let replicas: Vec<HashMap<String, String>> = self.sentinel("REPLICAS", service).await?;
            let epoch = status.get("config-epoch").and_then(|epoch| epoch.parse().ok());
            Ok(SentinelReport {
                epoch: epoch.unwrap_or(0),
                primary: Node { host, port },
                replicas: replicas.iter().filter_map(healthy_replica).collect(),
                received_at: Instant::now(),
            })
        })
        .await
    }

    async fn sentinel<T: FromValue>(&self, command: &str, service: &str) -> Result<T, FredError> {
        let sentinel = CustomCommand::new_static("SENTINEL", None, false);
        let args = vec![command.to_owned(), service.to_owned()];
        self.connection.client().custom(sentinel, args).await
    }
}

/// The address of a replica that runs and is connected to its primary.
fn healthy_replica(fields: &HashMap<String, String>) -> Option<Node> {
    let is_healthy = fields.get("flags")? == "slave" && fields.get("master-link-status")? == "ok";
    let node = Node { host: fields.get("ip")?.clone(), port: fields.get("port")?.parse().ok()? };
    is_healthy.then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        Node { host: "10.0.0.1".to_owned(), port }
    }

    fn report(epoch: u64, port: u16, received_at: Instant) -> SentinelReport {
        SentinelReport { epoch, primary: node(port), replicas: Vec::new(), received_at }
    }

    #[test]
    fn the_highest_epoch_is_used_and_old_reports_are_not() {
        let now = Instant::now();
        let current = node(1);
        let primary = |reports: &[SentinelReport], now| {
            select_report(reports.iter(), Some(&current), now).map(|report| report.primary.clone())
        };
        let reports = [report(3, 1, now), report(4, 2, now), report(3, 1, now)];
        assert_eq!(primary(&reports, now), Some(node(2)));
        let reports = [report(4, 1, now), report(4, 2, now)];
        assert_eq!(primary(&reports, now), Some(node(1)));
        assert_eq!(primary(&reports, now + REPORT_TTL), None);
    }
}
