//! A primary, replicas and sentinels for one test: real processes on free ports, stopped on drop.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use super::{Proxy, TIMEOUT, TestApp, TestRedis, config_for, wait_until};

/// The servers and sentinels of a setup, and their configuration.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) replica_count: usize,
    pub(crate) sentinel_count: usize,
    /// The sentinels' timeout for a primary that does not respond.
    pub(crate) down_after_ms: u32,
    /// Whether each server is behind a [`Proxy`].
    pub(crate) is_proxied: bool,
    /// Further lines for the servers, and for the sentinels.
    pub(crate) server_lines: String,
    pub(crate) sentinel_lines: String,
    /// The directive before the port: `port`, or `port 0` and `tls-port` for TLS.
    pub(crate) port_word: &'static str,
    /// Credentials and TLS for redis-cli at the servers, and at the sentinels.
    pub(crate) cli: Vec<String>,
    pub(crate) sentinel_cli: Vec<String>,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            replica_count: 2,
            sentinel_count: 3,
            down_after_ms: 1000,
            is_proxied: false,
            server_lines: String::new(),
            sentinel_lines: String::new(),
            port_word: "port",
            cli: Vec::new(),
            sentinel_cli: Vec::new(),
        }
    }
}

pub(crate) struct SentinelSetup {
    pub(crate) topology: Topology,
    dir: TempDir,
    pub(crate) servers: Vec<Process>,
    /// The port that each server announces.
    announced: Vec<u16>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) sentinels: Vec<Process>,
}

