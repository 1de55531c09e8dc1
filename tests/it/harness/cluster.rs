//! A Redis Cluster of a test's own: real processes on free ports, gone with the test.

use std::fs;

use tempfile::TempDir;

use super::{
    PATIENCE, TestApp, TestRedis, config_for,
    sentinel::{Process, free_ports, redis_cli},
    until,
};

/// How long the nodes are patient with one that is silent.
const NODE_TIMEOUT_MS: u32 = 1000;

pub(crate) struct ClusterSetup {
    dir: TempDir,
    /// The primaries of the start, then a replica of each in the same order, perhaps another, then who was added.
    pub(crate) nodes: Vec<Process>,
    n_shards: usize,
    n_replicas: usize,
    way: Way,
}

/// How nodes are reached.
#[derive(Clone, Default)]
pub(crate) struct Way {
    /// Further lines for the nodes.
    pub(crate) lines: String,
    /// Whether they speak TLS only.
    pub(crate) tls: bool,
    /// Credentials and TLS for redis-cli.
    pub(crate) cli: Vec<String>,
}

impl ClusterSetup {
    /// Starts primaries with a replica each and waits until all know all.
    pub(crate) async fn start(n_shards: usize) -> Self {
        Self::start_with(n_shards, 1, Way::default()).await
    }

    /// The same with more replicas of each, or reached in another way.
    pub(crate) async fn start_with(n_shards: usize, n_replicas: usize, way: Way) -> Self {
        let dir = tempfile::Builder::new().prefix("i2m-test-").tempdir().unwrap();
        let mut setup = Self { dir, nodes: Vec::new(), n_shards, n_replicas, way };
        for _ in 0..(1 + n_replicas) * n_shards {
            setup.start_node();
        }
        for shard in 0..n_shards {
            let (first, last) = (shard * 16384 / n_shards, (shard + 1) * 16384 / n_shards - 1);
            let (first, last, epoch) =
                (first.to_string(), last.to_string(), (shard + 1).to_string());
            setup.ask(shard, &["cluster", "addslotsrange", &first, &last]).await;
            setup.ask(shard, &["cluster", "set-config-epoch", &epoch]).await;
        }
        for node in 1..setup.nodes.len() {
            setup.meet(node).await;
        }
        for replica in n_shards..setup.nodes.len() {
            let id = setup.id(replica % n_shards).await;
            until("the replica has a primary", async || {
                setup.ask(replica, &["cluster", "replicate", &id]).await.starts_with("OK")
            })
            .await;
        }
        until("every node knows all", async || setup.is_whole().await).await;
        setup
    }

    /// Another node that nobody knows yet; its place in `nodes`.
    pub(crate) fn start_node(&mut self) -> usize {
        let ports = free_ports(2);
        let dir = self.dir.path().join(format!("node-{}", ports[0]));
        fs::create_dir(&dir).unwrap();
        let text = format!(
            "{} {}\ncluster-port {}\nbind 127.0.0.1\ndir {}\nsave \"\"\nlogfile redis.log\n\
             cluster-enabled yes\ncluster-node-timeout {NODE_TIMEOUT_MS}\n\
             cluster-require-full-coverage no\ncluster-replica-validity-factor 0\n\
             repl-diskless-sync yes\nrepl-diskless-sync-delay 0\n{}",
            if self.way.tls { "port 0\ntls-port" } else { "port" },
            ports[0],
            ports[1],
            dir.display(),
            self.way.lines
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
        let line = text.lines().find_map(|it| it.strip_prefix("cluster-port ")).unwrap();
        line.to_owned()
    }

    async fn is_whole(&self) -> bool {
        for node in 0..self.nodes.len() {
            let info = self.ask(node, &["cluster", "info"]).await;
            let nodes = self.ask(node, &["cluster", "nodes"]).await;
            let replicas = nodes.lines().filter(|it| {
                it.contains("slave") && it.contains(" connected") && !it.contains("fail")
            });
            if !info.contains("cluster_state:ok")
                || replicas.count() != self.n_shards * self.n_replicas
            {
                return false;
            }
        }
        for replica in self.n_shards..self.nodes.len() {
            let info = self.ask(replica, &["info", "replication"]).await;
            if !info.contains("master_link_status:up") {
                return false;
            }
        }
        true
    }

    /// Runs a command at a node as redis-cli does.
    pub(crate) async fn ask(&self, node: usize, command: &[&str]) -> String {
        redis_cli(self.nodes[node].port, &self.way.cli, command).await
    }

    pub(crate) async fn id(&self, node: usize) -> String {
        self.ask(node, &["cluster", "myid"]).await.trim().to_owned()
    }

    /// Whether a node is a primary with slots, as `witness` sees it.
    pub(crate) async fn is_primary(&self, witness: usize, node: usize) -> bool {
        let port = format!(":{}@", self.nodes[node].port);
        let seen = self.ask(witness, &["cluster", "nodes"]).await;
        seen.lines().any(|it| {
            it.contains(&port)
                && it.contains("master")
                && it.split(' ').count() > 8
                && !it.contains("fail")
        })
    }

    /// Moves the slot with all its keys, as redis-cli's reshard does.
    pub(crate) async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (slot, source, target) = (slot.to_string(), self.id(from).await, self.id(to).await);
        let set = async |node, how: &str, id: &str| {
            self.ask(node, &["cluster", "setslot", &slot, how, id]).await;
        };
        set(to, "importing", &source).await;
        set(from, "migrating", &target).await;
        let port = self.nodes[to].port.to_string();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let keys = self.ask(from, &["cluster", "getkeysinslot", &slot, "100"]).await;
            let keys: Vec<&str> = keys.lines().filter(|it| !it.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            let migrate = ["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
            self.ask(from, &[&migrate[..], &keys].concat()).await;
            assert!(tokio::time::Instant::now() < deadline, "the slot is never empty");
        }
        for node in [to, from] {
            set(node, "node", &target).await;
        }
    }

    /// A service on the cluster, which it is told one node of.
    pub(crate) async fn serve(&self, settings: &[(&str, &str)]) -> TestApp {
        let seed = format!("127.0.0.1:{}", self.nodes[0].port);
        let mut all = vec![("redis.mode", "cluster"), ("redis.nodes", seed.as_str())];
        all.extend([("redis.failover_wait", "10s"), ("server.request_timeout", "20s")]);
        all.extend(settings);
        // Never started; the service keeps things in its folder.
        let redis = TestRedis::prepare(&[]);
        let config = config_for(&redis, &all);
        let app = TestApp::start_on(redis, config).await;
        app.until_ready().await;
        app
    }
}
