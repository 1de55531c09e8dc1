//! A real Redis for one test, on a Unix socket in a temporary folder, stopped on drop.
//!
//! With `I2M_TEST_REDIS=cluster` it is a cluster of one node, with a second Redis for Celery, so that the same tests
//! run on both. One node checks slots as strictly as many; `cluster.rs` starts clusters of several nodes.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

use fred::{
    clients::Client,
    interfaces::ClientLike,
    prelude::{Builder, ReconnectPolicy},
    types::{
        ClusterHash, CustomCommand, Value,
        config::{Config, ServerConfig},
    },
};
use tempfile::TempDir;

use super::{TIMEOUT, layout, sentinel::free_ports};

pub(crate) struct TestRedis {
    dir: TempDir,
    child: Option<Child>,
    extra: Vec<String>,
    cluster: Option<Node>,
    settings: [(&'static str, &'static str); 2],
}

/// A cluster of one node.
struct Node {
    port: u16,
    bus_port: u16,
    child: Option<Child>,
}

/// Commands without keys.
const WITHOUT_KEYS: [&str; 10] = [
    "INFO", "CONFIG", "TIME", "PUBSUB", "CLIENT", "PUBLISH", "SCRIPT", "SLOWLOG", "ACL", "LATENCY",
];

/// Whether Celery uses the channel.
fn is_celery_channel(channel: &&str) -> bool {
    channel.starts_with("celery") || channel.starts_with('/')
}

/// Whether the tests run on a cluster.
#[expect(clippy::disallowed_methods, reason = "a setting of the test run, not of the service")]
pub(crate) fn is_on_cluster() -> bool {
    std::env::var("I2M_TEST_REDIS").is_ok_and(|backend| backend == "cluster")
}

impl TestRedis {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a Redis with further command line arguments.
    pub(crate) fn start_with(extra: &[&str]) -> Self {
        let mut redis = Self::prepare(extra);
        redis.start_again();
        redis
    }

    /// A Redis that is not started.
    pub(crate) fn prepare(extra: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("i2m-test-").tempdir().unwrap();
        let cluster = is_on_cluster().then(|| {
            let ports = free_ports(2);
            Node { port: ports[0], bus_port: ports[1], child: None }
        });
        let socket = dir.path().join("redis.sock").display().to_string();
        let settings = match &cluster {
            None => [
                ("I2M__REDIS__URL", format!("redis+unix://{socket}").leak() as &str),
                ("I2M__CELERY__BROKER_URL", ""),
            ],
            Some(node) => [
                ("I2M__REDIS__NODES", format!("127.0.0.1:{}", node.port).leak() as &str),
                ("I2M__CELERY__BROKER_URL", format!("redis+unix://{socket}").leak() as &str),
            ],
        };
        let extra = extra.iter().map(|argument| (*argument).to_owned()).collect();
        Self { dir, child: None, extra, cluster, settings }
    }

