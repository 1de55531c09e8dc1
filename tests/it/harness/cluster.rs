//! A Redis Cluster for one test: real processes on free ports, stopped on drop.

use std::fs;

use tempfile::TempDir;

use super::{
    TIMEOUT, TestApp, TestRedis, config_for,
    sentinel::{Process, free_ports, redis_cli},
    wait_until,
};

/// The nodes' timeout for a node that does not respond.
const NODE_TIMEOUT_MS: u32 = 1000;

pub(crate) struct ClusterSetup {
    dir: TempDir,
    /// The initial primaries, then one replica of each in the same order, perhaps further replicas, then added nodes.
    pub(crate) nodes: Vec<Process>,
    shard_count: usize,
    replica_count: usize,
    connect_via: ConnectVia,
}

/// How clients and nodes connect to a node.
#[derive(Clone, Default)]
pub(crate) struct ConnectVia {
    /// Further lines for the nodes.
    pub(crate) lines: String,
    /// Whether the nodes accept only TLS.
    pub(crate) tls: bool,
    /// Credentials and TLS for redis-cli.
    pub(crate) cli: Vec<String>,
}

impl ClusterSetup {
    /// Starts primaries with one replica each and waits until every node knows all others.
    pub(crate) async fn start(shard_count: usize) -> Self {
        Self::start_with(shard_count, 1, ConnectVia::default()).await
    }

    /// [`Self::start`] with another number of replicas and other connection options.
    pub(crate) async fn start_with(
        shard_count: usize,
        replica_count: usize,
        connect_via: ConnectVia,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("i2m-test-").tempdir().unwrap();
        let mut setup = Self { dir, nodes: Vec::new(), shard_count, replica_count, connect_via };
        for _ in 0..(1 + replica_count) * shard_count {
            setup.start_node();
        }
        for shard in 0..shard_count {
            let (first, last) =
                (shard * 16384 / shard_count, (shard + 1) * 16384 / shard_count - 1);
            let (first, last, epoch) =
                (first.to_string(), last.to_string(), (shard + 1).to_string());
            setup.ask(shard, &["cluster", "addslotsrange", &first, &last]).await;
            setup.ask(shard, &["cluster", "set-config-epoch", &epoch]).await;
        }
        for node in 1..setup.nodes.len() {
            setup.meet(node).await;
        }
        for replica in shard_count..setup.nodes.len() {
            let id = setup.id(replica % shard_count).await;
            wait_until("the replica has a primary", async || {
                setup.ask(replica, &["cluster", "replicate", &id]).await.starts_with("OK")
            })
            .await;
        }
        wait_until("every node knows all others", async || setup.is_whole().await).await;
        setup
    }

    /// Starts another node, which the others do not know yet. Returns its index in `nodes`.
    pub(crate) fn start_node(&mut self) -> usize {
        let ports = free_ports(2);
        let dir = self.dir.path().join(format!("node-{}", ports[0]));
        fs::create_dir(&dir).unwrap();
        let text = format!(
            "{} {}\ncluster-port {}\nbind 127.0.0.1\ndir {}\nsave \"\"\nlogfile redis.log\n\
             cluster-enabled yes\ncluster-node-timeout {NODE_TIMEOUT_MS}\n\
             cluster-require-full-coverage no\ncluster-replica-validity-factor 0\n\
             repl-diskless-sync yes\nrepl-diskless-sync-delay 0\n{}",
            if self.connect_via.tls { "port 0\ntls-port" } else { "port" },
            ports[0],
            ports[1],
            dir.display(),
            self.connect_via.lines
        );
        self.nodes.push(Process::start(ports[0], dir.join("redis.conf"), &text, &[]));
        self.nodes.len() - 1
    }

    /// Introduces a node to the others.
    pub(crate) async fn meet(&self, node: usize) {
        let (port, bus) = (self.nodes[0].port.to_string(), self.bus_port(0));
        self.ask(node, &["cluster", "meet", "127.0.0.1", &port, &bus]).await;
    }

    fn bus_port(&self, node: usize) -> String {
        let dir = self.dir.path().join(format!("node-{}", self.nodes[node].port));
        let text = fs::read_to_string(dir.join("redis.conf")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("cluster-port ")).unwrap();
        line.to_owned()
    }

    async fn is_whole(&self) -> bool {
        for node in 0..self.nodes.len() {
            let info = self.ask(node, &["cluster", "info"]).await;
            let nodes = self.ask(node, &["cluster", "nodes"]).await;
            let replicas = nodes.lines().filter(|line| {
                line.contains("slave") && line.contains(" connected") && !line.contains("fail")
            });
            if !info.contains("cluster_state:ok")
                || replicas.count() != self.shard_count * self.replica_count
            {
                return false;
            }
        }
        for replica in self.shard_count..self.nodes.len() {
            let info = self.ask(replica, &["info", "replication"]).await;
            if !info.contains("master_link_status:up") {
                return false;
            }
        }
        true
    }

    /// Runs a command on a node with redis-cli.
    pub(crate) async fn ask(&self, node: usize, command: &[&str]) -> String {
        redis_cli(self.nodes[node].port, &self.connect_via.cli, command).await
    }

    pub(crate) async fn id(&self, node: usize) -> String {
        self.ask(node, &["cluster", "myid"]).await.trim().to_owned()
    }

    /// Whether a node is a primary with slots, as seen by `observer`.
    pub(crate) async fn is_primary(&self, observer: usize, node: usize) -> bool {
        let port = format!(":{}@", self.nodes[node].port);
        let seen = self.ask(observer, &["cluster", "nodes"]).await;
        seen.lines().any(|line| {
            line.contains(&port)
                && line.contains("master")
                && line.split(' ').count() > 8
                && !line.contains("fail")
        })
    }

    /// Moves the slot with all its keys, as `redis-cli --cluster reshard` does.
    pub(crate) async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (slot, source, target) = (slot.to_string(), self.id(from).await, self.id(to).await);
        let set = async |node, how: &str, id: &str| {
            self.ask(node, &["cluster", "setslot", &slot, how, id]).await;
        };
        set(to, "importing", &source).await;
        set(from, "migrating", &target).await;
        let port = self.nodes[to].port.to_string();
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        loop {
            let keys = self.ask(from, &["cluster", "getkeysinslot", &slot, "100"]).await;
            let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            let migrate = ["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
            self.ask(from, &[&migrate[..], &keys].concat()).await;
            assert!(tokio::time::Instant::now() < deadline, "timeout: the slot still has keys");
        }
        for node in [to, from] {
            set(node, "node", &target).await;
        }
    }

    /// Starts a service that knows one node of the cluster, and waits until it is ready.
    pub(crate) async fn serve(&self, settings: &[(&str, &str)]) -> TestApp {
        let seed = format!("127.0.0.1:{}", self.nodes[0].port);
        let mut all = vec![("redis.mode", "cluster"), ("redis.nodes", seed.as_str())];
        all.extend([("redis.failover_wait", "10s"), ("server.request_timeout", "20s")]);
        all.extend(settings);
        // Not started; the service uses only its folder.
        let redis = TestRedis::prepare(&[]);
        let config = config_for(&redis, &all);
        let app = TestApp::start_on(redis, config).await;
        app.wait_until_ready().await;
        app
    }
}
