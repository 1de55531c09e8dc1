//! A browser's `EventSource`, which parses event streams by the WHATWG's rules.

use reqwest::{Method, Response};
use serde_json::Value;

use super::{Caller, TIMEOUT, TestApp};

/// A dispatched event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
    /// The last event id at the time of the dispatch.
    pub(crate) id: String,
}

pub(crate) struct EventSource {
    pub(crate) response: Response,
    buffer: Vec<u8>,
    pub(crate) last_id: String,
    pub(crate) retry_ms: Option<u64>,
}

impl EventSource {
    pub(crate) async fn open(app: &TestApp, path: &str, after: Option<&str>) -> Self {
        let mut request = app.request(Caller::Anonymous, Method::GET, path);
        if let Some(id) = after {
            request = request.header("last-event-id", id);
        }
        Self::new(request.send().await.unwrap(), after)
    }

    /// Parses the stream in `response`. `after` is the last event id that the request sent.
    pub(crate) fn new(response: Response, after: Option<&str>) -> Self {
        Self {
            response,
            buffer: Vec::new(),
            last_id: after.unwrap_or_default().to_owned(),
            retry_ms: None,
        }
    }

    /// The next event, or `None` when the server has closed the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(TIMEOUT, self.read_event())
            .await
            .expect("an event or the end of the stream before the timeout")
    }

    /// Skips to the next event with this name.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, name: &str) -> impl Future<Output = Event> {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                let event = self.next().await;
                let event =
                    event.unwrap_or_else(|| panic!("the stream ended before a {name} at {caller}"));
                if event.name == name {
                    return event;
                }
            }
        }
    }

    /// All events until the server closes the stream.
    pub(crate) async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    async fn read_event(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = self.dispatch(std::str::from_utf8(&block).unwrap()) {
                    return Some(event);
                }
            }
            self.buffer.extend(self.response.chunk().await.ok()??);
        }
    }

    fn dispatch(&mut self, block: &str) -> Option<Event> {
        let (mut name, mut data) = ("message".to_owned(), String::new());
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => value.clone_into(&mut self.last_id),
                "event" => value.clone_into(&mut name),
                "data" => data.push_str(value),
                "retry" => self.retry_ms = value.parse().ok(),
                _ => (),
            }
        }
        let data = (!data.is_empty()).then(|| serde_json::from_str(&data).unwrap())?;
        Some(Event { name, data, id: self.last_id.clone() })
    }
}
