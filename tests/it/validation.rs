//! Validation of input, limits and headers.

use std::fmt::Write as _;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{ApiResponse, Caller, TestApp, path_of};

fn job_of(file: &Value) -> String {
    json!({"files": [file]}).to_string()
}

#[rstest]
#[case::not_json("{", 400)]
#[case::two_values(r#"{"files":[{"filename":"a"}]} {}"#, 400)]
#[case::empty("", 400)]
#[case::an_array("[]", 422)]
#[case::fields_as_a_list(r#" [[{"filename":"a"}]]"#, 422)]
#[case::no_files_field("{}", 422)]
#[case::no_files(r#"{"files":[]}"#, 422)]
#[case::files_of_wrong_type(r#"{"files":"a.png"}"#, 422)]
#[case::file_of_wrong_type(r#"{"files":["a.png"]}"#, 422)]
#[case::no_filename(r#"{"files":[{"size":1}]}"#, 422)]
#[case::empty_filename(r#"{"files":[{"filename":""}]}"#, 422)]
#[case::size_of_wrong_type(r#"{"files":[{"filename":"a","size":"1"}]}"#, 422)]
#[case::negative_size(r#"{"files":[{"filename":"a","size":-1}]}"#, 422)]
#[case::huge_size(r#"{"files":[{"filename":"a","size":18446744073709551615}]}"#, 422)]
#[case::unknown_field(r#"{"files":[{"filename":"a"}],"x":1}"#, 422)]
#[case::unknown_file_field(r#"{"files":[{"filename":"a","x":1}]}"#, 422)]
#[case::params_of_wrong_type(r#"{"files":[{"filename":"a"}],"params":1}"#, 422)]
#[case::control_character(&job_of(&json!({"filename": "a\u{7}b"})), 422)]
#[case::newline(&job_of(&json!({"filename": "a\nb"})), 422)]
#[case::slash(&job_of(&json!({"filename": "../../etc/passwd"})), 422)]
#[case::long_name(&job_of(&json!({"filename": "a".repeat(10_000)})), 422)]
#[case::bad_content_type(&job_of(&json!({"filename": "a", "content_type": "png\r\nx: y"})), 422)]
#[case::script_url(&job_of(&json!({"filename": "a", "url": "javascript:alert(1)"})), 422)]
#[case::not_utf8("\u{1}", 400)]
#[tokio::test]
async fn an_invalid_job_is_rejected(#[case] body: &str, #[case] status: u16) {
    let app = TestApp::start().await;
    let request = app
        .request(Caller::Alice, Method::POST, "/api/v1/jobs")
        .header("content-type", "application/json");
    ApiResponse::send(request.body(body.to_owned())).await.problem(status, "VALIDATION_ERROR");
    // Database 3 has the rate limit counters.
    for database in [0, 1, 2, 4] {
        assert_eq!(app.redis.keys(database).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_job_has_a_limited_number_of_files() {
    let app = TestApp::start().await;
    let files = |n: usize| json!({"files": vec![json!({"filename": "a.png"}); n]});
    let problem =
        app.post(Caller::Alice, "/api/v1/jobs", &files(26)).await.problem(422, "TOO_MANY_FILES");
    assert_eq!(problem["details"], json!({"max_files": 25, "got": 26}));
    app.post(Caller::Alice, "/api/v1/jobs", &files(25)).await.ok(201);
}

#[tokio::test]
async fn deep_nesting_and_large_params_are_rejected() {
    let app = TestApp::start().await;
    let mut deep = String::new();
    for _ in 0..100_000 {
        _ = write!(deep, "[");
    }
    for body in [
        deep,
        format!(
            r#"{{"files":[{{"filename":"a"}}],"params":{{"x":{}1{}}}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        ),
    ] {
        let request = app
            .request(Caller::Alice, Method::POST, "/api/v1/jobs")
            .header("content-type", "application/json");
        let response = ApiResponse::send(request.body(body)).await;
        assert!((400..500).contains(&response.status), "{}", response.text);
    }
    let large = json!({"files": [{"filename": "a"}], "params": {"x": "y".repeat(20_000)}});
    app.post(Caller::Alice, "/api/v1/jobs", &large).await.problem(422, "VALIDATION_ERROR");
}

#[rstest]
#[case::negative(json!({"progress": -1}))]
#[case::too_much(json!({"progress": 101}))]
#[case::far_too_much(json!({"progress": 256}))]
#[case::fraction(json!({"progress": 40.5}))]
#[case::text(json!({"progress": "40"}))]
#[case::nothing(json!({}))]
#[case::null(json!({"progress": null}))]
#[case::unknown_field(json!({"progress": 1, "percent": 2}))]
#[case::attempt_zero(json!({"progress": 1, "attempt": 0}))]
#[case::long_message(json!({"progress": 1, "message": "m".repeat(2000)}))]
#[tokio::test]
async fn an_invalid_report_is_rejected(#[case] report: Value) {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.report(&job, 0, &report).await.problem(422, "VALIDATION_ERROR");
    let shown = app.get(Caller::Alice, path_of(&job)).await.ok(200);
    assert_eq!((&shown["status"], &shown["progress"]), (&json!("pending"), &json!(0)));
}

#[rstest]
#[case::no_result(json!({"status": "completed"}))]
#[case::no_error(json!({"status": "failed"}))]
#[case::both(json!({"status": "failed", "error": "x", "result": {"filename": "a", "size": 1, "mime_type": "x/y", "url": "/a"}}))]
#[case::other_status(json!({"status": "processing"}))]
#[case::script_url(json!({"status": "completed", "result": {"filename": "a", "size": 1, "mime_type": "x/y", "url": "javascript:1"}}))]
#[tokio::test]
async fn an_invalid_result_is_rejected(#[case] result: Value) {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    let path = format!("{}/files/file_000/result", path_of(&job));
    app.send(Caller::Worker, Method::PUT, &path, &result).await.problem(422, "VALIDATION_ERROR");
}

#[rstest]
#[case::separator("a:files")]
#[case::glob("*")]
#[case::brace("%7B00000000-0000-4000-8000-000000000000%7D")]
#[case::newline("00000000-0000-4000-8000-00000000000%0A")]
#[case::nul("%00")]
#[case::not_utf8("%FF")]
#[tokio::test]
async fn an_id_that_is_not_a_uuid_is_rejected(#[case] id: &str) {
    let app = TestApp::start().await;
    let response = app.get(Caller::Alice, &format!("/api/v1/jobs/{id}")).await;
    assert_eq!(response.status, 400, "{}", response.text);
    let report = format!("/api/v1/jobs/00000000-0000-4000-8000-000000000000/files/{id}/progress");
    let response = app.post(Caller::Worker, &report, &json!({"progress": 1})).await;
    assert!(matches!(response.status, 400 | 422), "{}", response.text);
}

#[tokio::test]
async fn the_body_must_be_json_of_limited_size() {
    let app = TestApp::start().await;
    let post = || app.request(Caller::Alice, Method::POST, "/api/v1/jobs");
    ApiResponse::send(post().body("files=1")).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    let xml = post().header("content-type", "text/xml").body("<a/>");
    ApiResponse::send(xml).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    let announced = post().header("content-type", "application/json").body("x".repeat(2 << 20));
    ApiResponse::send(announced).await.problem(413, "PAYLOAD_TOO_LARGE");
    let chunks =
        futures_util::stream::iter((0..2000).map(|_| Ok::<_, std::io::Error>("x".repeat(1000))));
    let unannounced =
        post().header("content-type", "application/json").body(reqwest::Body::wrap_stream(chunks));
    ApiResponse::send(unannounced).await.problem(413, "PAYLOAD_TOO_LARGE");
}

/// A client that sends a hundred megabytes can read the error response although the body is not read.
#[tokio::test]
async fn a_huge_body_is_rejected_at_once() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let app = TestApp::start().await;
    let address = app.base.trim_start_matches("http://");
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer alice-key\r\n\
        content-type: application/json\r\ncontent-length: 104857600\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&[b'x'; 10_000]).await.unwrap();
    let mut response = vec![0; 12];
    socket.read_exact(&mut response).await.unwrap();
    assert_eq!(response, b"HTTP/1.1 413");
}

#[tokio::test]
async fn unknown_paths_and_methods_return_a_problem() {
    let app = TestApp::start().await;
    app.get(Caller::Anonymous, "/nope").await.problem(404, "NOT_FOUND");
    app.get(Caller::Anonymous, "/api/v1/status/invalid-task-id/stream")
        .await
        .problem(404, "NOT_FOUND");
    app.get(Caller::Anonymous, "/api/v1/status/tasks/invalid/stream")
        .await
        .problem(400, "INVALID_JOB_ID");
    let wrong = app.send(Caller::Alice, Method::DELETE, "/api/v1/jobs", &json!({})).await;
    assert_eq!(wrong.header("allow"), "POST,GET,HEAD");
    wrong.problem(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn every_response_has_a_request_id() {
    let app = TestApp::start().await;
    let ask =
        |id: &str| app.request(Caller::Anonymous, Method::GET, "/livez").header("x-request-id", id);
    assert_eq!(ApiResponse::send(ask("trace-1.a:b")).await.header("x-request-id"), "trace-1.a:b");
    for invalid in ["a b", "", "<script>", &"x".repeat(200)] {
        let given = ApiResponse::send(ask(invalid)).await.header("x-request-id").to_owned();
        assert_eq!(given.len(), 36, "{invalid:?} became {given}");
    }
}

#[tokio::test]
async fn a_browser_of_a_configured_origin_may_call() {
    let app =
        TestApp::start_with(&[("cors.origins", "https://app.example.com,https://b.example.com")])
            .await;
    let preflight = |origin: &str| {
        app.request(Caller::Anonymous, Method::OPTIONS, "/api/v1/jobs")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,content-type,idempotency-key,last-event-id",
            )
    };
    let response = ApiResponse::send(preflight("https://app.example.com")).await;
    assert_eq!(
        (response.status, response.header("access-control-allow-origin")),
        (200, "https://app.example.com")
    );
    assert!(response.header("access-control-allow-methods").contains("PATCH"));
    assert!(response.header("access-control-allow-headers").contains("idempotency-key"));
    assert_eq!(response.header("access-control-allow-credentials"), "");
    let other = ApiResponse::send(preflight("https://evil.example.com")).await;
    assert_eq!(other.header("access-control-allow-origin"), "");

    let refused = app
        .request(Caller::Anonymous, Method::GET, "/nope")
        .header("origin", "https://b.example.com");
    let refused = ApiResponse::send(refused).await;
    assert_eq!(refused.header("access-control-allow-origin"), "https://b.example.com");
    assert!(refused.header("access-control-expose-headers").contains("x-request-id"));
}

#[tokio::test]
async fn json_is_compressed_and_streams_are_not() {
    let app = TestApp::start().await;
    let job = app.create_job(25).await;
    let get = |path: &str| {
        app.request(Caller::Alice, Method::GET, path).header("accept-encoding", "gzip")
    };
    let response = get(path_of(&job)).send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let small = get("/livez").send().await.unwrap();
    assert!(small.headers().get("content-encoding").is_none());
    let stream = get(job["links"]["stream"].as_str().unwrap()).send().await.unwrap();
    assert!(stream.headers().get("content-encoding").is_none());
}

#[tokio::test]
async fn http2_is_served_on_the_same_port() {
    let app = TestApp::start().await;
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let response = h2.get(format!("{}/livez", app.base)).send().await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (reqwest::Version::HTTP_2, 200));
}

#[tokio::test]
async fn probes_and_the_health_report_return_the_status() {
    let app = TestApp::start().await;
    for probe in
        ["/livez", "/readyz", "/startupz", "/api/v1/health/liveness", "/api/v1/health/readiness"]
    {
        assert_eq!(app.get(Caller::Anonymous, probe).await.ok(200), json!({"status": "ok"}));
        let verbose = app.get(Caller::Anonymous, &format!("{probe}?verbose")).await.ok(200);
        assert_eq!(verbose["checks"][0]["ok"], true);
    }
    for path in ["/health", "/api/v1/health", "/api/v1/health/", "/api/v1/health/detailed"] {
        let report = app.get(Caller::Anonymous, path).await.ok(200);
        assert_eq!(report["status"], "healthy");
        for section in ["ping", "memory", "clients", "persistence", "replication"] {
            assert!(report["checks"][section].is_object(), "{section} is missing");
        }
    }
}
