//! Slow clients, many clients, large and malformed requests: they are rejected or closed, and no other client waits.

use std::{
    io::ErrorKind,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{Client, Method};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, RootCertStore,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
};

use crate::{
    harness::{
        ApiResponse, Caller, GatewayProcess, TIMEOUT, TestApp, TestRedis, path_of, wait_until,
        write_certificate,
    },
    rate_limit::LIST,
};

fn address(base: &str) -> &str {
    base.split_once("://").unwrap().1
}

/// Sends raw bytes and returns all received bytes until the service closes the connection.
async fn raw(app: &TestApp, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address(&app.base)).await.unwrap();
    // The service may close the connection before all bytes are sent.
    _ = socket.write_all(bytes).await;
    let mut response = Vec::new();
    let reading = socket.read_to_end(&mut response);
    _ = tokio::time::timeout(TIMEOUT, reading).await.expect("it closes");
    String::from_utf8_lossy(&response).into_owned()
}

const FAST: [(&str, &str); 2] =
    [("server.header_timeout", "300ms"), ("server.body_timeout", "300ms")];

#[tokio::test]
async fn every_response_has_security_headers() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let link = job["links"]["stream"].as_str().unwrap();
    for (who, path) in [
        (Caller::Alice, path_of(&job)),
        (Caller::Anonymous, "/livez"),
        (Caller::Anonymous, "/nothing"),
        (Caller::Anonymous, LIST),
        (Caller::Anonymous, "/"),
        (Caller::Anonymous, &format!("{link}&timeout=1")),
    ] {
        let response = app.get(who, path).await;
        assert_eq!(response.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(response.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(response.header("referrer-policy"), "no-referrer", "{path}");
        assert!(response.header("content-security-policy").contains("default-src"), "{path}");
        assert!(!response.header("cache-control").is_empty(), "{path}");
        assert_eq!(response.header("strict-transport-security"), "", "{path}");
        assert_eq!(response.header("server"), "", "{path}");
    }
    let preflight = app
        .request(Caller::Anonymous, Method::OPTIONS, LIST)
        .header("origin", "https://a.example")
        .header("access-control-request-method", "POST");
    assert_eq!(ApiResponse::send(preflight).await.header("x-content-type-options"), "nosniff");
}

#[rstest]
#[case::nothing(b"")]
#[case::half_a_word(b"GE")]
#[case::half_a_preface(b"PRI * HTTP/2.0\r\n")]
#[case::half_a_head(b"GET /livez HTTP/1.1\r\nhost: x\r\nx-a: ")]
#[tokio::test]
async fn a_silent_client_is_disconnected(#[case] said: &[u8]) {
    let app = TestApp::start_with(&FAST).await;
    let started = Instant::now();
    let response = raw(&app, said).await;
    assert!(started.elapsed() >= Duration::from_millis(250), "{response}");
    assert!(!response.contains("HTTP/1.1 200"), "{response}");
}

#[tokio::test]
async fn a_slowloris_attack_blocks_no_other_client() {
    let app = TestApp::start_with(&FAST).await;
    let drip = async || {
        let mut socket = TcpStream::connect(address(&app.base)).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        let started = Instant::now();
        // Sends header after header until the service closes the connection.
        while socket.write_all(b"x-a: b\r\n").await.is_ok() {
            let mut byte = [0];
            let read = tokio::time::timeout(Duration::from_millis(20), socket.read(&mut byte));
            if matches!(read.await, Ok(Ok(0) | Err(_))) {
                break;
            }
            assert!(started.elapsed() < TIMEOUT, "it is still borne");
        }
    };
    let attack = futures_util::future::join_all((0..200).map(|_| drip()));
    let honest = async {
        for _ in 0..20 {
            let response = app.get(Caller::Alice, LIST).await;
            assert!(response.status == 200 && response.took < Duration::from_secs(5));
        }
    };
    tokio::join!(attack, honest);
}

#[tokio::test]
async fn a_slow_request_body_times_out() {
    let app = TestApp::start_with(&FAST).await;
    let head = "POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer alice-key\r\n\
        content-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"files\":";
    let response = raw(&app, head.as_bytes()).await;
    assert!(
        response.starts_with("HTTP/1.1 408") && response.contains("BODY_TIMEOUT"),
        "{response}"
    );
}

/// Connections of one address over its limit are rejected at once. Those within the limit may be idle until their
/// timeout. Other addresses are not affected.
#[tokio::test]
async fn ten_thousand_idle_connections_do_not_affect_other_clients() {
    const WANTED: usize = 10_000;
    const SHARE: usize = 3000;
    let spare = 500;
    let files = rlimit::increase_nofile_limit((WANTED + spare) as u64).unwrap();
    let n = WANTED.min(usize::try_from(files).unwrap().saturating_sub(spare));
    let redis = TestRedis::start();
    let share = SHARE.to_string();
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__SERVER__MAX_CONNECTIONS_PER_IP", &share),
        ("I2M__SERVER__HEADER_TIMEOUT", "10s"),
    ];
    let service = GatewayProcess::start(redis.dir(), &environment);
    let elsewhere = Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2]));
    let elsewhere = elsewhere.timeout(TIMEOUT).build().unwrap();
    let ask = async || ApiResponse::send(elsewhere.get(format!("{}/livez", service.base))).await;
    assert_eq!(ask().await.status, 200);
    let mut sockets = Vec::with_capacity(n);
    while sockets.len() < n {
        let more = (0..200).map(|_| async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.connect(address(&service.base).parse().unwrap()).await.unwrap()
        });
        sockets.extend(futures_util::future::join_all(more).await);
    }
    wait_until("all connections over the limit are rejected", async || {
        // Accepted connections have received no bytes.
        sockets.retain(|socket| {
            let mut response = [0; 12];
            let read = socket.try_read(&mut response);
            assert!(!matches!(read, Ok(12)) || response == *b"HTTP/1.1 503");
            read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        sockets.len() <= SHARE
    })
    .await;
    assert_eq!(sockets.len(), SHARE.min(n));
    let response = ask().await;
    assert!(
        response.status == 200 && response.took < Duration::from_secs(2),
        "{:?}",
        response.took
    );
    // Closed connections release their permits.
    drop(sockets);
    let here = Client::new();
    wait_until("a connection is accepted again", async || {
        here.get(format!("{}/livez", service.base))
            .send()
            .await
            .is_ok_and(|response| response.status() == 200)
    })
    .await;
}

#[tokio::test]
async fn a_full_service_responds_at_once() {
    let app = TestApp::start_with(&[("server.max_connections", "3")]).await;
    let mut open = Vec::new();
    wait_until("all connections are in use", async || {
        let mut socket = TcpStream::connect(address(&app.base)).await.unwrap();
        let mut response = [0; 12];
        let read =
            tokio::time::timeout(Duration::from_millis(50), socket.read(&mut response)).await;
        open.push(socket);
        matches!(read, Ok(Ok(12)) if response == *b"HTTP/1.1 503")
    })
    .await;
    assert!(open.len() <= 4, "{}", open.len());
    drop(open);
    // The number of rejected connections, which can be read once a connection is free.
    let mut page = String::new();
    wait_until("a connection is accepted again", async || {
        let asked = app.request(Caller::Anonymous, Method::GET, "/metrics").send().await;
        let Ok(response) = asked.and_then(reqwest::Response::error_for_status) else {
            return false;
        };
        page = response.text().await.unwrap();
        true
    })
    .await;
    let refused =
        page.lines().find_map(|line| line.strip_prefix("i2m_http_connections_refused_total "));
    assert!(refused.unwrap().parse::<u64>().unwrap() >= 1, "{refused:?}");
}

#[tokio::test]
async fn too_large_requests_are_rejected() {
    let app = TestApp::start().await;
    let get = |rest: &str| format!("GET /livez{rest}\r\n\r\n");
    let long = "x".repeat(100_000);
    let many = "x-a: b\r\n".repeat(5000);
    for (what, request) in [
        ("path", get(&format!("/{long} HTTP/1.1\r\nhost: x"))),
        ("query", get(&format!("?{long} HTTP/1.1\r\nhost: x"))),
        ("header", get(&format!(" HTTP/1.1\r\nhost: x\r\nx-a: {long}"))),
        ("key", get(&format!(" HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {long}"))),
        ("headers", get(&format!(" HTTP/1.1\r\nhost: x\r\n{many}"))),
        ("method", format!("{long} /livez HTTP/1.1\r\nhost: x\r\n\r\n")),
    ] {
        let response = raw(&app, request.as_bytes()).await;
        // The connection is closed with or without an error response; the request is never served.
        let refused = ["", "HTTP/1.1 431", "HTTP/1.1 414", "HTTP/1.1 400"];
        assert!(
            refused.iter().any(|status| response.get(..12).unwrap_or_default() == *status),
            "{what}: {response}"
        );
    }
    let jobs = vec!["00000000-0000-4000-8000-000000000000"; 101].join(",");
    let many = app.get(Caller::Alice, &format!("/api/v1/progress/stream?jobs={jobs}")).await;
    many.problem(422, "VALIDATION_ERROR");
    assert_eq!(app.get(Caller::Anonymous, "/livez").await.status, 200);
}

#[rstest]
#[case::two_lengths(
    "POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"
)]
#[case::signed_length("POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\na")]
#[case::bare_line_feed_in_value(
    "GET /livez HTTP/1.1\r\nhost: x\r\nx-request-id: a\rset-cookie: b\r\n\r\n"
)]
#[case::nul("GET /livez HTTP/1.1\r\nhost: x\r\nx-request-id: a\0b\r\n\r\n")]
#[case::folded("GET /livez HTTP/1.1\r\nhost: x\r\nx-request-id: a\r\n set-cookie: b\r\n\r\n")]
#[case::space_before_colon("GET /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n")]
#[case::chunked_twice(
    "POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n"
)]
#[tokio::test]
async fn a_malformed_head_is_rejected(#[case] request: &str) {
    let app = TestApp::start().await;
    let response = raw(&app, request.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 400"), "{response}");
    assert!(!response.contains("set-cookie"), "{response}");
}

#[tokio::test]
async fn caller_input_does_not_become_a_header() {
    let app = TestApp::start().await;
    for path in
        ["/a%0d%0aset-cookie:%20b=c", "/api/v1/jobs/%0d%0aset-cookie:b", "/?a=%0d%0aset-cookie:b"]
    {
        let response = app.get(Caller::Alice, path).await;
        assert!(response.headers.get("set-cookie").is_none(), "{path}");
    }
}

#[rstest]
#[case::up("/api/v1/jobs/../admin/keys")]
#[case::up_encoded("/api/v1/jobs/%2e%2e/admin/keys")]
#[case::slash_encoded("/api/v1/admin%2fkeys")]
#[case::two_slashes("//api/v1/admin/keys")]
#[case::slash_within("/api/v1//admin/keys")]
#[case::slash_behind("/api/v1/admin/keys/")]
#[case::other_case("/API/V1/ADMIN/KEYS")]
#[case::parameter("/api/v1/admin/keys;a=b")]
#[case::nul("/api/v1/admin/keys%00")]
#[case::dot("/api/v1/./admin/keys")]
#[case::file("/web/../Cargo.toml")]
#[case::file_encoded("/web/%2e%2e%2fCargo.toml")]
#[case::etc("/web/....//....//etc/passwd")]
#[tokio::test]
async fn a_path_has_one_spelling(#[case] path: &str) {
    let app = TestApp::start().await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer alice-key\r\nconnection: close\r\n\r\n"
    );
    let response = raw(&app, request.as_bytes()).await;
    let refused = ["HTTP/1.1 404", "HTTP/1.1 400", "HTTP/1.1 422", "HTTP/1.1 403"];
    assert!(refused.iter().any(|status| response.starts_with(status)), "{response}");
    assert!(!response.contains("[package]") && !response.contains("root:"), "{response}");
}

