//! Where webhooks may go. Callers choose the URL, so without care they could make this service speak to what only it
//! can reach: the addresses that a name stands for are checked when the connection is made, and only they are used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::Uri;

use super::Config;

/// The addresses that a name stands for are none that may be sent to.
#[derive(Debug, thiserror::Error)]
#[error("the address is not public")]
pub(super) struct Forbidden;

/// Whether a URL is one that webhooks may go to, as far as it says itself.
pub(super) fn check_url(url: &str, config: &Config) -> Result<(), String> {
    const MAX_BYTES: usize = 2048;
    let is_text = url.bytes().all(|it| it.is_ascii_graphic()) && url.len() <= MAX_BYTES;
    let uri = if is_text { url.parse::<Uri>().ok() } else { None };
    let parts = uri.as_ref().and_then(|it| Some((it.scheme_str()?, it.authority()?)));
    let Some((scheme, authority)) = parts else {
        return Err(format!("it has to be a URL of at most {MAX_BYTES} bytes"));
    };
    if !(scheme == "https" || (scheme == "http" && config.allow_http)) {
        let allowed = if config.allow_http { "https:// or http://" } else { "https://" };
        return Err(format!("it has to begin with {allowed}"));
    }
    if authority.as_str().contains('@') || url.contains('#') || authority.host().is_empty() {
        return Err("it needs a host, and may have neither a user nor a fragment".to_owned());
    }
    match literal(authority.host()) {
        Some(address) if !may_be_reached(address, config) => {
            Err("its address is not public".to_owned())
        }
        _ => Ok(()),
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The addresses of `host` that may be sent to.
///
/// # Errors
///
/// [`Forbidden`] if it has addresses and none of these may be; else what the system says.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    config: &Config,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let all: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let may: Vec<SocketAddr> =
        all.iter().copied().filter(|it| may_be_reached(it.ip(), config)).collect();
    if may.is_empty() && !all.is_empty() { Err(Forbidden.into()) } else { Ok(may) }
}

fn may_be_reached(address: IpAddr, config: &Config) -> bool {
    let address = address.to_canonical();
    is_public(address) || config.allowed_networks.iter().any(|it| it.contains(&address))
}

/// Whether an address is of the public Internet, by the special-purpose registries of IANA.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => is_public_v4(it),
        IpAddr::V6(it) => is_public_v6(it),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast();
    let [a, b, c, _] = address.octets();
    // This network; shared by carriers; IETF protocols; 6to4 relays; benchmarks; reserved and broadcast.
    let more = a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special && !more
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [.., high, low] = segments;
    let embedded = || {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // Translated to IPv4 by a gateway of the network (NAT64).
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(embedded()),
        // Documentation; IETF protocols, Teredo among them; 6to4. What is left of 2000::/3 is the Internet.
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
    fn what_is_not_public_is_known(#[case] address: IpAddr, #[case] public: bool) {
        assert_eq!(is_public(address.to_canonical()), public);
    }
}
