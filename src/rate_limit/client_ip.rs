//! The client address of a request: the peer, or the address that trusted proxies forward in a header.
//!
//! `docs/adr/0004-rate-limiter.md` explains why no crate is used for this.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::Ipv6Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::{Config, IpNetwork};

/// The header in which proxies forward the client address. Only one header is read, because clients can forge any
/// header that the proxies do not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// The de facto standard.
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

    /// Parses the address in one element of the header.
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
            .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
            .or_else(|| bracketed().map(IpAddr::V6))
            .map(|address| address.to_canonical())
    }
}

pub(super) struct TrustedProxies {
    trusted: Vec<IpNetwork>,
    pub(super) header: ProxyHeader,
}

impl TrustedProxies {
    pub(super) fn new(config: &Config) -> Self {
        Self { trusted: config.trusted_proxies.clone(), header: config.proxy_header }
    }

    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The client behind `peer`.
    ///
    /// Each proxy appends the address of its peer at the right end of the list. The list is therefore read from the
    /// right, and an element counts only if a trusted proxy added it.
    pub(super) fn client_ip<'a>(
        &self,
        peer: IpAddr,
        header_lines: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        let elements = header_lines.rev().flat_map(|line| line.rsplit(',')).map(str::trim);
        for element in elements.filter(|element| !element.is_empty()) {
            if !self.trusts(client) {
                break;
            }
            // A proxy that forwards no valid address counts as the client.
            let Some(address) = self.header.address(element) else { break };
            client = address;
        }
        client
    }
}

/// The name under which an address is counted: for IPv6 its network, because one client usually has a whole network.
pub(super) fn rate_limit_network(address: IpAddr, ipv6_prefix: u8) -> String {
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

    fn proxies(header: ProxyHeader) -> TrustedProxies {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"];
        let trusted = trusted.map(|network| IpNetwork::try_from(network.to_owned()).unwrap());
        TrustedProxies { trusted: trusted.to_vec(), header }
    }

    #[rstest]
    #[case::no_header("10.0.0.1", &[], "10.0.0.1")]
    #[case::one_proxy("10.0.0.1", &["203.0.113.7"], "203.0.113.7")]
    #[case::two_proxies("10.0.0.1", &["203.0.113.7, 10.0.0.2"], "203.0.113.7")]
    #[case::two_header_lines("10.0.0.1", &["203.0.113.7", "10.0.0.2"], "203.0.113.7")]
    #[case::spoofed_to_a_proxy("10.0.0.1", &["1.1.1.1, 203.0.113.7"], "203.0.113.7")]
    #[case::spoofed_as_a_proxy("10.0.0.1", &["1.1.1.1, 10.9.9.9, 203.0.113.7"], "203.0.113.7")]
    #[case::spoofed_directly("203.0.113.7", &["1.1.1.1, 10.0.0.1"], "203.0.113.7")]
    #[case::only_proxies("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3")]
    #[case::invalid_element("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2")]
    #[case::empty_elements("10.0.0.1", &["203.0.113.7, ,", ""], "203.0.113.7")]
    #[case::ports("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7")]
    #[case::ipv6("10.0.0.1", &["2001:db8::1, 2001:db8:ffff::2"], "2001:db8::1")]
    #[case::ipv6_with_port("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1")]
    #[case::mapped("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], "203.0.113.7")]
    fn elements_count_only_if_a_trusted_proxy_added_them(
        #[case] peer: IpAddr,
        #[case] header_lines: &[&str],
        #[case] client: IpAddr,
    ) {
        let proxies = proxies(ProxyHeader::XForwardedFor);
        assert_eq!(proxies.client_ip(peer, header_lines.iter().copied()), client);
    }

    #[rstest]
    #[case("for=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7")]
    #[case("for=1.1.1.1, For=\"[2001:db8::1]:4711\", for=10.0.0.2", "2001:db8::1")]
    #[case("for=\"[2001:db8::1]\"", "2001:db8::1")]
    #[case("for=1.1.1.1, for=_hidden", "10.0.0.1")]
    #[case("for=1.1.1.1, proto=https", "10.0.0.1")]
    #[case("for=\"1.1.1.1, for=203.0.113.7", "203.0.113.7")]
    fn forwarded_is_parsed_as_in_rfc_7239(#[case] header_line: &str, #[case] client: IpAddr) {
        let proxies = proxies(ProxyHeader::Forwarded);
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(proxies.client_ip(peer, [header_line].into_iter()), client);
    }

    #[rstest]
    #[case("203.0.113.7", 64, "203.0.113.7")]
    #[case("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64")]
    #[case("2001:db8:1:2::", 64, "2001:db8:1:2::/64")]
    #[case("2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::/48")]
    #[case("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6")]
    fn ipv6_is_counted_by_network(#[case] address: IpAddr, #[case] prefix: u8, #[case] name: &str) {
        assert_eq!(rate_limit_network(address, prefix), name);
    }
}