    /// Adds command line arguments.
    pub(crate) fn with(mut self, extra: &[&str]) -> Self {
        self.extra.extend(extra.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Starts the server with the data of the last run, if any, and waits until it responds.
    pub(crate) fn start_again(&mut self) {
        self.child = Some(self.spawn("redis", &["--port", "0"]));
        if let Some(node) = &self.cluster {
            let (port, bus) = (node.port.to_string(), node.bus_port.to_string());
            let arguments = [
                "--port",
                &port,
                "--cluster-port",
                &bus,
                "--cluster-enabled",
                "yes",
                "--appenddirname",
                "node",
            ];
            let child = self.spawn("node", &arguments);
            self.cluster.as_mut().unwrap().child = Some(child);
        }
        self.wait("redis-server responds", Self::is_up);
        if self.cluster.is_some() {
            self.wait("all slots are assigned", |redis| {
                _ = redis.send_to_node("CLUSTER ADDSLOTSRANGE 0 16383");
                redis.send_to_node("CLUSTER INFO").contains("cluster_state:ok")
            });
        }
    }

    fn spawn(&self, name: &str, arguments: &[&str]) -> Child {
        let dir = self.dir.path();
        let log = dir.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        Command::new("redis-server")
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
            .arg("--unixsocket")
            .arg(dir.join(format!("{name}.sock")))
            .arg("--dir")
            .arg(dir)
            .args(arguments)
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed")
    }

    fn wait(&self, condition: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = std::time::Instant::now() + TIMEOUT;
        while !holds(self) {
            assert!(std::time::Instant::now() < deadline, "timeout: {condition}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn is_up(&self) -> bool {
        let is_ready = |response: String| !response.is_empty() && !response.starts_with("-LOAD");
        is_ready(self.send_inline("redis", "PING"))
            && (self.cluster.is_none() || is_ready(self.send_to_node("PING")))
    }

    fn send_to_node(&self, command: &str) -> String {
        self.send_inline("node", command)
    }

    /// Sends an inline command over a new connection. Returns an empty string on failure.
    fn send_inline(&self, name: &str, command: &str) -> String {
        use std::io::{Read as _, Write as _};

        let socket = self.dir.path().join(format!("{name}.sock"));
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else {
            return String::new();
        };
        let mut response = vec![0; 4096];
        let written = stream.write_all(format!("{command}\r\n").as_bytes());
        let n = written.and_then(|()| stream.read(&mut response)).unwrap_or(0);
        String::from_utf8_lossy(&response[..n]).into_owned()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The settings of a service that uses this Redis.
    pub(crate) fn settings(&self) -> [(&'static str, &'static str); 2] {
        self.settings
    }

    /// Deletes the data on disk.
    pub(crate) fn delete_data(&self) {
        for entry in ["appendonlydir", "node", "dump.rdb", "nodes.conf"] {
            let path = self.dir.path().join(entry);
            _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
    }

    fn children(&self) -> impl Iterator<Item = &Child> {
        self.child.iter().chain(self.cluster.iter().flat_map(|node| &node.child))
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        let node = self.cluster.as_mut().and_then(|node| node.child.take());
        for mut child in self.child.take().into_iter().chain(node) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal: `STOP` suspends the server, `CONT` resumes it.
    pub(crate) fn signal(&self, signal: &str) {
        for child in self.children() {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        }
    }

    /// A client for the test.
    pub(crate) async fn client(&self, database: u8) -> Client {
        // In a cluster, database 0 is that of the broker.
        let (name, database) = match self.cluster {
            Some(_) if database > 0 => ("node", 0),
            _ => ("redis", database),
        };
        let server = ServerConfig::Unix { path: self.dir.path().join(format!("{name}.sock")) };
        let config = Config { server, database: Some(database), ..Config::default() };
        let client = Builder::from_config(config)
            .set_policy(ReconnectPolicy::new_constant(0, 20))
            .with_connection_config(|connection| connection.connection_timeout = TIMEOUT)
            .with_performance_config(|performance| performance.default_command_timeout = TIMEOUT)
            .build()
            .unwrap();
        client.init().await.unwrap();
        client
    }

    /// The address in the form that Celery reads.
    pub(crate) fn celery_url(&self) -> String {
        format!("redis+socket://{}?virtual_host=0", self.dir.path().join("redis.sock").display())
    }

    /// Runs a command. Keys have their names of numbered databases on both kinds of Redis.
    pub(crate) async fn run(&self, database: u8, command: &[&str]) -> Value {
        let is_for_broker = database == 0
            && (!WITHOUT_KEYS.contains(&command[0])
                || command.get(1).is_some_and(is_celery_channel));
        if self.cluster.is_some() && !is_for_broker {
            return self.run_on_cluster(command).await;
        }
        self.send(database, command.iter().map(|word| (*word).to_owned()).collect()).await
    }

    async fn run_on_cluster(&self, command: &[&str]) -> Value {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let Some(name) = command.get(1).filter(|_| !WITHOUT_KEYS.contains(&command[0])) else {
            return self.send(1, words).await;
        };
        if command[0] == "SADD" && name.starts_with("tag:") {
            return self.add_to_tag(command[1], &command[2..]).await;
        }
        if layout::is_in_every_partition(name) {
            return self.sum_of_partitions(command).await;
        }
        let keys = match command[0] {
            "DEL" | "UNLINK" | "EXISTS" | "MGET" => 1..command.len(),
            "XINFO" => 2..3,
            "EVAL" => 3..3 + command[2].parse::<usize>().unwrap(),
            _ => 1..2,
        };
        if keys.len() > 1 && command[0] != "EVAL" {
            return self.sum_of_each(command).await;
        }
        let key = |(i, word): (usize, &&str)| {
            if keys.contains(&i) { layout::key_of(word) } else { (*word).to_owned() }
        };
        self.send(1, command.iter().enumerate().map(key).collect()).await
    }

    /// Adds members to a tag. In a cluster each member's partition has its own key of the tag.
    async fn add_to_tag(&self, tag: &str, members: &[&str]) -> Value {
        for member in members {
            let words = ["SADD", &layout::key_beside(member, tag), &layout::key_of(member)];
            self.send(1, words.map(str::to_owned).to_vec()).await;
        }
        Value::Null
    }

    /// Runs a command that counts keys, once for each key, because they may be in different slots.
    async fn sum_of_each(&self, command: &[&str]) -> Value {
        let mut sum = 0;
        for name in &command[1..] {
            let words = vec![command[0].to_owned(), layout::key_of(name)];
            sum += self.send(1, words).await.as_i64().expect("a number");
        }
        Value::Integer(sum)
    }

    /// Adds up the numbers of all partitions.
    async fn sum_of_partitions(&self, command: &[&str]) -> Value {
        let mut sum = 0;
        for key in self.all_keys().await {
            if layout::name_of(&key) == Some(command[1]) {
                let mut words: Vec<String> =
                    command.iter().map(|word| (*word).to_owned()).collect();
                words[1].clone_from(&key);
                sum += self.send(1, words).await.as_i64().expect("a number");
            }
        }
        Value::Integer(sum)
    }

    async fn all_keys(&self) -> Vec<String> {
        self.send(1, vec!["KEYS".to_owned(), "*".to_owned()]).await.convert().unwrap()
    }

    async fn send(&self, database: u8, command: Vec<String>) -> Value {
        let client = self.client(database).await;
        let custom = CustomCommand::new(command[0].as_str(), ClusterHash::FirstKey, false);
        let response = client.custom(custom, command[1..].to_vec()).await.unwrap();
        client.quit().await.unwrap();
        response
    }

    /// The names of the keys of a database, sorted, without those that each start of the service writes.
    pub(crate) async fn keys(&self, database: u8) -> Vec<String> {
        let mut names: Vec<String> = if self.cluster.is_some() && database > 0 {
            let keys = self.all_keys().await;
            let names = keys.iter().filter_map(|key| layout::name_of(key));
            names.filter(|name| layout::database_of(name) == database).map(str::to_owned).collect()
        } else {
            self.run(database, &["KEYS", "*"]).await.convert().unwrap()
        };
        names.retain(|name| {
            !["i2m:schema", "i2m:lock:i2m:schema", "i2m:reindex"].contains(&name.as_str())
        });
        names.sort();
        names
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
    }
}
