//! Protection against server-side request forgery. Clients choose the webhook URL and could otherwise reach hosts that
//! only this service can reach. A host name is resolved once per connection, and the connection uses only those of its
//! addresses that are allowed, so a second DNS reply cannot bypass the check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::Uri;

use super::Config;

/// None of the addresses of a host is allowed.
#[derive(Debug, thiserror::Error)]
#[error("the address is not public")]
pub(super) struct ForbiddenAddress;

/// Validates the URL of a webhook without resolving its host name.
///
/// # Errors
///
/// The reason, for the client.
pub(super) fn validate_url(url: &str, config: &Config) -> Result<(), String> {
    const MAX_BYTES: usize = 2048;
    let is_text = url.bytes().all(|byte| byte.is_ascii_graphic()) && url.len() <= MAX_BYTES;
    let uri = if is_text { url.parse::<Uri>().ok() } else { None };
    let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    let Some((scheme, authority)) = parts else {
        return Err(format!("must be a URL of at most {MAX_BYTES} bytes"));
    };
    if !(scheme == "https" || (scheme == "http" && config.allow_http)) {
        let allowed = if config.allow_http { "https:// or http://" } else { "https://" };
        return Err(format!("must start with {allowed}"));
    }
    if authority.as_str().contains('@') || url.contains('#') || authority.host().is_empty() {
        return Err("must have a host, and must not have a user or a fragment".to_owned());
    }
    match ip_literal(authority.host()) {
        Some(address) if !is_allowed(address, config) => {
            Err("the address is not public".to_owned())
        }
        _ => Ok(()),
    }
}

fn ip_literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Resolves `host` and returns its allowed addresses.
///
/// # Errors
///
/// [`ForbiddenAddress`] if the host has addresses but none is allowed; an I/O error if it cannot be resolved.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    config: &Config,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let all: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let allowed: Vec<SocketAddr> =
        all.iter().copied().filter(|address| is_allowed(address.ip(), config)).collect();
    if allowed.is_empty() && !all.is_empty() {
        return Err(ForbiddenAddress.into());
    }
    Ok(allowed)
}

fn is_allowed(address: IpAddr, config: &Config) -> bool {
    let address = address.to_canonical();
    is_public(address) || config.allowed_networks.iter().any(|network| network.contains(&address))
}

/// Whether an address belongs to the public Internet, according to IANA's special-purpose address registries.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast();
    let [a, b, c, _] = address.octets();
    // This network; carrier-grade NAT; IETF protocols; 6to4 relays; benchmarks; reserved and broadcast.
    let also_special = a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special && !also_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [.., high, low] = segments;
    let embedded = || {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // NAT64: a gateway translates the address to the embedded IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(embedded()),
        // Documentation; IETF protocols, including Teredo; 6to4. The rest of 2000::/3 is the public Internet.
        [0x2001, 0xdb8 | 0..0x200, ..] | [0x3fff, 0..0x1000, ..] | [0x2002, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("8.8.8.8", true)]
    #[case("2606:4700:4700::1111", true)]
    #[case("64:ff9b::808:808", true)]
    #[case("127.0.0.1", false)]
    #[case("0.0.0.0", false)]
    #[case("10.1.2.3", false)]
    #[case("172.16.0.1", false)]
    #[case("172.32.0.1", true)]
    #[case("192.168.0.1", false)]
    #[case("169.254.169.254", false)]
    #[case("100.64.0.1", false)]
    #[case("100.128.0.1", true)]
    #[case("198.18.0.1", false)]
    #[case("224.0.0.1", false)]
    #[case("255.255.255.255", false)]
    #[case("::", false)]
    #[case("::1", false)]
    #[case("::ffff:127.0.0.1", false)]
    #[case("::ffff:8.8.8.8", true)]
    #[case("::7f00:1", false)]
    #[case("64:ff9b::7f00:1", false)]
    #[case("64:ff9b:1::1", false)]
    #[case("fe80::1", false)]
    #[case("fc00::1", false)]
    #[case("ff02::1", false)]
    #[case("2001:db8::1", false)]
    #[case("2001::1", false)]
    #[case("2002:7f00:1::", false)]
    fn addresses_are_classified(#[case] address: IpAddr, #[case] public: bool) {
        assert_eq!(is_public(address.to_canonical()), public);
    }
}