/// Sends a request over TLS as a client that trusts only the certificate `pem`.
async fn over_tls(port: u16, pem: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = "localhost".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, socket).await?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

#[tokio::test]
async fn tls_works_and_certificates_reload_without_a_restart() {
    let redis = TestRedis::start();
    let first = write_certificate(redis.dir());
    let cert = redis.dir().join("cert.pem").display().to_string();
    let key = redis.dir().join("key.pem").display().to_string();
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__SERVER__TLS_CERT_FILE", &cert),
        ("I2M__SERVER__TLS_KEY_FILE", &key),
        ("I2M__SERVER__HEADER_TIMEOUT", "300ms"),
    ];
    let service = GatewayProcess::start(redis.dir(), &environment);
    let port = service.base.rsplit_once(':').unwrap().1;
    let ask = async |pem: &str| over_tls(port.parse().unwrap(), pem).await.ok();
    let response = ask(&first).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(response.contains("strict-transport-security: max-age="), "{response}");
    let second = write_certificate(redis.dir());
    assert!(ask(&second).await.is_none());
    wait_until("the new certificate is used", async || {
        service.signal("HUP");
        ask(&second).await.is_some()
    })
    .await;
    assert!(ask(&first).await.is_none());
    // An invalid key keeps the old certificate, and a client that does not use TLS delays no other.
    std::fs::write(redis.dir().join("key.pem"), "no key").unwrap();
    service.signal("HUP");
    wait_until("the invalid key is rejected", async || {
        service.log.lock().unwrap().contains("keeping the previous configuration")
    })
    .await;
    assert!(ask(&second).await.is_some());
    let mut silent = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).await.unwrap();
    assert_eq!(silent.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test]
async fn streams_are_limited_by_address_and_by_caller() {
    let app = TestApp::start_with(&[
        ("sse.max_streams_per_ip", "3"),
        ("sse.max_streams_per_caller", "2"),
    ])
    .await;
    let (one, other) = (app.create_job(1).await, app.create_job(1).await);
    let mut held = Vec::new();
    for (job, is_let_in) in
        [(&one, true), (&one, true), (&one, false), (&other, true), (&other, false)]
    {
        let mut stream = app.follow(job, None).await;
        assert_eq!(stream.response.status(), 200);
        if is_let_in {
            stream.wait_for("task_queued").await;
            held.push(stream);
        } else {
            assert_eq!(stream.next().await, None);
            assert!(stream.retry_ms.is_some());
        }
    }
    drop(held);
    wait_until("streams are accepted again", async || {
        let link = format!("{}&timeout=1", one["links"]["stream"].as_str().unwrap());
        app.get(Caller::Anonymous, &link).await.text.contains("task_queued")
    })
    .await;
}
