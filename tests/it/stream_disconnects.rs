//! Connections that break at any byte, and slow browsers: no event is lost or repeated.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::harness::{Caller, Event, EventSource, TIMEOUT, TestApp, id_of};

/// A browser on a raw socket, which a test can close after any byte.
struct Browser {
    address: SocketAddr,
    path: String,
    last_id: Option<String>,
    /// Ids of the completely received events, in order.
    seen: Vec<String>,
}

impl Browser {
    fn of(app: &TestApp, job: &Value) -> Self {
        let path = job["links"]["stream"].as_str().unwrap().to_owned();
        Self { address: address_of(app), path, last_id: None, seen: Vec::new() }
    }

    fn request(&self) -> String {
        let id = self.last_id.as_ref().map(|id| format!("Last-Event-ID: {id}\r\n"));
        format!(
            "GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n",
            self.path,
            id.unwrap_or_default()
        )
    }

    /// Connects, reads at most `max_bytes`, and disconnects. Returns whether the server closed the stream before.
    async fn read_and_disconnect(&mut self, max_bytes: usize) -> bool {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(self.request().as_bytes()).await.unwrap();
        let mut text = vec![0; max_bytes];
        let mut read_len = 0;
        while read_len < max_bytes {
            let read = tokio::time::timeout(TIMEOUT, socket.read(&mut text[read_len..])).await;
            match read.expect("bytes or the end in time").unwrap() {
                0 => break,
                n => read_len += n,
            }
        }
        text.truncate(read_len);
        self.record(&String::from_utf8(text).unwrap());
        read_len < max_bytes
    }

    /// Records the events that a browser would dispatch: those up to the last empty line.
    fn record(&mut self, response: &str) {
        let Some((_, body)) = response.split_once("\r\n\r\n") else { return };
        let whole = body.rfind("\n\n").map_or("", |end| &body[..end]);
        for block in whole.split("\n\n") {
            if let Some(id) = block.lines().find_map(|line| line.strip_prefix("id: ")) {
                if self.last_id.as_deref() != Some(id) {
                    self.seen.push(id.to_owned());
                }
                self.last_id = Some(id.to_owned());
            }
        }
    }
}

fn address_of(app: &TestApp) -> SocketAddr {
    app.base.strip_prefix("http://").unwrap().parse().unwrap()
}

/// The ids of a job's stream in Redis.
async fn ids_in_redis(app: &TestApp, job: &Value) -> Vec<String> {
    let key = format!("stream:progress:{}", id_of(job));
    let entries: Vec<(String, Vec<String>)> =
        app.redis.run(2, &["XRANGE", &key, "-", "+"]).await.convert().unwrap();
    entries.into_iter().map(|entry| entry.0).collect()
}

#[tokio::test]
async fn a_disconnect_at_any_byte_loses_and_repeats_no_event() {
    let app = TestApp::start_with(&[("sse.ring_length", "4")]).await;
    let job = app.create_job(2).await;
    let mut browser = Browser::of(&app, &job);
    let work = async {
        for percent in 1..=40 {
            app.report(&job, 0, &json!({"progress": percent, "message": "x".repeat(percent)}))
                .await
                .ok(200);
        }
        app.complete(&job, 0).await.ok(200);
        app.complete(&job, 1).await.ok(200);
    };
    let watch = async {
        // In the head, between head and snapshot, in and after the snapshot, and within frames.
        for max_bytes in (0..60).map(|step| step * 37) {
            browser.read_and_disconnect(max_bytes).await;
        }
    };
    tokio::join!(work, watch);
    while !browser.read_and_disconnect(1 << 20).await {}
    // After the end the response contains no further events.
    assert!(browser.read_and_disconnect(1 << 20).await);
    let all = ids_in_redis(&app, &job).await;
    let begin = all.iter().position(|id| *id == browser.seen[0]).unwrap();
    assert_eq!(browser.seen, all[begin..]);
}

