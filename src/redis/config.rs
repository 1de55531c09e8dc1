//! Settings of the connections to Redis, and their translation for fred.

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
    endpoint::{Endpoint, Node},
    tls,
};
use crate::settings::{HumanDuration, Secret, validate_range};

/// Delay after the first failed connection attempt: most servers are back within moments.
pub(super) const RECONNECT_MIN_DELAY: Duration = Duration::from_millis(40);
/// The delay grows to this while Redis is down: a server that returns is noticed within half a second.
pub(super) const RECONNECT_MAX_DELAY: Duration = Duration::from_millis(500);
/// Commands that wait on one connection; further ones fail at once. Ten times the load of one connection at its peak.
const MAX_PENDING_COMMANDS: usize = 10_000;
/// Pings detect a dead peer much earlier; TCP keepalive only frees connections that nothing uses.
const TCP_KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const TCP_KEEPALIVE_RETRIES: u32 = 3;

/// Connections to Redis.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The kind of Redis deployment.
    pub mode: Mode,
    /// The server in standalone mode: `redis://[user:password@]host[:port]`, `rediss://` for TLS, or
    /// `redis+unix:///path/to.sock`. It has no database number: the databases 0 to 4 have fixed uses.
    pub url: Secret,
    /// ACL user name. A user name in `url` takes precedence.
    pub username: String,
    /// Password. A password in `url` takes precedence.
    pub password: Secret,
    /// Addresses of all sentinels as `host:port`. Sentinels that are not listed are not asked.
    pub sentinels: Vec<String>,
    /// The name of the monitored primary in the sentinels' configuration.
    pub service_name: String,
    /// ACL user name for the sentinels. Empty if they have none.
    pub sentinel_username: String,
    /// Password for the sentinels. Empty if they have none.
    pub sentinel_password: Secret,
    /// Addresses of some cluster nodes as `host:port`. The other nodes are discovered.
    pub nodes: Vec<String>,
    /// Prefix of all keys in a cluster, before the partition in braces (docs/REDIS.md). Other programs must not use it.
    pub key_prefix: String,
    /// Use TLS for servers and sentinels that are not configured by URL. Their certificates must contain the hosts that
    /// the sentinels or the cluster report.
    pub tls: bool,
    /// CA certificates to trust in addition to the system's, as PEM text; `I2M__REDIS__TLS_CA_FILE` reads it from a file.
    /// Empty for none.
    pub tls_ca: String,
    /// Connections per database, or per primary of a cluster. Each carries many requests at once.
    pub pool_size: usize,
    /// Whether each command is sent at once (`TCP_NODELAY`). `false` combines commands that are issued while a reply is
    /// pending into one packet (Nagle's algorithm, RFC 896): under load this saves packets and system calls on both sides,
    /// but a call may wait one round trip longer.
    #[schemars(extend("x-tuning" = true))]
    pub tcp_nodelay: bool,
    /// Maximum duration of a connection attempt.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub connect_timeout: Duration,
    /// Maximum time that a request waits for a reply from Redis. After that it is answered with 503.
    #[serde(with = "HumanDuration")]
    pub command_timeout: Duration,
    /// With sentinels or a cluster: how long a request waits for a new primary during a failover. Calls that are safe to
    /// repeat are sent again. After this time without a primary, requests fail at once.
    #[serde(with = "HumanDuration")]
    pub failover_wait: Duration,
    /// When the creation of a job is acknowledged. With `wait` and sentinels, every replica that the sentinels consider
    /// healthy must store the job, so that no failover loses it.
    pub durability: Durability,
    /// With `wait`: minimum number of replicas that must store a new job.
    pub min_replicas: u32,
    /// With `wait`: how long replicas may take. After that the creation of a job is answered with 503 and can be
    /// repeated safely with its `Idempotency-Key`.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub wait_timeout: Duration,
    /// With sentinels: read further pages of a job list and cached statuses from replicas. Misses fall back to the
    /// primary.
    pub replica_reads: bool,
    /// Maximum staleness of a replica that is read.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub max_staleness: Duration,
    /// Safe values of Redis' `maxmemory-policy`. Other policies can lose jobs.
    #[schemars(extend("x-tuning" = true))]
    pub allowed_eviction_policies: Vec<String>,
    /// Reaction to another eviction policy at the start.
    pub on_unsafe_eviction_policy: OnUnsafePolicy,
    /// Time between pings of a connection. Two unanswered pings in a row mark it as down.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub probe_interval: Duration,
    /// How long a ping may take.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub probe_timeout: Duration,
    /// How long a connection may be down before it is replaced by a new one.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub reconnect_after: Duration,
    /// The private server of the embedded mode.
    pub embedded: EmbeddedConfig,
}

