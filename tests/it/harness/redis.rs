//! A real Redis of a test's own: on a unix socket in a folder of its own, gone with the test.

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

use super::PATIENCE;

pub(crate) struct TestRedis {
    dir: TempDir,
    child: Option<Child>,
    extra: Vec<String>,
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
        Self { dir, child: None, extra: extra.iter().map(|it| (*it).to_owned()).collect() }
    }

    /// The same with further command line arguments.
    pub(crate) fn with(mut self, extra: &[&str]) -> Self {
        self.extra.extend(extra.iter().map(|it| (*it).to_owned()));
        self
    }

    /// Starts the server with the data it left, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("redis.log"))
            .unwrap();
        let child = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
                "--unixsocket",
            ])
            .arg(self.dir.path().join("redis.sock"))
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        let deadline = std::time::Instant::now() + PATIENCE;
        while !self.answers() {
            assert!(std::time::Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn answers(&self) -> bool {
        use std::io::{Read as _, Write as _};

        let Ok(mut stream) =
            std::os::unix::net::UnixStream::connect(self.dir.path().join("redis.sock"))
        else {
            return false;
        };
        let mut answer = [0; 5];
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && answer != *b"-LOAD"
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.dir.path().join("redis.sock").display())
    }

    /// Ends the server without a goodbye.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops the server's clock, as a machine that hangs does; `SIGCONT` lets it go on.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// A client of the test's own.
    pub(crate) async fn client(&self, database: u8) -> Client {
        let server = ServerConfig::Unix { path: self.dir.path().join("redis.sock") };
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

    /// Runs a command as redis-cli would.
    pub(crate) async fn run(&self, database: u8, command: &[&str]) -> Value {
        let client = self.client(database).await;
        let custom = CustomCommand::new(command[0], ClusterHash::FirstKey, false);
        let arguments: Vec<String> = command[1..].iter().map(|it| (*it).to_owned()).collect();
        let answer = client.custom(custom, arguments).await.unwrap();
        client.quit().await.unwrap();
        answer
    }

    /// The keys of a database, sorted, without those that every first start writes.
    pub(crate) async fn keys(&self, database: u8) -> Vec<String> {
        let mut keys: Vec<String> = self.run(database, &["KEYS", "*"]).await.convert().unwrap();
        keys.retain(|it| it != "i2m:schema" && it != "i2m:lock:i2m:schema");
        keys.sort();
        keys
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
    }
}
