//! Where a server is: at a fixed place, or wherever the sentinels say that the primary is now.

use fred::types::config::{Config as FredConfig, Server, ServerConfig};
use tokio::sync::watch;

/// A host and a port as the sentinels name them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Node {
    /// From `host:port`, an IPv6 address in brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
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

/// The way to a server: credentials, TLS, and where it is. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Address {
    server: FredConfig,
    /// Where the primary is; nowhere while it is unknown or about to change.
    primary: Option<watch::Receiver<Option<Node>>>,
}

impl Address {
    /// A server that stays where it is.
    pub(crate) fn fixed(server: FredConfig) -> Self {
        Self { server, primary: None }
    }

    /// Whichever server is the primary, reached as `server` says but for the place.
    pub(super) fn followed(server: FredConfig, primary: watch::Receiver<Option<Node>>) -> Self {
        Self { server, primary: Some(primary) }
    }

    /// Whether the server may become another one.
    pub(super) fn is_followed(&self) -> bool {
        self.primary.is_some()
    }

    /// `node` in place of the primary, reached in the same way.
    pub(super) fn at(&self, node: &Node) -> FredConfig {
        let server = Server::new(node.host.clone(), node.port);
        FredConfig { server: ServerConfig::Centralized { server }, ..self.server.clone() }
    }

    /// Where the server is now, if that is known.
    pub(super) fn now(&self) -> Option<FredConfig> {
        match &self.primary {
            None => Some(self.server.clone()),
            Some(primary) => primary.borrow().as_ref().map(|it| self.at(it)),
        }
    }

    /// Waits until [`Address::now`] may say something else than when this was last asked.
    pub(super) async fn changed(&mut self) {
        if let Some(primary) = &mut self.primary
            && primary.changed().await.is_ok()
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
    fn nodes_are_read_as_people_write_them() {
        let node = |host: &str, port| Some(Node { host: host.to_owned(), port });
        assert_eq!(Node::parse("redis-1:26379"), node("redis-1", 26379));
        assert_eq!(Node::parse(" 10.0.0.1:7 "), node("10.0.0.1", 7));
        assert_eq!(Node::parse("[fd00::1]:26379"), node("fd00::1", 26379));
        for bad in ["", "redis", ":26379", "redis:", "redis:x", "redis:70000"] {
            assert_eq!(Node::parse(bad), None, "{bad}");
        }
    }
}
