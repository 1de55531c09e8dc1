//! A fake model origin for the service under test. It counts requests, and a test can delay its responses or make it fail.

use std::sync::{
    Arc,
    atomic::{AtomicU16, AtomicUsize, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub(crate) struct FakeOrigin {
    pub(crate) url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    request_count: AtomicUsize,
    status: AtomicU16,
    is_open: watch::Sender<bool>,
}

impl FakeOrigin {
    #[expect(clippy::disallowed_methods, reason = "the fake origin runs beside the test")]
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/models/", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            request_count: AtomicUsize::new(0),
            status: AtomicU16::new(200),
            is_open: watch::channel(true).0,
        });
        let router = Router::new().route("/models/{id}", get(respond)).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, serving }
    }

    /// The number of requests received.
    pub(crate) fn request_count(&self) -> usize {
        self.shared.request_count.load(Ordering::SeqCst)
    }

    /// Delays responses until [`FakeOrigin::resume`].
    pub(crate) fn hold(&self) {
        self.shared.is_open.send_replace(false);
    }

    pub(crate) fn resume(&self) {
        self.shared.is_open.send_replace(true);
    }

    /// Sets the status of the following responses.
    pub(crate) fn respond_with(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }
}

impl Drop for FakeOrigin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Returns a model whose version is the number of the request.
async fn respond(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    let version = shared.request_count.fetch_add(1, Ordering::SeqCst) + 1;
    shared.is_open.subscribe().wait_for(|is_open| *is_open).await.unwrap();
    let status = StatusCode::from_u16(shared.status.load(Ordering::SeqCst)).unwrap();
    let key = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
    let body = format!("{{\"path\":\"{}\",\"version\":{version},\"key\":\"{key}\"}}", uri.path());
    (status, body).into_response()
}
