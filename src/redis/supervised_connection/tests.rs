//! The supervisor against a fake server that can hang, refuse and disconnect.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::Client,
    error::Error as FredError,
    interfaces::ClientLike as _,
    types::{
        Value,
        config::{Config as FredConfig, Server, ServerConfig},
    },
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{super::endpoint::Node, *};

const TIMEOUT: Duration = Duration::from_secs(10);

/// How the fake server treats pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pings {
    Answered,
    /// As Redis does while it cannot save to disk.
    Misconf,
    /// No command is answered.
    Hung,
}

/// A server with as much of the protocol as fred needs to connect.
#[derive(Clone)]
struct FakeServer {
    node: Node,
    pings: Arc<Mutex<Pings>>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    /// Cancelled to close the open connections.
    connections: Arc<Mutex<CancellationToken>>,
}

impl FakeServer {
    async fn start(tasks: &TaskSupervisor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self {
            node: Node { host: "127.0.0.1".to_owned(), port },
            pings: Arc::new(Mutex::new(Pings::Answered)),
            accepted: Arc::default(),
            open: Arc::default(),
            connections: Arc::default(),
        };
        let (accepting, tasks_of_connections) = (server.clone(), tasks.clone());
        tasks.spawn("fake server", async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = accepting.clone();
                let closed = server.connections.lock().clone();
                server.accepted.fetch_add(1, Ordering::SeqCst);
                tasks_of_connections.spawn("fake connection", async move {
                    server.open.fetch_add(1, Ordering::SeqCst);
                    _ = closed.run_until_cancelled(server.serve(socket)).await;
                    server.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    fn config(&self) -> FredConfig {
        let server = Server::new(self.node.host.clone(), self.node.port);
        FredConfig { server: ServerConfig::Centralized { server }, ..FredConfig::default() }
    }

    fn set(&self, pings: Pings) {
        *self.pings.lock() = pings;
    }

    fn disconnect_all(&self) {
        let old = std::mem::take(&mut *self.connections.lock());
        old.cancel();
    }

    async fn serve(&self, socket: TcpStream) -> io::Result<()> {
        let mut socket = BufReader::new(socket);
        loop {
            let command = read_command(&mut socket).await?;
            let pings = *self.pings.lock();
            let reply = match command.first().map(String::as_str) {
                _ if pings == Pings::Hung => continue,
                Some("PING") if pings == Pings::Misconf => "-MISCONF cannot save to disk\r\n",
                Some("PING") => "+PONG\r\n",
                Some("HELLO") => "%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n",
                Some("CLIENT") if command.get(1).is_some_and(|name| name == "ID") => ":1\r\n",
                Some("INFO") => "$20\r\nredis_version:7.0.15\r\n",
                _ => "+OK\r\n",
            };
            socket.get_mut().write_all(reply.as_bytes()).await?;
        }
    }
}

/// Reads an array of strings, or the inline command with which fred begins.
async fn read_command(socket: &mut BufReader<TcpStream>) -> io::Result<Vec<String>> {
    let line = read_line(socket).await?;
    let Some(count) = line.strip_prefix('*') else {
        return Ok(line.split(' ').map(str::to_owned).collect());
    };
    let mut words = Vec::new();
    for _ in 0..count.parse::<usize>().map_err(io::Error::other)? {
        let len = read_line(socket).await?[1..].parse::<usize>().map_err(io::Error::other)?;
        let mut word = vec![0; len + 2];
        socket.read_exact(&mut word).await?;
        words.push(String::from_utf8_lossy(&word[..len]).into_owned());
    }
    Ok(words)
}

async fn read_line(socket: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if socket.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// Counts how often a session is prepared.
#[derive(Clone, Default)]
struct TestKind {
    prepared: Arc<AtomicUsize>,
}

impl ConnectionKind for TestKind {
    type Client = Client;
    type Inbox = ();

    fn name(&self) -> &'static str {
        "test"
    }

    fn build(&self, config: &Config, server: &FredConfig) -> Result<Client, FredError> {
        config.builder(server, 0).build()
    }

    fn open_inbox(&self, _: &Client) {}

    async fn receive(&self, (): &mut ()) {
        std::future::pending::<()>().await;
    }

    async fn ping(&self, client: &Client, _: Duration) -> Result<Value, FredError> {
        client.ping(None).await
    }

    async fn prepare(&self, _: &Client) {
        self.prepared.fetch_add(1, Ordering::SeqCst);
    }
}

/// The default settings with shorter times.
fn config() -> Config {
    let ms = Duration::from_millis;
    let section = |file: &str| file.parse::<toml::Table>().unwrap()["redis"].clone();
    let mut settings = section(include_str!("../../../config/default.toml"));
    let tuning = section(include_str!("../../../config/tuning.toml"));
    for (name, value) in tuning.as_table().unwrap() {
        let section = settings.as_table_mut().unwrap();
        match (value, section.get_mut(name)) {
            (toml::Value::Table(more), Some(toml::Value::Table(known))) => {
                known.extend(more.clone());
            }
            _ => drop(section.insert(name.clone(), value.clone())),
        }
    }
    let mut config: Config = settings.try_into().unwrap();
    (config.probe_interval, config.probe_timeout) = (ms(20), ms(50));
    config.reconnect_after = ms(400);
    config
}

fn start(endpoint: &Endpoint, tasks: &TaskSupervisor) -> Arc<SupervisedConnection<TestKind>> {
    SupervisedConnection::start(TestKind::default(), &config(), endpoint, tasks, None).unwrap()
}

async fn wait_until(what: &str, is_reached: impl Fn() -> bool) {
    let reached = async {
        while !is_reached() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(TIMEOUT, reached).await.unwrap_or_else(|_| panic!("not reached: {what}"));
}

fn is_up(connection: &SupervisedConnection<TestKind>) -> bool {
    connection.client_if_up().is_some()
}

#[tokio::test]
async fn a_hung_server_is_down_after_two_pings_and_gets_a_new_connection() {
    let tasks = TaskSupervisor::default();
    let server = FakeServer::start(&tasks).await;
    let connection = start(&Endpoint::fixed(server.config()), &tasks);
    wait_until("up", || is_up(&connection)).await;

    server.set(Pings::Hung);
    let hung_at = Instant::now();
    wait_until("down", || !is_up(&connection)).await;
    assert!(hung_at.elapsed() >= config().probe_timeout * 2, "after one ping");
    let accepted = server.accepted.load(Ordering::SeqCst);
    wait_until("replaced", || server.accepted.load(Ordering::SeqCst) > accepted).await;

    server.set(Pings::Answered);
    wait_until("up again", || is_up(&connection)).await;
    wait_until("nothing leaked", || server.open.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn each_new_session_is_prepared() {
    let tasks = TaskSupervisor::default();
    let server = FakeServer::start(&tasks).await;
    let connection = start(&Endpoint::fixed(server.config()), &tasks);
    let prepared = connection.kind().prepared.clone();
    wait_until("prepared", || prepared.load(Ordering::SeqCst) == 1).await;
    sleep(config().probe_interval * 5).await;
    assert_eq!(prepared.load(Ordering::SeqCst), 1, "answered pings change nothing");

    server.disconnect_all();
    wait_until("prepared again", || prepared.load(Ordering::SeqCst) >= 2).await;
    wait_until("up again", || is_up(&connection)).await;
}

#[tokio::test]
async fn a_server_that_cannot_save_is_up() {
    let tasks = TaskSupervisor::default();
    let server = FakeServer::start(&tasks).await;
    server.set(Pings::Misconf);
    let connection = start(&Endpoint::fixed(server.config()), &tasks);
    wait_until("up", || is_up(&connection)).await;
    sleep(config().probe_interval * 5).await;
    assert!(is_up(&connection));
}

#[tokio::test]
async fn nothing_is_sent_while_the_server_is_unknown_and_the_next_one_gets_a_new_client() {
    let tasks = TaskSupervisor::default();
    let (old, new) = (FakeServer::start(&tasks).await, FakeServer::start(&tasks).await);
    let (node, current) = watch::channel(Some(old.node.clone()));
    let connection = start(&Endpoint::dynamic(FredConfig::default(), current), &tasks);
    wait_until("up", || is_up(&connection)).await;

    node.send_replace(None);
    wait_until("down", || !is_up(&connection)).await;
    sleep(config().probe_interval * 5).await;
    assert!(!is_up(&connection), "the old server answers pings, but is not used");
    assert_eq!(old.open.load(Ordering::SeqCst), 1, "sent calls may complete");

    node.send_replace(Some(new.node.clone()));
    wait_until("up", || is_up(&connection)).await;
    assert_eq!(new.open.load(Ordering::SeqCst), 1);
    wait_until("the old connection is closed", || old.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_requested_reconnect_makes_a_new_connection_to_the_same_address() {
    let tasks = TaskSupervisor::default();
    let server = FakeServer::start(&tasks).await;
    let connection = start(&Endpoint::fixed(server.config()), &tasks);
    wait_until("up", || is_up(&connection)).await;
    let accepted = server.accepted.load(Ordering::SeqCst);

    connection.request_reconnect();
    wait_until("reconnected", || server.accepted.load(Ordering::SeqCst) > accepted).await;
    wait_until("up", || is_up(&connection)).await;
}

#[tokio::test]
async fn a_stopped_supervisor_offers_no_client() {
    let tasks = TaskSupervisor::default();
    let server = FakeServer::start(&tasks).await;
    let supervised = tasks.child();
    let connection = start(&Endpoint::fixed(server.config()), &supervised);
    wait_until("up", || is_up(&connection)).await;

    supervised.stop();
    wait_until("down", || !is_up(&connection)).await;
    wait_until("closed", || server.open.load(Ordering::SeqCst) == 0).await;
}
