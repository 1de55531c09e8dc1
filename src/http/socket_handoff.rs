//! Responses that bypass hyper: a stream that stays open for hours needs a socket and little else.
//!
//! A handler adds a [`SocketHandoff`] to its response. If the request arrived over plain HTTP/1, the server drops its own
//! state of the connection and hands over the socket; otherwise it sends the response body as usual.

use std::{net::TcpStream, sync::Arc};

use bytes::Bytes;
use chrono::Utc;
use hyper::{Response, header, header::HeaderValue};
use parking_lot::Mutex;

use super::connection_limit::ConnectionPermit;

/// A socket for the code that made the response to write to.
pub(crate) struct RawConnection {
    /// Non-blocking, not registered with any reactor.
    pub(crate) socket: TcpStream,
    /// The encoded head of the response, to be written first. The body ends with the connection.
    pub(crate) head: Bytes,
    /// Counts the connection as open until it is dropped.
    pub(crate) permit: ConnectionPermit,
}

type OnHandoff = Box<dyn FnOnce(RawConnection) + Send>;

/// A response extension: a function that takes over the socket instead of sending the body.
#[derive(Clone)]
pub(crate) struct SocketHandoff(Arc<Mutex<Option<OnHandoff>>>);

impl SocketHandoff {
    /// Adds the request for the socket to `response`.
    pub(crate) fn request<B>(
        response: &mut Response<B>,
        take: impl FnOnce(RawConnection) + Send + 'static,
    ) {
        let take: OnHandoff = Box::new(take);
        response.extensions_mut().insert(Self(Arc::new(Mutex::new(Some(take)))));
    }

    pub(super) fn from_response<B>(response: &Response<B>) -> Option<Self> {
        response.extensions().get::<Self>().cloned()
    }

    pub(super) fn complete(&self, taken: RawConnection) {
        let take = self.0.lock().take();
        if let Some(take) = take {
            take(taken);
        }
    }
}

/// Encodes the head of `response` (RFC 9112), whose body has no length and ends with the connection.
pub(super) fn encode_response_head<B>(response: &Response<B>) -> Bytes {
    let mut head = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    let mut add = |name: &str, value: &HeaderValue| {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    };
    for (name, value) in response.headers() {
        add(name.as_str(), value);
    }
    add(header::CONNECTION.as_str(), &HeaderValue::from_static("close"));
    // RFC 9110, section 5.6.7.
    let date = Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::from_str(&date) {
        add(header::DATE.as_str(), &date);
    }
    head.extend_from_slice(b"\r\n");
    Bytes::from(head)
}