/// The kind of Redis deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Standalone if `url` is set, sentinel if `sentinels` is set, cluster if `nodes` is set, otherwise embedded.
    #[serde(rename = "")]
    Auto,
    /// A private child process.
    Embedded,
    /// The server at `url`.
    Standalone,
    /// The primary that the sentinels report.
    Sentinel,
    /// The cluster that `nodes` belong to.
    Cluster,
}

/// When the creation of a job is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When the primary has stored it.
    Async,
    /// When `min_replicas` replicas have stored it as well.
    Wait,
}

/// The reaction to an unsafe eviction policy at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnsafePolicy {
    /// Log a warning.
    Warn,
    /// Refuse to start.
    Refuse,
}

/// The private server of the embedded mode.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// The `redis-server` program, by name or path.
    pub program: PathBuf,
    /// Directory of its data, log and socket.
    pub dir: PathBuf,
    /// How long it may take to start.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
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

    /// Checks ranges and combinations of settings.
    ///
    /// # Errors
    ///
    /// If a setting is invalid.
    pub(crate) fn validate(&self) -> Result<()> {
        let ms = Duration::from_millis;
        validate_range("command_timeout", self.command_timeout, ms(10), ms(60_000))?;
        validate_range("connect_timeout", self.connect_timeout, ms(10), ms(60_000))?;
        validate_range("probe_interval", self.probe_interval, ms(10), ms(60_000))?;
        validate_range("probe_timeout", self.probe_timeout, ms(10), ms(60_000))?;
        if !(1..=64).contains(&self.pool_size) {
            bail!("pool_size is {}; it must be between 1 and 64", self.pool_size);
        }
        if self.durability == Durability::Wait {
            validate_range("wait_timeout", self.wait_timeout, ms(10), self.command_timeout)?;
        }
        if !(1..=16).contains(&self.min_replicas) {
            bail!("min_replicas is {}; it must be between 1 and 16", self.min_replicas);
        }
        validate_range("max_staleness", self.max_staleness, ms(500), ms(60_000))?;
        validate_range("failover_wait", self.failover_wait, ms(0), ms(60_000))?;
        match self.effective_mode() {
            Mode::Standalone if self.url.is_empty() => {
                bail!("mode \"standalone\" requires url, such as redis://localhost:6379")
            }
            Mode::Standalone => self.server(self.url.expose()).map(|_| ()),
            Mode::Sentinel if !self.url.is_empty() => {
                bail!("url must not be set when mode is \"sentinel\"")
            }
            Mode::Sentinel => self.sentinel_nodes().map(|_| ()),
            Mode::Cluster if !self.url.is_empty() => {
                bail!("url must not be set when mode is \"cluster\"")
            }
            Mode::Cluster => self.cluster_nodes().map(|_| ()),
            Mode::Auto | Mode::Embedded => Ok(()),
        }
    }

    /// The addresses in `sentinels`.
    pub(super) fn sentinel_nodes(&self) -> Result<Vec<Node>> {
        if self.sentinels.is_empty() {
            bail!(
                "mode \"sentinel\" requires sentinels, such as sentinel-1:26379,sentinel-2:26379"
            );
        }
        if self.service_name.is_empty() || self.service_name.contains(char::is_whitespace) {
            bail!("service_name is {:?}; it must be one word, such as mymaster", self.service_name);
        }
        let parse = |text: &String| {
            Node::parse(text).with_context(|| format!("sentinels: {text:?} is not host:port"))
        };
        self.sentinels.iter().map(parse).collect()
    }

    /// The addresses in `nodes`.
    pub(super) fn cluster_nodes(&self) -> Result<Vec<Node>> {
        if self.nodes.is_empty() {
            bail!("mode \"cluster\" requires nodes, such as redis-1:6379,redis-2:6379");
        }
        if self.key_prefix.contains(['{', '}']) || self.key_prefix.len() > 64 {
            bail!(
                "key_prefix is {:?}; it must have at most 64 bytes and no braces, which select the slot",
                self.key_prefix
            );
        }
        let parse = |text: &String| {
            Node::parse(text).with_context(|| format!("nodes: {text:?} is not host:port"))
        };
        self.nodes.iter().map(parse).collect()
    }

    /// Credentials and TLS settings of servers whose address sentinels or a cluster report.
    pub(super) fn connection_template(&self) -> Result<FredConfig> {
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
        tls::config(&self.tls_ca)
    }

    /// A builder of one-shot connections to a sentinel.
    pub(super) fn sentinel_builder(&self, sentinel: FredConfig) -> Builder {
        let filled = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        self.one_shot_builder(&FredConfig {
            username: filled(&self.sentinel_username),
            password: filled(self.sentinel_password.expose()),
            ..sentinel
        })
    }

    /// A builder of connections to `server` that do not reconnect and select no database.
    pub(super) fn one_shot_builder(&self, server: &FredConfig) -> Builder {
        let config = FredConfig { version: RespVersion::RESP3, ..server.clone() };
        let mut builder = self.builder(&config, 0);
        builder.set_config(config);
        builder.with_connection_config(|connection| connection.auto_client_setname = false);
        builder.set_policy(ReconnectPolicy::new_constant(1, 0));
        builder
    }

    /// The server at `url`, with the credentials of the settings if the URL has none.
    pub(super) fn server(&self, url: &str) -> Result<FredConfig> {
        let known = ["redis://", "rediss://", "redis+unix://"];
        if !known.iter().any(|scheme| url.starts_with(scheme)) {
            bail!("url must begin with one of {}", known.join(", "));
        }
        // The text of the error may contain the URL and with it the password.
        let mut server =
            FredConfig::from_url(url).ok().context("url is not a valid URL of a Redis server")?;
        if server.database.is_some_and(|database| database != 0) {
            bail!("url must not contain a database number: the databases 0 to 4 have fixed uses");
        }
        if server.tls.is_some() && !self.tls_ca.is_empty() {
            server.tls = Some(tls::config(&self.tls_ca)?);
        }
        let filled = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        server.username = server.username.or_else(|| filled(&self.username));
        server.password = server.password.or_else(|| filled(self.password.expose()));
        Ok(server)
    }

    /// The endpoint and the database number of `url`, in the syntax of fred or of Celery.
    pub(crate) fn endpoint_and_database(&self, url: &str) -> Result<(Endpoint, u8)> {
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let url = url.replacen("redis+socket://", "redis+unix://", 1);
        let is_socket = url.starts_with("redis+unix://");
        let (server, database) = match url.rsplit_once('/') {
            Some((server, database)) if !is_socket && database.parse::<u8>().is_ok() => {
                (server, database)
            }
            _ => (url.as_str(), query.strip_prefix("virtual_host=").unwrap_or("0")),
        };
        let database = database.parse().context("the database number must be between 0 and 255")?;
        Ok((Endpoint::fixed(self.server(server)?), database))
    }

    /// A server that listens on the Unix socket `path`.
    pub(super) fn unix_socket_config(path: PathBuf) -> FredConfig {
        FredConfig { server: ServerConfig::Unix { path }, ..FredConfig::default() }
    }

    /// A builder of connections to `server` that select `database`.
    pub(super) fn builder(&self, server: &FredConfig, database: u8) -> Builder {
        let mut config = server.clone();
        config.version = RespVersion::RESP3;
        config.database = Some(database);
        // If fred may retry, it waits before the first attempt. The owner of the client makes another one instead.
        config.fail_fast = true;
        let mut builder = Builder::from_config(config);
        builder.set_connection_config(self.connection());
        builder.set_performance_config(PerformanceConfig {
            default_command_timeout: self.command_timeout,
            // Each client has eight channels, whose memory is allocated at once.
            broadcast_channel_capacity: 64,
            ..PerformanceConfig::default()
        });
        let millis = |delay: Duration| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
        let (min, max) = (millis(RECONNECT_MIN_DELAY), millis(RECONNECT_MAX_DELAY));
        let mut policy = ReconnectPolicy::new_exponential(0, min / 2, max, 2);
        policy.set_jitter(min / 2);
        builder.set_policy(policy);
        builder
    }

    /// [`Config::builder`] with larger buffers for messages.
    pub(super) fn subscriber_builder(&self, server: &FredConfig, database: u8) -> Builder {
        let mut builder = self.builder(server, database);
        builder
            .with_performance_config(|performance| performance.broadcast_channel_capacity = 4096);
        builder
    }

    fn connection(&self) -> ConnectionConfig {
        let mut connection = ConnectionConfig {
            connection_timeout: self.connect_timeout,
            internal_command_timeout: self.connect_timeout,
            // A command whose reply was lost may have been executed; its caller decides about another attempt.
            max_command_attempts: 1,
            max_command_buffer_len: MAX_PENDING_COMMANDS,
            auto_client_setname: true,
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(self.command_timeout),
                interval: self.command_timeout / 4,
            },
            ..ConnectionConfig::default()
        };
        connection.tcp.nodelay = Some(self.tcp_nodelay);
        connection.tcp.keepalive = Some(
            TcpKeepalive::new()
                .with_time(TCP_KEEPALIVE_IDLE)
                .with_interval(TCP_KEEPALIVE_INTERVAL)
                .with_retries(TCP_KEEPALIVE_RETRIES),
        );
        connection
    }
}
