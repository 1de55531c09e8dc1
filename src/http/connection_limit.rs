//! How many connections may be open, in all and from one address, so that nobody takes the places of everybody.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tracing::warn;

use super::Config;
use crate::observability::log_throttle::Seldom;

/// What is said to whom finds no place, if it is there to hear it.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 0\r\n\r\n";
/// IPv6 addresses that agree in this many bits are one caller.
const IPV6_PREFIX: u32 = 64;

/// Counts open connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    most: usize,
    most_of_an_address: usize,
    /// Proxies, behind whose addresses are many callers.
    exempt: Vec<IpNet>,
    open: Mutex<Open>,
    refused: Seldom,
}

#[derive(Default)]
struct Open {
    n: usize,
    /// No larger than `n`.
    of: HashMap<IpAddr, usize>,
}

/// A connection's place; dropping it gives it back.
pub(crate) struct ConnectionPlace {
    connections: Connections,
    address: IpAddr,
}

impl Connections {
    pub(super) fn new(config: &Config, exempt: Vec<IpNet>) -> Self {
        Self(Arc::new(Inner {
            most: places_for(config.max_connections),
            most_of_an_address: config.max_connections_per_ip,
            exempt,
            open: Mutex::default(),
            refused: Seldom::default(),
        }))
    }

    /// Takes a place for a connection from `peer`, or tells it that there is none and closes it. Never waits.
    pub(super) fn enter(
        &self,
        stream: TcpStream,
        peer: IpAddr,
    ) -> Option<(TcpStream, ConnectionPlace)> {
        let place = self.take(peer);
        if place.is_none() {
            if let Some(times) = self.0.refused.due() {
                warn!(times, %peer, "refused: server.max_connections or max_connections_per_ip are open");
            }
            // Into the empty buffer of a fresh socket this fits; if not, so be it.
            _ = stream.try_write(NO_PLACE);
        }
        place.map(|it| (stream, it))
    }

    fn take(&self, peer: IpAddr) -> Option<ConnectionPlace> {
        let address = counted_as(peer.to_canonical());
        let mut open = self.0.open.lock();
        let of_address = open.of.get(&address).copied().unwrap_or(0);
        let is_exempt = || self.0.exempt.iter().any(|it| it.contains(&peer.to_canonical()));
        if open.n >= self.0.most || (of_address >= self.0.most_of_an_address && !is_exempt()) {
            return None;
        }
        open.n += 1;
        open.of.insert(address, of_address + 1);
        Some(ConnectionPlace { connections: self.clone(), address })
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut open = self.connections.0.open.lock();
        open.n = open.n.saturating_sub(1);
        match open.of.get_mut(&self.address) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(open.of.remove(&self.address)),
        }
    }
}

fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(it) => {
            let mask = u128::MAX << (128 - IPV6_PREFIX);
            IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() & mask))
        }
        IpAddr::V4(_) => address,
    }
}

/// As many of `wanted` as there can be file descriptors for, with some left for Redis and files.
fn places_for(wanted: usize) -> usize {
    const RESERVED: u64 = 200;
    let needed = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_add(RESERVED);
    let had: io::Result<u64> = rlimit::increase_nofile_limit(needed);
    let Ok(limit) = had else { return wanted };
    let places = usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(wanted).max(1);
    if places < wanted {
        warn!(
            places,
            wanted, limit, "server.max_connections is lowered: ulimit -n allows no more files"
        );
    }
    places.min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_everybodys_places() {
        let connections = Connections(Arc::new(Inner {
            most: 5,
            most_of_an_address: 2,
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
            open: Mutex::default(),
            refused: Seldom::default(),
        }));
        let take = |it: &str| connections.take(it.parse().unwrap());
        let mut held = vec![take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some) && take("192.0.2.1").is_none());
        held.extend([take("2001:db8::1"), take("2001:db8::2")]);
        assert!(held.iter().all(Option::is_some) && take("2001:db8::3").is_none());
        held.push(take("10.0.0.1"));
        assert!(held[4].is_some() && take("10.0.0.1").is_none(), "five in all");
        held.remove(0);
        held.extend([take("10.0.0.1")]);
        assert!(held.iter().all(Option::is_some), "proxies are many callers");
        held.clear();
        let open = connections.0.open.lock();
        assert_eq!((open.n, open.of.len()), (0, 0));
    }
}
