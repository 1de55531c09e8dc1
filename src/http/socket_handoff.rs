//! Responses that are written past hyper: a stream that lives for hours needs its socket and little else.
//!
//! A handler adds a [`Takeover`] to its response. Where the request came by plain HTTP/1, the server then gives up
//! its own state of the connection and hands over the socket; elsewhere the response's body is sent as any other.

use std::{net::TcpStream, sync::Arc};

use bytes::Bytes;
use chrono::Utc;
use hyper::{Response, header, header::HeaderValue};
use parking_lot::Mutex;

use super::connection_limit::ConnectionPlace;

/// A socket that is to be written by whoever made the response.
pub(crate) struct Taken {
    /// Non-blocking, and known to no reactor.
    pub(crate) socket: TcpStream,
    /// The head of the response, to be written first. The body ends with the connection.
    pub(crate) head: Bytes,
    /// The connection's place among those that may be open.
    pub(crate) place: ConnectionPlace,
}

type Take = Box<dyn FnOnce(Taken) + Send>;

/// A response's extension: its body had rather be written by this function.
#[derive(Clone)]
pub(crate) struct Takeover(Arc<Mutex<Option<Take>>>);

impl Takeover {
    /// Adds the wish to `response`.
    pub(crate) fn ask<B>(response: &mut Response<B>, take: impl FnOnce(Taken) + Send + 'static) {
        let take: Take = Box::new(take);
        response.extensions_mut().insert(Self(Arc::new(Mutex::new(Some(take)))));
    }

    pub(super) fn of<B>(response: &Response<B>) -> Option<Self> {
        response.extensions().get::<Self>().cloned()
    }

    pub(super) fn hand_over(&self, taken: Taken) {
        let take = self.0.lock().take();
        if let Some(take) = take {
            take(taken);
        }
    }
}

/// The head of `response` on the wire (RFC 9112): its body has no length and ends with the connection.
pub(super) fn head_of<B>(response: &Response<B>) -> Bytes {
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
