//! A service that knows models, which the service under test asks; it counts, and can be made to wait or to fail.

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

pub(crate) struct Origin {
    pub(crate) url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    asked: AtomicUsize,
    status: AtomicU16,
    is_open: watch::Sender<bool>,
}

impl Origin {
    #[expect(clippy::disallowed_methods, reason = "it serves beside the test")]
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/models/", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            asked: AtomicUsize::new(0),
            status: AtomicU16::new(200),
            is_open: watch::channel(true).0,
        });
        let router = Router::new().route("/models/{id}", get(answer)).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, serving }
    }

    /// How many requests have come.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// From now on answers wait, until [`Origin::go_on`].
    pub(crate) fn hold(&self) {
        self.shared.is_open.send_replace(false);
    }

    pub(crate) fn go_on(&self) {
        self.shared.is_open.send_replace(true);
    }

    /// From now on it answers with this status.
    pub(crate) fn answer_with(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The model's version is the number of the request.
async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    let version = shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
    shared.is_open.subscribe().wait_for(|it| *it).await.unwrap();
    let status = StatusCode::from_u16(shared.status.load(Ordering::SeqCst)).unwrap();
    let key = headers.get("authorization").map_or("", |it| it.to_str().unwrap());
    let body = format!("{{\"path\":\"{}\",\"version\":{version},\"key\":\"{key}\"}}", uri.path());
    (status, body).into_response()
}
