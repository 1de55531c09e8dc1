//! The banner that `serve` prints in development once it listens.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The address of the dashboard, and a session to paste into a shell.
pub(crate) fn banner(mut address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into());
        }
        _ => (),
    }
    include_str!("banner.txt").replace("ADDRESS", &address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_address_is_replaced_by_a_callable_one() {
        let text = banner("0.0.0.0:8080".parse().unwrap());
        assert!(text.contains("http://127.0.0.1:8080/") && !text.contains("ADDRESS"));
        assert!(banner("[::]:8080".parse().unwrap()).contains("http://[::1]:8080/"));
    }

    #[test]
    fn the_session_names_the_served_sample_model() {
        let text = banner("127.0.0.1:8080".parse().unwrap());
        let size = format!(r#""size":{},"#, crate::api::dashboard::SAMPLE_MODEL.len());
        assert!(text.contains(&size) && text.contains(crate::api::dashboard::SAMPLE_MODEL_PATH));
    }
}
