//! What `serve` says on a laptop once it listens.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where to look, and a session to paste into a shell.
pub(crate) fn welcome(mut address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(it) if it.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        SocketAddr::V6(it) if it.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into());
        }
        _ => (),
    }
    include_str!("welcome.txt").replace("ADDRESS", &address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_address_is_shown_as_one_to_call() {
        let text = welcome("0.0.0.0:8080".parse().unwrap());
        assert!(text.contains("http://127.0.0.1:8080/") && !text.contains("ADDRESS"));
        assert!(welcome("[::]:8080".parse().unwrap()).contains("http://[::1]:8080/"));
    }

    #[test]
    fn the_model_of_the_session_is_the_one_that_is_served() {
        let text = welcome("127.0.0.1:8080".parse().unwrap());
        let size = format!(r#""size":{},"#, crate::api::dashboard::CUBE.len());
        assert!(text.contains(&size) && text.contains(crate::api::dashboard::CUBE_PATH));
    }
}
