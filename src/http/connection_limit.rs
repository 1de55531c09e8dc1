//! Limits open connections, in total and per address, so that one client cannot exhaust them.

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
use crate::observability::log_throttle::LogThrottle;

/// The response to a connection above the limit.
const RESPONSE_503: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 0\r\n\r\n";
/// IPv6 addresses that share this many leading bits are counted as one client.
const IPV6_PREFIX: u32 = 64;

/// Counts open connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct ConnectionLimiter(Arc<Inner>);

struct Inner {
    max: usize,
    max_per_ip: usize,
    /// Trusted proxies, whose addresses stand for many clients.
    exempt: Vec<IpNet>,
    open: Mutex<Open>,
    rejected_log: LogThrottle,
}

#[derive(Default)]
struct Open {
    total: usize,
    /// At most `total` entries.
    by_ip: HashMap<IpAddr, usize>,
}

/// Permission to keep one connection open; dropping it releases the slot.
pub(crate) struct ConnectionPermit {
    limiter: ConnectionLimiter,
    address: IpAddr,
}

impl ConnectionLimiter {
    pub(super) fn new(config: &Config, exempt: Vec<IpNet>) -> Self {
        Self(Arc::new(Inner {
            max: limit_for_nofile(config.max_connections),
            max_per_ip: config.max_connections_per_ip,
            exempt,
            open: Mutex::default(),
            rejected_log: LogThrottle::default(),
        }))
    }

    /// Returns a permit for a connection from `peer`, or answers 503 and closes the connection. Never waits.
    pub(super) fn admit(
        &self,
        stream: TcpStream,
        peer: IpAddr,
    ) -> Option<(TcpStream, ConnectionPermit)> {
        let permit = self.try_acquire(peer);
        if permit.is_none() {
            if let Some(occurrences) = self.0.rejected_log.should_log() {
                warn!(occurrences, %peer, "connection rejected: server.max_connections or max_connections_per_ip reached");
            }
            // The response fits into the empty send buffer of a new socket; a failure changes nothing.
            _ = stream.try_write(RESPONSE_503);
        }
        permit.map(|permit| (stream, permit))
    }

    fn try_acquire(&self, peer: IpAddr) -> Option<ConnectionPermit> {
        let address = client_network(peer.to_canonical());
        let mut open = self.0.open.lock();
        let from_ip = open.by_ip.get(&address).copied().unwrap_or(0);
        let is_exempt =
            || self.0.exempt.iter().any(|network| network.contains(&peer.to_canonical()));
        if open.total >= self.0.max || (from_ip >= self.0.max_per_ip && !is_exempt()) {
            return None;
        }
        open.total += 1;
        open.by_ip.insert(address, from_ip + 1);
        Some(ConnectionPermit { limiter: self.clone(), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.limiter.0.open.lock();
        open.total = open.total.saturating_sub(1);
        match open.by_ip.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.by_ip.remove(&self.address)),
        }
    }
}

/// The address, or for IPv6 its network.
fn client_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - IPV6_PREFIX);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V4(_) => address,
    }
}

/// `requested`, or as many as the limit of open files allows, with a reserve for Redis and files.
fn limit_for_nofile(requested: usize) -> usize {
    const RESERVED: u64 = 200;
    let needed = u64::try_from(requested).unwrap_or(u64::MAX).saturating_add(RESERVED);
    let raised: io::Result<u64> = rlimit::increase_nofile_limit(needed);
    let Ok(limit) = raised else { return requested };
    let allowed = usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(requested).max(1);
    if allowed < requested {
        warn!(
            allowed,
            requested,
            limit,
            "server.max_connections lowered to fit the limit of open files (ulimit -n)"
        );
    }
    allowed.min(requested)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_exhaust_the_limit() {
        let limiter = ConnectionLimiter(Arc::new(Inner {
            max: 5,
            max_per_ip: 2,
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
            open: Mutex::default(),
            rejected_log: LogThrottle::default(),
        }));
        let acquire = |address: &str| limiter.try_acquire(address.parse().unwrap());
        let mut permits = vec![acquire("192.0.2.1"), acquire("::ffff:192.0.2.1")];
        assert!(permits.iter().all(Option::is_some) && acquire("192.0.2.1").is_none());
        permits.extend([acquire("2001:db8::1"), acquire("2001:db8::2")]);
        assert!(permits.iter().all(Option::is_some) && acquire("2001:db8::3").is_none());
        permits.push(acquire("10.0.0.1"));
        assert!(permits[4].is_some() && acquire("10.0.0.1").is_none(), "five in total");
        permits.remove(0);
        permits.extend([acquire("10.0.0.1")]);
        assert!(permits.iter().all(Option::is_some), "proxies stand for many clients");
        permits.clear();
        let open = limiter.0.open.lock();
        assert_eq!((open.total, open.by_ip.len()), (0, 0));
    }
}
