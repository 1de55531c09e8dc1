//! A real Redis of a test's own: on a unix socket in a folder of its own, gone with the test.
//!
//! With `I2M_TEST_REDIS=cluster` it is a node that is a whole cluster, and beside it a Redis for Celery, so that every
//! test runs on either. Slots are as strict on one node as on many; `cluster.rs` has clusters of several.

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

use super::{PATIENCE, layout, sentinel::free_ports};

pub(crate) struct TestRedis {
    dir: TempDir,
    child: Option<Child>,
    extra: Vec<String>,
    cluster: Option<Node>,
    place: [(&'static str, &'static str); 2],
}

/// A node of a cluster, as a further server.
struct Node {
    port: u16,
    bus_port: u16,
    child: Option<Child>,
}

/// Commands that are about a server.
const WITHOUT_KEYS: [&str; 10] = [
    "INFO", "CONFIG", "TIME", "PUBSUB", "CLIENT", "PUBLISH", "SCRIPT", "SLOWLOG", "ACL", "LATENCY",
];

/// Whether a channel is one of Celery's.
fn is_of_celery(channel: &&str) -> bool {
    channel.starts_with("celery") || channel.starts_with('/')
}

/// What tests run on.
#[expect(clippy::disallowed_methods, reason = "it is the test run that is set, not the service")]
pub(crate) fn is_on_cluster() -> bool {
    std::env::var("I2M_TEST_REDIS").is_ok_and(|it| it == "cluster")
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

    /// A Redis that is not started yet.
    pub(crate) fn prepare(extra: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("i2m-test-").tempdir().unwrap();
        let cluster = is_on_cluster().then(|| {
            let ports = free_ports(2);
            Node { port: ports[0], bus_port: ports[1], child: None }
        });
        let socket = dir.path().join("redis.sock").display().to_string();
        let place = match &cluster {
            None => [
                ("I2M__REDIS__URL", format!("redis+unix://{socket}").leak() as &str),
                ("I2M__CELERY__BROKER_URL", ""),
            ],
            Some(node) => [
                ("I2M__REDIS__NODES", format!("127.0.0.1:{}", node.port).leak() as &str),
                ("I2M__CELERY__BROKER_URL", format!("redis+unix://{socket}").leak() as &str),
            ],
        };
        let extra = extra.iter().map(|it| (*it).to_owned()).collect();
        Self { dir, child: None, extra, cluster, place }
    }

    /// The same with further command line arguments.
    pub(crate) fn with(mut self, extra: &[&str]) -> Self {
        self.extra.extend(extra.iter().map(|it| (*it).to_owned()));
        self
    }

    /// Starts the server with the data it left, and waits until it answers.
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
        self.wait("redis-server answers", Self::answers);
        if self.cluster.is_some() {
            self.wait("all slots are taken", |it| {
                _ = it.say_to_node("CLUSTER ADDSLOTSRANGE 0 16383");
                it.say_to_node("CLUSTER INFO").contains("cluster_state:ok")
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

    fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(std::time::Instant::now() < deadline, "never came to be: {what}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn answers(&self) -> bool {
        let is_well = |answer: String| !answer.is_empty() && !answer.starts_with("-LOAD");
        is_well(self.say("redis", "PING"))
            && (self.cluster.is_none() || is_well(self.say_to_node("PING")))
    }

    fn say_to_node(&self, command: &str) -> String {
        self.say("node", command)
    }

    /// One command over a connection of its own; nothing if that fails.
    fn say(&self, name: &str, command: &str) -> String {
        use std::io::{Read as _, Write as _};

        let socket = self.dir.path().join(format!("{name}.sock"));
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else {
            return String::new();
        };
        let mut answer = vec![0; 4096];
        let asked = stream.write_all(format!("{command}\r\n").as_bytes());
        let n = asked.and_then(|()| stream.read(&mut answer)).unwrap_or(0);
        String::from_utf8_lossy(&answer[..n]).into_owned()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The settings that lead a process here. They live as long as the test.
    pub(crate) fn place(&self) -> [(&'static str, &'static str); 2] {
        self.place
    }

    /// What it has written to disk is gone.
    pub(crate) fn forget(&self) {
        for entry in ["appendonlydir", "node", "dump.rdb", "nodes.conf"] {
            let path = self.dir.path().join(entry);
            _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
    }

    fn children(&self) -> impl Iterator<Item = &Child> {
        self.child.iter().chain(self.cluster.iter().flat_map(|it| &it.child))
    }

    /// Ends the server without a goodbye.
    pub(crate) fn kill(&mut self) {
        let node = self.cluster.as_mut().and_then(|it| it.child.take());
        for mut child in self.child.take().into_iter().chain(node) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops the server's clock, as a machine that hangs does; `SIGCONT` lets it go on.
    pub(crate) fn signal(&self, signal: &str) {
        for child in self.children() {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        }
    }

    /// A client of the test's own.
    pub(crate) async fn client(&self, database: u8) -> Client {
        // What is about the broker or a server as such is asked where it is in either case.
        let (name, database) = match self.cluster {
            Some(_) if database > 0 => ("node", 0),
            _ => ("redis", database),
        };
        let server = ServerConfig::Unix { path: self.dir.path().join(format!("{name}.sock")) };
        let config = Config { server, database: Some(database), ..Config::default() };
        let client = Builder::from_config(config)
            .set_policy(ReconnectPolicy::new_constant(0, 20))
            .with_connection_config(|it| it.connection_timeout = PATIENCE)
            .with_performance_config(|it| it.default_command_timeout = PATIENCE)
            .build()
            .unwrap();
        client.init().await.unwrap();
        client
    }

    /// The same for Celery.
    pub(crate) fn celery_url(&self) -> String {
        format!("redis+socket://{}?virtual_host=0", self.dir.path().join("redis.sock").display())
    }

    /// Runs a command as redis-cli would. Keys have the names that they have in numbered databases.
    pub(crate) async fn run(&self, database: u8, command: &[&str]) -> Value {
        let is_celerys = database == 0
            && (!WITHOUT_KEYS.contains(&command[0]) || command.get(1).is_some_and(is_of_celery));
        if self.cluster.is_some() && !is_celerys {
            return self.run_on_cluster(command).await;
        }
        self.send(database, command.iter().map(|it| (*it).to_owned()).collect()).await
    }

    async fn run_on_cluster(&self, command: &[&str]) -> Value {
        let words: Vec<String> = command.iter().map(|it| (*it).to_owned()).collect();
        let Some(name) = command.get(1).filter(|_| !WITHOUT_KEYS.contains(&command[0])) else {
            return self.send(1, words).await;
        };
        if command[0] == "SADD" && name.starts_with("tag:") {
            return self.tag(command[1], &command[2..]).await;
        }
        if layout::is_everywhere(name) {
            return self.sum_of_all(command).await;
        }
        let keys = match command[0] {
            "DEL" | "UNLINK" | "EXISTS" | "MGET" => 1..command.len(),
            "XINFO" => 2..3,
            "EVAL" => 3..3 + command[2].parse::<usize>().unwrap(),
            _ => 1..2,
        };
        if keys.len() > 1 && command[0] != "EVAL" {
            return self.one_by_one(command).await;
        }
        let key = |(i, word): (usize, &&str)| {
            if keys.contains(&i) { layout::key_of(word) } else { (*word).to_owned() }
        };
        self.send(1, command.iter().enumerate().map(key).collect()).await
    }

    /// A tag stands beside each value that has it.
    async fn tag(&self, tag: &str, members: &[&str]) -> Value {
        for member in members {
            let words = ["SADD", &layout::key_beside(member, tag), &layout::key_of(member)];
            self.send(1, words.map(str::to_owned).to_vec()).await;
        }
        Value::Null
    }

    /// Of a command that counts keys, which may stand in several slots.
    async fn one_by_one(&self, command: &[&str]) -> Value {
        let mut sum = 0;
        for name in &command[1..] {
            let words = vec![command[0].to_owned(), layout::key_of(name)];
            sum += self.send(1, words).await.as_i64().expect("a number");
        }
        Value::Integer(sum)
    }

    /// Of a number that each partition has.
    async fn sum_of_all(&self, command: &[&str]) -> Value {
        let mut sum = 0;
        for key in self.all_keys().await {
            if layout::name_of(&key) == Some(command[1]) {
                let mut words: Vec<String> = command.iter().map(|it| (*it).to_owned()).collect();
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
        let answer = client.custom(custom, command[1..].to_vec()).await.unwrap();
        client.quit().await.unwrap();
        answer
    }

    /// The names of the keys of a database, sorted, without what every start writes.
    pub(crate) async fn keys(&self, database: u8) -> Vec<String> {
        let mut names: Vec<String> = if self.cluster.is_some() && database > 0 {
            let keys = self.all_keys().await;
            let names = keys.iter().filter_map(|it| layout::name_of(it));
            names.filter(|it| layout::database_of(it) == database).map(str::to_owned).collect()
        } else {
            self.run(database, &["KEYS", "*"]).await.convert().unwrap()
        };
        names.retain(|it| {
            !["i2m:schema", "i2m:lock:i2m:schema", "i2m:listing"].contains(&it.as_str())
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
