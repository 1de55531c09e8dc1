//! Settings of the way to Redis, and what they mean to fred.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use fred::{
    prelude::{Builder, ReconnectPolicy},
    socket2::TcpKeepalive,
    types::{
        RespVersion,
        config::{
            Config as FredConfig, ConnectionConfig, PerformanceConfig, ServerConfig, TlsConfig,
            TlsConnector, UnresponsiveConfig,
        },
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    address::{Address, Node},
    eviction::OnOtherPolicy,
    partition::Layout,
};
use crate::settings::{Secret, Time, check_between};

/// How Redis is reached.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where Redis is.
    pub mode: Mode,
    /// The server in standalone mode: `redis://[user:password@]host[:port]`, `rediss://` for TLS,
    /// `redis+unix:///path/to.sock`. No database number: the databases 0 to 4 have fixed uses.
    pub url: Secret,
    /// The ACL user, when the URL has none.
    pub username: String,
    /// The password, when the URL has none.
    pub password: Secret,
    /// Sentinels as `host:port`, all of them: one that is missing here is not asked.
    pub sentinels: Vec<String>,
    /// What the sentinels call the servers.
    pub service_name: String,
    /// The ACL user at the sentinels, if they have one.
    pub sentinel_username: String,
    /// The password of the sentinels, if they have one.
    pub sentinel_password: Secret,
    /// Some nodes of the cluster as `host:port`; they name the others.
    pub nodes: Vec<String>,
    /// What every key of a cluster begins with.
    pub key_prefix: String,
    /// TLS to servers and sentinels that no URL tells of.
    pub tls: bool,
    /// Certificates to trust beside the system's, for TLS: PEM text, or empty.
    pub tls_ca: String,
    /// Connections per database; each carries many requests at once.
    pub pool_size: usize,
    /// Whether commands that come while an answer is under way are joined to one packet (Nagle's algorithm, RFC 896).
    /// Under load that saves packets and system calls on both sides; a call may wait a round trip longer. `false` sends
    /// each at once.
    pub coalesce_writes: bool,
    /// The longest that connecting may take.
    #[serde(with = "Time")]
    pub connect_timeout: Duration,
    /// The longest that a request waits for Redis before it is refused with 503.
    #[serde(with = "Time")]
    pub command_timeout: Duration,
    /// With sentinels: how long a request outlasts a failover, waiting for the new primary and repeating there what may
    /// be repeated. From then on requests are refused at once until there is a primary.
    #[serde(with = "Time")]
    pub failover_wait: Duration,
    /// When a new job is acknowledged.
    pub durability: Durability,
    /// With `wait`: replicas that have to have a new job.
    pub min_replicas: u32,
    /// With `wait`: how long they may take. Then creating a job is 503, safe to repeat with its `Idempotency-Key`.
    #[serde(with = "Time")]
    pub wait_timeout: Duration,
    /// With sentinels: whether replicas answer for further pages of a list and for statuses. What they do not have the
    /// primary is asked for.
    pub replica_reads: bool,
    /// How far behind such a replica may be.
    #[serde(with = "Time")]
    pub max_staleness: Duration,
    /// Values of Redis' `maxmemory-policy` that are good here: what is evicted is lost.
    pub eviction_policies: Vec<String>,
    /// What is done about another one at the start.
    pub on_other_policy: OnOtherPolicy,
    /// Commands that may wait on one connection; further ones are refused at once.
    pub max_pending_commands: usize,
    /// Longest wait between attempts to connect at first; it is half of that at least, and grows while Redis is away ...
    #[serde(with = "Time")]
    pub reconnect_min_delay: Duration,
    /// ... up to this.
    #[serde(with = "Time")]
    pub reconnect_max_delay: Duration,
    /// Time between pings of a connection, which counts as lost after two without an answer.
    #[serde(with = "Time")]
    pub probe_interval: Duration,
    /// How long a ping may take.
    #[serde(with = "Time")]
    pub probe_timeout: Duration,
    /// How long a connection may be down before it is made anew.
    #[serde(with = "Time")]
    pub replace_after: Duration,
    /// Silence before the first TCP keepalive.
    #[serde(with = "Time")]
    pub tcp_keepalive_idle: Duration,
    /// Time between TCP keepalives.
    #[serde(with = "Time")]
    pub tcp_keepalive_interval: Duration,
    /// Keepalives without an answer before the connection is given up.
    pub tcp_keepalive_retries: u32,
    /// The private server of the embedded mode.
    pub embedded: EmbeddedConfig,
}

/// Where Redis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Standalone when there is a URL, sentinel when there are sentinels, cluster when there are nodes, else embedded.
    #[serde(rename = "")]
    Auto,
    /// A private child process.
    Embedded,
    /// The server at `url`.
    Standalone,
    /// The server that the sentinels name.
    Sentinel,
    /// The servers of the cluster that `nodes` belong to.
    Cluster,
}

