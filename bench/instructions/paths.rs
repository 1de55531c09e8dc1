//! The measured paths of requests and events.

use std::{hint::black_box, path::PathBuf, str::FromStr};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Method, Request, header},
};
use http_body_util::BodyExt as _;
use image2model_gateway::{App, Config, bench::WatchedJob};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

const JOB: &str = "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// The layers that every request passes.
    Livez,
    /// The dashboard page, with a matching `If-None-Match`.
    NotModified,
    /// Authentication, limits, the route, and the keys and arguments of the script.
    GetJob,
    /// A client that exceeded its limit, refused from memory.
    Refused,
    /// Like `GetJob`, with 5 files to validate and to pass to the script.
    CreateJob,
    /// Like `GetJob`, with a worker's report on 25 files.
    Report,
    /// The conversion of a stream entry to an SSE event.
    Frame,
}

impl FromStr for Path {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|path| path.name() == name);
        found.ok_or_else(|| format!("unknown path {name}"))
    }
}

impl Path {
    pub(crate) const ALL: [Self; 7] = [
        Self::Livez,
        Self::NotModified,
        Self::GetJob,
        Self::Refused,
        Self::CreateJob,
        Self::Report,
        Self::Frame,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Livez => "livez",
            Self::NotModified => "not-modified",
            Self::GetJob => "get-job",
            Self::Refused => "refused",
            Self::CreateJob => "create-job",
            Self::Report => "report",
            Self::Frame => "frame",
        }
    }

    /// Walks the path `times` times to warm up, then as often with instruction counting.
    pub(crate) fn walk(self, times: usize) {
        if self == Self::Frame {
            let mut watched = WatchedJob::default();
            let mut walk = || (0..times).for_each(|_| _ = black_box(watched.frame()));
            walk();
            return count_from_here(walk);
        }
        let service = Service::start();
        let etag = service.etag();
        let walk = || {
            for _ in 0..times {
                let (status, _) = service.send(self.request(&etag));
                assert_eq!(status, self.status(), "{self:?}");
            }
        };
        if self == Self::Refused {
            // The first request is within the limit; it fails because Redis is not running.
            assert_eq!(service.send(self.request(&etag)).0, 503);
        }
        walk();
        count_from_here(walk);
    }

    fn status(self) -> u16 {
        match self {
            Self::Livez | Self::Frame => 200,
            Self::NotModified => 304,
            Self::Refused => 429,
            Self::GetJob | Self::CreateJob | Self::Report => 503,
        }
    }

    fn request(self, etag: &str) -> Request<Body> {
        match self {
            Self::Livez | Self::Frame => request(Method::GET, "/livez", "", ""),
            Self::NotModified => {
                let mut request = request(Method::GET, "/", "", "");
                request.headers_mut().insert(header::IF_NONE_MATCH, etag.parse().unwrap());
                request
            }
            Self::GetJob => request(Method::GET, JOB, "many", ""),
            Self::Refused => request(Method::GET, JOB, "few", ""),
            Self::CreateJob => {
                let file = r#"{"filename":"a.png","size":1000,"content_type":"image/png"}"#;
                let body = format!(r#"{{"files":[{}]}}"#, [file; 5].join(","));
                request(Method::POST, "/api/v1/jobs", "many", &body)
            }
            Self::Report => {
                let files: Vec<String> = (0..25)
                    .map(|file| format!(r#"{{"file_id":"file_{file:03}","progress":40}}"#))
                    .collect();
                let body = format!(r#"{{"files":[{}]}}"#, files.join(","));
                request(Method::POST, &format!("{JOB}/progress"), "many", &body)
            }
        }
    }
}

fn request(method: Method, path: &str, key: &str, body: &str) -> Request<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        // No Accept-Encoding: the compressor would dominate the count.
        .header(header::CONTENT_TYPE, "application/json");
    let request = match key {
        "" => request,
        key => request.header(header::AUTHORIZATION, format!("Bearer {key}")),
    };
    request.body(Body::from(body.to_owned())).unwrap()
}

/// The service without its listener. Background tasks run on another thread, which is not counted.
struct Service {
    routes: Router,
    runtime: Runtime,
    _background: Runtime,
}

impl Service {
    fn start() -> Self {
        tracing_subscriber::fmt().json().with_writer(std::io::sink).init();
        let background =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let file =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bench/instructions/gateway.toml");
        let settings = [
            ("I2M__SERVER__LISTEN", "127.0.0.1:0"),
            ("I2M__REDIS__URL", "redis+unix:///nowhere/redis.sock"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(Some(&file), settings).unwrap();
        let routes = background.block_on(async { App::bind(config).await.unwrap().into_router() });
        Self { routes, runtime, _background: background }
    }

    fn send(&self, request: Request<Body>) -> (u16, Bytes) {
        self.runtime.block_on(async {
            let response = self.routes.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            (status, response.into_body().collect().await.unwrap().to_bytes())
        })
    }

    fn etag(&self) -> String {
        let page = request(Method::GET, "/", "", "");
        let page = self.runtime.block_on(self.routes.clone().oneshot(page)).unwrap();
        page.headers()[header::ETAG].to_str().unwrap().to_owned()
    }
}

/// Callgrind counts the instructions within this function, which it finds by name.
#[inline(never)]
fn count_from_here(walk: impl FnOnce()) {
    walk();
    // Prevents a tail call.
    black_box(());
}
