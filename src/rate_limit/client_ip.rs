//! Who is calling: the peer, or whom proxies that we trust say they speak for.
//!
//! No crate does just this: see `docs/adr/0004-a-limiter-of-our-own.md`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::Ipv6Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::{Config, Network};

/// The header in which proxies say whom they speak for. Only one is read: what our proxies do not write, callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// The usual one.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl ProxyHeader {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }

    /// The address in one element of the header.
    fn address(self, element: &str) -> Option<IpAddr> {
        let text = match self {
            Self::XForwardedFor => element,
            Self::Forwarded => element.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
            })?,
        };
        let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
        let address = text.parse::<IpAddr>().ok();
        address
            .or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()))
            .or_else(|| bracketed().map(IpAddr::V6))
            .map(|it| it.to_canonical())
    }
}

/// Whom we believe.
pub(super) struct Proxies {
    trusted: Vec<Network>,
    pub(super) header: ProxyHeader,
}

impl Proxies {
    pub(super) fn new(config: &Config) -> Self {
        Self { trusted: config.trusted_proxies.clone(), header: config.proxy_header }
    }

    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|it| it.contains(address))
    }

    /// The caller behind `peer`. Each proxy adds at the right who called it, so the list is walked from there: as
    /// long as it is our own proxies that speak, the next word is to be believed, and no further.
    pub(super) fn caller<'a>(
        &self,
        peer: IpAddr,
        lines: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut caller = peer.to_canonical();
        let elements = lines.rev().flat_map(|it| it.rsplit(',')).map(str::trim);
        for element in elements.filter(|it| !it.is_empty()) {
            if !self.trusts(caller) {
                break;
            }
            // A proxy that does not say whom it speaks for is the caller itself.
            let Some(address) = self.header.address(element) else { break };
            caller = address;
        }
        caller
    }
}

/// The name under which an address is counted. Who has one IPv6 address has its whole network.
pub(super) fn counted_as(address: IpAddr, ipv6_prefix: u8) -> String {
    match address {
        IpAddr::V6(address) if ipv6_prefix < 128 => match Ipv6Net::new(address, ipv6_prefix) {
            Ok(network) => network.trunc().to_string(),
            Err(_) => address.to_string(),
        },
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn proxies(header: ProxyHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"];
        let trusted = trusted.map(|it| Network::try_from(it.to_owned()).unwrap());
        Proxies { trusted: trusted.to_vec(), header }
    }

    #[rstest]
    #[case::no_header("10.0.0.1", &[], "10.0.0.1")]
    #[case::one_proxy("10.0.0.1", &["203.0.113.7"], "203.0.113.7")]
    #[case::two_proxies("10.0.0.1", &["203.0.113.7, 10.0.0.2"], "203.0.113.7")]
    #[case::two_lines("10.0.0.1", &["203.0.113.7", "10.0.0.2"], "203.0.113.7")]
    #[case::spoofed_to_a_proxy("10.0.0.1", &["1.1.1.1, 203.0.113.7"], "203.0.113.7")]
    #[case::spoofed_as_a_proxy("10.0.0.1", &["1.1.1.1, 10.9.9.9, 203.0.113.7"], "203.0.113.7")]
    #[case::spoofed_directly("203.0.113.7", &["1.1.1.1, 10.0.0.1"], "203.0.113.7")]
    #[case::all_ours("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3")]
    #[case::nonsense("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2")]
    #[case::empty_elements("10.0.0.1", &["203.0.113.7, ,", ""], "203.0.113.7")]
    #[case::ports("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7")]
    #[case::ipv6("10.0.0.1", &["2001:db8::1, 2001:db8:ffff::2"], "2001:db8::1")]
    #[case::ipv6_with_port("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1")]
    #[case::mapped("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], "203.0.113.7")]
    fn the_list_is_believed_as_far_as_our_proxies_go(
        #[case] peer: IpAddr,
        #[case] lines: &[&str],
        #[case] caller: IpAddr,
    ) {
        let proxies = proxies(ProxyHeader::XForwardedFor);
        assert_eq!(proxies.caller(peer, lines.iter().copied()), caller);
    }

    #[rstest]
    #[case("for=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7")]
    #[case("for=1.1.1.1, For=\"[2001:db8::1]:4711\", for=10.0.0.2", "2001:db8::1")]
    #[case("for=\"[2001:db8::1]\"", "2001:db8::1")]
    #[case("for=1.1.1.1, for=_hidden", "10.0.0.1")]
    #[case("for=1.1.1.1, proto=https", "10.0.0.1")]
    #[case("for=\"1.1.1.1, for=203.0.113.7", "203.0.113.7")]
    fn forwarded_is_read_as_rfc_7239_has_it(#[case] line: &str, #[case] caller: IpAddr) {
        let proxies = proxies(ProxyHeader::Forwarded);
        assert_eq!(proxies.caller("10.0.0.1".parse().unwrap(), [line].into_iter()), caller);
    }

    #[rstest]
    #[case("203.0.113.7", 64, "203.0.113.7")]
    #[case("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64")]
    #[case("2001:db8:1:2::", 64, "2001:db8:1:2::/64")]
    #[case("2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::/48")]
    #[case("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6")]
    fn ipv6_is_counted_by_network(#[case] address: IpAddr, #[case] prefix: u8, #[case] name: &str) {
        assert_eq!(counted_as(address, prefix), name);
    }
}