/// When a new job counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When the primary has it.
    Async,
    /// When `min_replicas` have it too.
    Wait,
}

/// The private server of the embedded mode.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// The `redis-server` program, by name or path.
    pub program: PathBuf,
    /// Where its data, log and socket are.
    pub dir: PathBuf,
    /// How long it may take to answer.
    #[serde(with = "Time")]
    pub start_timeout: Duration,
}

impl Config {
    /// The mode with `Auto` resolved.
    pub(crate) fn effective_mode(&self) -> Mode {
        match self.mode {
            Mode::Auto if !self.url.is_empty() => Mode::Standalone,
            Mode::Auto if !self.sentinels.is_empty() => Mode::Sentinel,
            Mode::Auto if !self.nodes.is_empty() => Mode::Cluster,
            Mode::Auto => Mode::Embedded,
            mode => mode,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let ms = Duration::from_millis;
        check_between("command_timeout", self.command_timeout, ms(10), ms(60_000))?;
        check_between("connect_timeout", self.connect_timeout, ms(10), ms(60_000))?;
        check_between("probe_interval", self.probe_interval, ms(10), ms(60_000))?;
        check_between("probe_timeout", self.probe_timeout, ms(10), ms(60_000))?;
        if !(1..=64).contains(&self.pool_size) {
            bail!("pool_size is {}; it has to be between 1 and 64", self.pool_size);
        }
        if self.durability == Durability::Wait {
            check_between("wait_timeout", self.wait_timeout, ms(10), self.command_timeout)?;
        }
        if !(1..=16).contains(&self.min_replicas) {
            bail!("min_replicas is {}; it has to be between 1 and 16", self.min_replicas);
        }
        check_between("max_staleness", self.max_staleness, ms(500), ms(60_000))?;
        check_between("failover_wait", self.failover_wait, ms(0), ms(60_000))?;
        match self.effective_mode() {
            Mode::Standalone if self.url.is_empty() => {
                bail!("mode is \"standalone\", which needs a url such as redis://localhost:6379")
            }
            Mode::Standalone => self.server(self.url.expose()).map(|_| ()),
            Mode::Sentinel if !self.url.is_empty() => {
                bail!("mode is \"sentinel\", so the sentinels name the server, and url has to go")
            }
            Mode::Sentinel => self.sentinel_nodes().map(|_| ()),
            Mode::Cluster if !self.url.is_empty() => {
                bail!("mode is \"cluster\", so nodes name the servers, and url has to go")
            }
            Mode::Cluster => self.cluster_nodes().map(|_| ()),
            Mode::Auto | Mode::Embedded => Ok(()),
        }
    }

    /// The sentinels of the settings.
    pub(super) fn sentinel_nodes(&self) -> Result<Vec<Node>> {
        if self.sentinels.is_empty() {
            bail!(
                "mode is \"sentinel\", which needs sentinels such as sentinel-1:26379,sentinel-2:26379"
            );
        }
        if self.service_name.is_empty() || self.service_name.contains(char::is_whitespace) {
            bail!("service_name is {:?}; it is one word, such as mymaster", self.service_name);
        }
        let parse = |text: &String| {
            Node::parse(text).with_context(|| format!("sentinels: {text:?} is not host:port"))
        };
        self.sentinels.iter().map(parse).collect()
    }

    /// The nodes of the settings.
    pub(super) fn cluster_nodes(&self) -> Result<Vec<Node>> {
        if self.nodes.is_empty() {
            bail!("mode is \"cluster\", which needs nodes such as redis-1:6379,redis-2:6379");
        }
        if self.key_prefix.contains(['{', '}']) || self.key_prefix.len() > 64 {
            bail!(
                "key_prefix is {:?}; it has at most 64 bytes and no braces, which say the slot",
                self.key_prefix
            );
        }
        let parse = |text: &String| {
            Node::parse(text).with_context(|| format!("nodes: {text:?} is not host:port"))
        };
        self.nodes.iter().map(parse).collect()
    }

    /// How keys are named.
    pub(super) fn layout(&self) -> Layout {
        match self.effective_mode() {
            Mode::Cluster => Layout::Partitioned { prefix: self.key_prefix.as_str().into() },
            _ => Layout::Numbered,
        }
    }

    /// How servers that are named by others are reached, wherever they are.
    pub(super) fn server_without_place(&self) -> Result<FredConfig> {
        let filled = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        Ok(FredConfig {
            username: filled(&self.username),
            password: filled(self.password.expose()),
            tls: if self.tls { Some(self.tls_config()?) } else { None },
            ..FredConfig::default()
        })
    }

    fn tls_config(&self) -> Result<TlsConfig> {
        if self.tls_ca.is_empty() {
            return Ok(TlsConnector::default_rustls()?.into());
        }
        super::tls::config(&self.tls_ca)
    }

    /// A builder of connections to the sentinel at `place`, which are never mended but made anew.
    pub(super) fn sentinel_builder(&self, place: FredConfig) -> Builder {
        let filled = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        self.builder_of_once(&FredConfig {
            username: filled(&self.sentinel_username),
            password: filled(self.sentinel_password.expose()),
            ..place
        })
    }

    /// A builder of connections to `server` that are never mended but made anew, and select no database.
    pub(super) fn builder_of_once(&self, server: &FredConfig) -> Builder {
        let config = FredConfig { version: RespVersion::RESP3, ..server.clone() };
        let mut builder = self.builder(&config, 0);
        builder.set_config(config);
        builder.with_connection_config(|it| it.auto_client_setname = false);
        builder.set_policy(ReconnectPolicy::new_constant(1, 0));
        builder
    }

    /// The server that `url` names, with the credentials of the settings where the URL has none.
    pub(super) fn server(&self, url: &str) -> Result<FredConfig> {
        let known = ["redis://", "rediss://", "redis+unix://"];
        if !known.iter().any(|it| url.starts_with(it)) {
            bail!("url has to begin with one of {}", known.join(", "));
        }
        // The text of the error may hold the URL and with it the password.
        let mut server =
            FredConfig::from_url(url).ok().context("url is not a URL of a Redis server")?;
        if server.database.is_some_and(|it| it != 0) {
            bail!("url names a database; the databases 0 to 4 have fixed uses, so it must not");
        }
        if server.tls.is_some() && !self.tls_ca.is_empty() {
            server.tls = Some(super::tls::config(&self.tls_ca)?);
        }
        let filled = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        server.username = server.username.or_else(|| filled(&self.username));
        server.password = server.password.or_else(|| filled(self.password.expose()));
        Ok(server)
    }

    /// The server and the database that `url` names, in fred's spelling or in Celery's.
    pub(crate) fn server_and_database(&self, url: &str) -> Result<(Address, u8)> {
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let url = url.replacen("redis+socket://", "redis+unix://", 1);
        let is_socket = url.starts_with("redis+unix://");
        let (server, database) = match url.rsplit_once('/') {
            Some((server, database)) if !is_socket && database.parse::<u8>().is_ok() => {
                (server, database)
            }
            _ => (url.as_str(), query.strip_prefix("virtual_host=").unwrap_or("0")),
        };
        let database = database.parse().context("the number of a database is between 0 and 255")?;
        Ok((Address::fixed(self.server(server)?), database))
    }

    /// A private server listening on the unix socket `path`.
    pub(super) fn socket(path: PathBuf) -> FredConfig {
        FredConfig { server: ServerConfig::Unix { path }, ..FredConfig::default() }
    }

    /// A builder of clients of `server` that select `database`.
    pub(super) fn builder(&self, server: &FredConfig, database: u8) -> Builder {
        let mut config = server.clone();
        config.version = RespVersion::RESP3;
        config.database = Some(database);
        // fred waits before it connects if it may try again. Whoever holds the client makes another when this fails.
        config.fail_fast = true;
        let mut builder = Builder::from_config(config);
        builder.set_connection_config(self.connection());
        builder.set_performance_config(PerformanceConfig {
            default_command_timeout: self.command_timeout,
            // Each client has eight of these, with room for all that they may hold.
            broadcast_channel_capacity: 64,
            ..PerformanceConfig::default()
        });
        let millis = |it: Duration| u32::try_from(it.as_millis()).unwrap_or(u32::MAX);
        let (least, most) = (millis(self.reconnect_min_delay), millis(self.reconnect_max_delay));
        let mut policy = ReconnectPolicy::new_exponential(0, least / 2, most, 2);
        policy.set_jitter(least / 2);
        builder.set_policy(policy);
        builder
    }

    /// As [`Config::builder`], with room for many messages.
    pub(super) fn subscriber_builder(&self, server: &FredConfig, database: u8) -> Builder {
        let mut builder = self.builder(server, database);
        builder.with_performance_config(|it| it.broadcast_channel_capacity = 4096);
        builder
    }

    fn connection(&self) -> ConnectionConfig {
        let mut connection = ConnectionConfig {
            connection_timeout: self.connect_timeout,
            internal_command_timeout: self.connect_timeout,
            // A command whose answer was lost may have been applied; whoever sent it decides.
            max_command_attempts: 1,
            max_command_buffer_len: self.max_pending_commands,
            auto_client_setname: true,
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(self.command_timeout),
                interval: self.command_timeout / 4,
            },
            ..ConnectionConfig::default()
        };
        connection.tcp.nodelay = Some(!self.coalesce_writes);
        connection.tcp.keepalive = Some(
            TcpKeepalive::new()
                .with_time(self.tcp_keepalive_idle)
                .with_interval(self.tcp_keepalive_interval)
                .with_retries(self.tcp_keepalive_retries),
        );
        connection
    }
}