/// A `redis-server` process, as a server or as a sentinel.
pub(crate) struct Process {
    pub(crate) port: u16,
    config: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl SentinelSetup {
    pub(crate) async fn start() -> Self {
        Self::start_with(Topology::default()).await
    }

    /// Starts all processes and waits until the sentinels can perform a failover.
    pub(crate) async fn start_with(topology: Topology) -> Self {
        let dir = tempfile::Builder::new().prefix("i2m-test-").tempdir().unwrap();
        let server_count = 1 + topology.replica_count;
        let ports = free_ports(2 * server_count + topology.sentinel_count);
        let (server_ports, others) = ports.split_at(server_count);
        let (proxy_ports, sentinel_ports) = others.split_at(server_count);
        let announced = if topology.is_proxied { proxy_ports } else { server_ports };
        let mut setup = Self {
            topology,
            dir,
            servers: Vec::new(),
            announced: announced.to_vec(),
            proxies: Vec::new(),
            sentinels: Vec::new(),
        };
        for (port, announced) in server_ports.iter().zip(announced) {
            setup.add_server(*port, *announced);
            if port != announced {
                setup.proxies.push(Proxy::start(*announced, *port).await);
            }
        }
        let primary = server_ports[0];
        let replica_count = setup.topology.replica_count;
        wait_until("the replicas are online", async || {
            let info = setup.cli(primary, &["info", "replication"]).await;
            info.matches("state=online").count() == replica_count
        })
        .await;
        for index in 0..sentinel_ports.len() {
            setup.add_sentinel(index, announced, sentinel_ports);
        }
        wait_until("every sentinel knows all others", async || {
            for sentinel in &setup.sentinels {
                let reply =
                    setup.ask_sentinel(sentinel.port, &["sentinel", "ckquorum", "mymaster"]).await;
                if !reply.starts_with("OK") {
                    return false;
                }
            }
            true
        })
        .await;
        setup
    }

    fn add_server(&mut self, port: u16, announced: u16) {
        let dir = self.dir.path().join(format!("server-{port}"));
        fs::create_dir(&dir).unwrap();
        let mut text = format!(
            "{} {port}\nbind 127.0.0.1\ndir {}\nsave \"\"\nlogfile redis.log\n\
             repl-diskless-sync yes\nrepl-diskless-sync-delay 0\nreplica-announce-ip 127.0.0.1\n\
             replica-announce-port {announced}\n",
            self.topology.port_word,
            dir.display()
        );
        let primary = self.announced[0];
        if announced != primary {
            writeln!(text, "replicaof 127.0.0.1 {primary}").unwrap();
        }
        text += &self.topology.server_lines;
        self.servers.push(Process::start(port, dir.join("redis.conf"), &text, &[]));
    }

    fn add_sentinel(&mut self, index: usize, servers: &[u16], sentinels: &[u16]) {
        let port = sentinels[index];
        let dir = self.dir.path().join(format!("sentinel-{port}"));
        fs::create_dir(&dir).unwrap();
        let id = |index: usize| format!("{index:040x}");
        let quorum = sentinels.len() / 2 + 1;
        let mut text = format!(
            "{} {port}\nbind 127.0.0.1\ndir {}\nlogfile sentinel.log\nsentinel myid {}\n\
             sentinel announce-ip 127.0.0.1\n\
             sentinel monitor mymaster 127.0.0.1 {} {quorum}\n\
             sentinel down-after-milliseconds mymaster {}\n\
             sentinel failover-timeout mymaster 6000\n",
            self.topology.port_word,
            dir.display(),
            id(index),
            servers[0],
            self.topology.down_after_ms,
        );
        text += &self.topology.sentinel_lines;
        // Discovery would take seconds.
        for replica in &servers[1..] {
            writeln!(text, "sentinel known-replica mymaster 127.0.0.1 {replica}").unwrap();
        }
        for (other, port) in sentinels.iter().enumerate().filter(|entry| entry.0 != index) {
            let id = id(other);
            writeln!(text, "sentinel known-sentinel mymaster 127.0.0.1 {port} {id}").unwrap();
        }
        let process = Process::start(port, dir.join("sentinel.conf"), &text, &["--sentinel"]);
        self.sentinels.push(process);
    }

    /// The value of `I2M__REDIS__SENTINELS`.
    pub(crate) fn addresses(&self) -> String {
        let all: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        all.join(",")
    }

    /// The index of the primary, according to the last sentinel that is running.
    pub(crate) async fn primary(&self) -> usize {
        for sentinel in self.sentinels.iter().rev().filter(|sentinel| sentinel.child.is_some()) {
            let command = ["sentinel", "get-master-addr-by-name", "mymaster"];
            let reply = self.ask_sentinel(sentinel.port, &command).await;
            let port = reply.lines().nth(1).and_then(|port| port.parse::<u16>().ok());
            if let Some(index) = self.announced.iter().position(|other| Some(*other) == port) {
                return index;
            }
        }
        panic!("no sentinel names a primary");
    }

    /// Runs a command on a server with redis-cli.
    pub(crate) async fn cli(&self, port: u16, command: &[&str]) -> String {
        redis_cli(port, &self.topology.cli, command).await
    }

    pub(crate) async fn ask_sentinel(&self, port: u16, command: &[&str]) -> String {
        redis_cli(port, &self.topology.sentinel_cli, command).await
    }

    /// Starts a failover as an operator does, and waits for the new primary.
    pub(crate) async fn fail_over(&self) {
        let before = self.primary().await;
        wait_until("a failover starts", async || {
            let port = self.sentinels[0].port;
            let reply = self.ask_sentinel(port, &["sentinel", "failover", "mymaster"]).await;
            reply.starts_with("OK")
        })
        .await;
        wait_until("another server is the primary", async || self.primary().await != before).await;
    }

    /// Waits until the replicas have all data that the primary has now.
    pub(crate) async fn wait_until_replicated(&self) {
        let port = self.servers[self.primary().await].port;
        let info = async || self.cli(port, &["info", "replication"]).await;
        let number = |text: &str| -> u64 {
            text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
        };
        let required = number(info().await.split_once("master_repl_offset:").unwrap().1);
        wait_until("the replicas are up to date", async || {
            let info = info().await;
            // One line for each replica: state=online,offset=…
            let offsets = info.split("state=online,offset=").skip(1).map(number);
            offsets.filter(|offset| *offset >= required).count() == self.topology.replica_count
        })
        .await;
    }

    /// Starts a service that uses the sentinels, and waits until it is ready.
    pub(crate) async fn serve(&self, settings: &[(&str, &str)]) -> TestApp {
        let app = self.start_serving(settings).await;
        app.wait_until_ready().await;
        app
    }

    /// Starts a service that uses the sentinels.
    pub(crate) async fn start_serving(&self, settings: &[(&str, &str)]) -> TestApp {
        let addresses = self.addresses();
        let mut all = vec![("redis.mode", "sentinel"), ("redis.sentinels", addresses.as_str())];
        all.extend(settings);
        // Not started; the service uses only its folder.
        let redis = TestRedis::prepare(&[]);
        let config = config_for(&redis, &all);
        TestApp::start_on(redis, config).await
    }
}

impl Process {
    pub(super) fn start(port: u16, config: PathBuf, text: &str, arguments: &[&str]) -> Self {
        fs::write(&config, text).unwrap();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut process = Self { port, config, arguments, child: None };
        process.start_again();
        process
    }

    pub(crate) fn start_again(&mut self) {
        let output = File::create(self.config.with_extension("out")).unwrap();
        let child = Command::new("redis-server")
            .arg(&self.config)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        let deadline = std::time::Instant::now() + TIMEOUT;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(std::time::Instant::now() < deadline, "no connection to port {}", self.port);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Kills the process.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal: `STOP` suspends the process, `CONT` resumes it.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asynchronous, because the service under test may run on the same thread.
pub(super) async fn redis_cli(port: u16, options: &[String], command: &[&str]) -> String {
    // `timeout` keeps a server that hangs from blocking the test.
    let output = tokio::process::Command::new("timeout")
        .args(["2", "redis-cli", "-p", &port.to_string(), "--no-auth-warning"])
        .args(options)
        .args(command)
        .output()
        .await
        .expect("redis-cli is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Different ports that were free a moment ago. They are below the system's ephemeral range, and each test process
/// starts at another offset, so that other processes are unlikely to take them.
pub(super) fn free_ports(count: usize) -> Vec<u16> {
    const FIRST: u32 = 10_000;
    const PROCESSES: u32 = 1000;
    const EACH: u32 = 20;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = FIRST + std::process::id() % PROCESSES * EACH;
    let mut held: Vec<TcpListener> = Vec::new();
    while held.len() < count {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (begin - FIRST + offset) % (PROCESSES * EACH);
        held.extend(TcpListener::bind(("127.0.0.1", u16::try_from(port).unwrap())));
    }
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}
