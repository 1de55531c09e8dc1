//! The endpoint of a connection: a fixed server, or the current primary as sentinels or a cluster report it.

use fred::types::config::{Config as FredConfig, Server, ServerConfig};
use tokio::sync::watch;

/// The host and the port of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Node {
    /// Parses `host:port`, with an IPv6 address in brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let host =
            host.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return None;
        }
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Credentials, TLS and the address of a server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Endpoint {
    server: FredConfig,
    /// The current node of a dynamic endpoint; `None` while it is unknown or about to change.
    node: Option<watch::Receiver<Option<Node>>>,
}

impl Endpoint {
    /// A server whose address never changes.
    pub(crate) fn fixed(server: FredConfig) -> Self {
        Self { server, node: None }
    }

    /// The server that `node` currently contains, with the credentials and the TLS settings of `template`.
    pub(super) fn dynamic(template: FredConfig, node: watch::Receiver<Option<Node>>) -> Self {
        Self { server: template, node: Some(node) }
    }

    /// Whether the address may change.
    pub(super) fn is_dynamic(&self) -> bool {
        self.node.is_some()
    }

    /// The configuration for `node`, with the credentials and the TLS settings of this endpoint.
    pub(super) fn for_node(&self, node: &Node) -> FredConfig {
        let server = Server::new(node.host.clone(), node.port);
        FredConfig { server: ServerConfig::Centralized { server }, ..self.server.clone() }
    }

    /// The configuration of the current server, if its address is known.
    pub(super) fn current(&self) -> Option<FredConfig> {
        match &self.node {
            None => Some(self.server.clone()),
            Some(node) => node.borrow().as_ref().map(|node| self.for_node(node)),
        }
    }

    /// Whether [`Endpoint::current`] returns a server.
    pub(super) fn is_known(&self) -> bool {
        self.node.as_ref().is_none_or(|node| node.borrow().is_some())
    }

    /// Waits until [`Endpoint::current`] may have changed since the last call of this method.
    pub(super) async fn changed(&mut self) {
        if let Some(node) = &mut self.node
            && node.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_parsed_from_host_and_port() {
        let node = |host: &str, port| Some(Node { host: host.to_owned(), port });
        assert_eq!(Node::parse("redis-1:26379"), node("redis-1", 26379));
        assert_eq!(Node::parse(" 10.0.0.1:7 "), node("10.0.0.1", 7));
        assert_eq!(Node::parse("[fd00::1]:26379"), node("fd00::1", 26379));
        for invalid in ["", "redis", ":26379", "redis:", "redis:x", "redis:70000"] {
            assert_eq!(Node::parse(invalid), None, "{invalid}");
        }
    }
}