#[tokio::test]
async fn a_slow_browser_catches_up_and_delays_no_other() {
    const N_EVENTS: usize = 900;
    let app = TestApp::start_with(&[("sse.ring_length", "8")]).await;
    let job = app.create_job(1).await;
    let mut slow = Browser::of(&app, &job);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut socket = socket.connect(slow.address).await.unwrap();
    socket.write_all(slow.request().as_bytes()).await.unwrap();
    let mut fast = app.follow(&job, None).await;
    fast.wait_for("task_queued").await;

    // More data than the socket buffers hold.
    let script = "for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'file_id', 'file_000', \
        'progress', 1 + i / 10 - i / 10 % 1, 'timestamp', 'x', 'message', string.rep('m', 1000)) end \
        redis.call('PUBLISH', ARGV[2], '')";
    let (key, channel) =
        (format!("stream:progress:{}", id_of(&job)), format!("progress:{}", id_of(&job)));
    let event_count = N_EVENTS.to_string();
    app.redis.run(2, &["EVAL", script, "1", &key, &event_count, &channel]).await;
    for _ in 0..N_EVENTS {
        fast.wait_for("file_update").await;
    }
    app.complete(&job, 0).await.ok(200);
    fast.wait_for("task_completed").await;

    let mut text = Vec::new();
    tokio::time::timeout(TIMEOUT, socket.read_to_end(&mut text)).await.unwrap().unwrap();
    slow.record(&String::from_utf8(text).unwrap());
    assert_eq!(slow.seen, ids_in_redis(&app, &job).await);
}

#[tokio::test]
async fn a_request_pipelined_before_a_stream_gets_its_whole_response() {
    let app = TestApp::start().await;
    let job = app.create_job(1).await;
    app.complete(&job, 0).await.ok(200);
    let browser = Browser::of(&app, &job);
    let mut socket = TcpStream::connect(browser.address).await.unwrap();
    // One write, as a pipelining client sends it (RFC 9112, section 9.3.2).
    let requests = format!("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n{}", browser.request());
    socket.write_all(requests.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(TIMEOUT, socket.read_to_string(&mut text)).await.unwrap().unwrap();
    let responses: Vec<&str> = text.split("HTTP/1.1 200 OK").collect();
    assert_eq!(responses.len(), 3, "{text}");
    assert!(responses[2].contains("event: task_completed"), "{text}");
}

#[tokio::test]
async fn an_http2_preface_sent_byte_by_byte_is_recognized() {
    let app = TestApp::start().await;
    let mut socket = TcpStream::connect(address_of(&app)).await.unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        socket.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    // An empty SETTINGS frame (RFC 9113, section 3.4); the server responds with its own.
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut frame = [0; 9];
    tokio::time::timeout(TIMEOUT, socket.read_exact(&mut frame)).await.unwrap().unwrap();
    assert_eq!(frame[3], 4, "a SETTINGS frame: {frame:?}");
}

#[tokio::test]
async fn streams_over_http2_have_the_same_events() {
    let app = TestApp::start_with(&[("sse.ring_length", "4")]).await;
    let job = app.create_job(2).await;
    let http2 =
        reqwest::Client::builder().http2_prior_knowledge().timeout(TIMEOUT).build().unwrap();
    let url = format!("{}{}", app.base, job["links"]["stream"].as_str().unwrap());
    let open = async |after: Option<&str>| {
        let mut request = http2.get(&url);
        if let Some(id) = after {
            request = request.header("last-event-id", id);
        }
        EventSource::new(request.send().await.unwrap(), after)
    };
    let mut over_http2 = open(None).await;
    assert_eq!(over_http2.response.version(), reqwest::Version::HTTP_2);
    let first = over_http2.wait_for("task_queued").await;
    let mut over_http1 = app.follow(&job, None).await;
    over_http1.wait_for("task_queued").await;
    for percent in 1..=20 {
        app.report(&job, 0, &json!({"progress": percent})).await.ok(200);
    }
    app.complete(&job, 0).await.ok(200);
    app.fail(&job, 1, "no mesh").await.ok(200);
    let told: Vec<Event> = over_http2.rest().await;
    assert!(told == over_http1.rest().await, "streams differ by protocol");
    // A resume after an event that is no longer in memory.
    let again = open(Some(&first.id)).await.rest().await;
    let ids = |events: &[Event]| {
        let mut ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
        ids.dedup();
        ids
    };
    assert_eq!(ids(&again), ids(&told));
}

#[tokio::test]
async fn admins_see_the_watched_jobs() {
    let app = TestApp::start().await;
    let (popular, other) = (app.create_job(1).await, app.create_job(1).await);
    let mut streams = Vec::new();
    for job in [&popular, &popular, &other] {
        let mut stream = app.follow(job, None).await;
        stream.wait_for("task_queued").await;
        streams.push(stream);
    }
    let report = app.get(Caller::Admin, "/api/v1/admin/streams").await.ok(200);
    assert_eq!(report["open"], 3);
    assert_eq!(
        report["jobs"],
        json!([
            { "job_id": id_of(&popular), "subscribers": 2 },
            { "job_id": id_of(&other), "subscribers": 1 },
        ])
    );
    app.get(Caller::Alice, "/api/v1/admin/streams").await.problem(403, "INSUFFICIENT_PERMISSIONS");
}
