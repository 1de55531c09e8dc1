//! Publishes stamped events at a constant rate from a separate thread.

use std::{
    fmt::Write as _,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use memchr::memmem;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    event_stamp::{EventStamp, now_us},
    redis,
    servers::{Server, ServerKind, Topic},
};

/// How events are written to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// XADD and PUBLISH, like the gateway's scripts.
    XaddPublish,
    /// XADD without PUBLISH, like other programs.
    XaddOnly,
}

/// One connection that publishes events to several topics in turn.
pub(crate) struct Publisher {
    socket: TcpStream,
    /// The bytes before and after the stamp of an event, per topic.
    templates: Vec<(Vec<u8>, Vec<u8>)>,
    /// The number of the last event of each topic.
    pub(crate) numbers: Vec<u64>,
    next_topic: usize,
    out: Vec<u8>,
    replies: Vec<u8>,
}

/// The number of published events and the time it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) event_count: u64,
    pub(crate) seconds: f64,
}

impl Publisher {
    pub(crate) fn connect(
        server: &Server,
        redis: SocketAddr,
        topics: &[Topic],
        mode: WriteMode,
    ) -> Result<Self> {
        let through_redis = server.kind.reads_redis();
        let socket = TcpStream::connect(if through_redis { redis } else { server.addr })?;
        socket.set_nodelay(true)?;
        let mut out = Vec::new();
        if through_redis {
            out.extend_from_slice(b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n");
        }
        let template = |topic: &Topic| match server.kind {
            ServerKind::Gateway | ServerKind::FastApi => redis_template(&topic.id, mode),
            ServerKind::Nchan | ServerKind::NchanRedis => http_template(&topic.id),
        };
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            templates: topics.iter().map(template).collect(),
            numbers: vec![0; topics.len()],
            next_topic: 0,
            out,
            replies: vec![0; 1 << 16],
        })
    }

    /// A publisher that survives outages of Redis; see [`ReliablePublisher`].
    pub(crate) fn reliable(redis: SocketAddr, topics: &[Topic], rate: f64) -> ReliablePublisher {
        let ids = topics.iter().map(|topic| topic.id.clone()).collect();
        ReliablePublisher { redis, ids, rate, numbers: vec![0; topics.len()] }
    }

    /// Publishes `rate` events per second for `period`. Returns the publisher and its counts.
    pub(crate) async fn send(mut self, rate: f64, period: Duration) -> Result<(Self, Sent)> {
        let (done, outcome) = oneshot::channel();
        thread::spawn(move || {
            let sent = self.send_blocking(rate, period);
            _ = done.send(sent.map(|sent| (self, sent)));
        });
        outcome.await.context("the publisher panicked")?
    }

    fn send_blocking(&mut self, rate: f64, period: Duration) -> Result<Sent> {
        // Limits the time between two clock reads of a publisher that has fallen behind.
        const MAX_BATCH: u64 = 200;
        let (started, mut event_count) = (Instant::now(), 0);
        loop {
            let elapsed = started.elapsed();
            if elapsed >= period {
                break;
            }
            let due_count = (elapsed.as_secs_f64() * rate) as u64 + 1;
            let batch = due_count.saturating_sub(event_count).min(MAX_BATCH);
            if batch == 0 {
                let next = started + Duration::from_secs_f64(event_count as f64 / rate);
                thread::sleep(next.saturating_duration_since(Instant::now()));
                continue;
            }
            for _ in 0..batch {
                self.add_event();
            }
            self.flush(started + period + Duration::from_secs(2))?;
            event_count += batch;
        }
        Ok(Sent { event_count, seconds: started.elapsed().as_secs_f64() })
    }

    fn add_event(&mut self) {
        let topic = self.next_topic;
        self.next_topic = (topic + 1) % self.templates.len();
        self.numbers[topic] += 1;
        let (before, after) = &self.templates[topic];
        self.out.extend_from_slice(before);
        EventStamp { number: self.numbers[topic], sent_us: now_us() }.write(&mut self.out);
        self.out.extend_from_slice(after);
    }

    fn flush(&mut self, deadline: Instant) -> Result<()> {
        let mut written = 0;
        while written < self.out.len() {
            match self.socket.write(&self.out[written..]) {
                Ok(length) => written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() > deadline {
                        bail!("the server accepts no more events");
                    }
                    thread::sleep(Duration::from_micros(200));
                }
                Err(error) => return Err(error).context("could not publish"),
            }
            self.read_replies()?;
        }
        self.out.clear();
        Ok(())
    }

    fn read_replies(&mut self) -> Result<()> {
        loop {
            match self.socket.read(&mut self.replies) {
                Ok(0) => bail!("the server closed the publisher's connection"),
                Ok(length) => {
                    let text = &self.replies[..length];
                    let refusals: [&[u8]; 4] = [b"-ERR", b"-OOM", b"HTTP/1.1 4", b"HTTP/1.1 5"];
                    if refusals.iter().any(|refusal| memmem::find(text, refusal).is_some()) {
                        bail!("an event was refused: {}", String::from_utf8_lossy(text));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("could not publish"),
            }
        }
    }
}

/// The commands around the stamp in the message: the stream entry that the gateway's script for job progress writes,
/// and the notification if `mode` includes PUBLISH.
fn redis_template(id: &str, mode: WriteMode) -> (Vec<u8>, Vec<u8>) {
    let key = format!("stream:progress:{id}");
    let mut before: Vec<&str> = vec!["XADD", &key, "MAXLEN", "~", "1000", "*"];
    before.extend(["file_id", "", "progress", "50", "timestamp", "2026-01-01T00:00:00.000000"]);
    before.extend(["event", "task_progress", "status", "processing", "overall", "50"]);
    before.extend(["completed", "0", "failed", "0", "total", "1", "message"]);
    let mut head = format!("*{}\r\n", before.len() + 1);
    for word in before {
        _ = write!(head, "${}\r\n{word}\r\n", word.len());
    }
    _ = write!(head, "${}\r\n", EventStamp::LEN);
    let mut tail = "\r\n".to_owned();
    if mode == WriteMode::XaddPublish {
        let (channel, text) = (format!("progress:{id}"), format!("{{\"job_id\":\"{id}\"}}"));
        tail += "*3\r\n$7\r\nPUBLISH\r\n";
        _ = write!(tail, "${}\r\n{channel}\r\n${}\r\n{text}\r\n", channel.len(), text.len());
    }
    (head.into_bytes(), tail.into_bytes())
}

/// A POST request with the event that the gateway creates from such an entry.
fn http_template(id: &str) -> (Vec<u8>, Vec<u8>) {
    let before = "{\"status\":\"processing\",\"progress\":50,\"current\":0,\"total\":1,\
                  \"total_files\":1,\"message\":\"";
    let after =
        format!("\",\"job_id\":\"{id}\",\"task_id\":\"{id}\",\"timestamp\":1767225600000}}");
    let length = before.len() + EventStamp::LEN + after.len();
    let head = format!(
        "POST /pub/{id} HTTP/1.1\r\nHost: localhost\r\nX-EventSource-Event: task_progress\r\n\
         Content-Length: {length}\r\n\r\n{before}"
    );
    (head.into_bytes(), after.into_bytes())
}

/// Publishes one event at a time and waits for its reply. After an outage it reads the last event from Redis and
/// continues from there.
pub(crate) struct ReliablePublisher {
    redis: SocketAddr,
    ids: Vec<String>,
    /// Events per second, in total over all topics.
    rate: f64,
    numbers: Vec<u64>,
}

impl ReliablePublisher {
    /// Publishes for `period`. Returns the number of the last event of each topic.
    pub(crate) fn send_in_background(self, period: Duration) -> JoinHandle<Result<Vec<u64>>> {
        tokio::task::spawn_blocking(move || self.send(period))
    }

    fn send(mut self, period: Duration) -> Result<Vec<u64>> {
        let started = Instant::now();
        let mut connection = None;
        for index in 0_u64.. {
            let scheduled = started + Duration::from_secs_f64(index as f64 / self.rate);
            if scheduled > started + period {
                break;
            }
            thread::sleep(scheduled.saturating_duration_since(Instant::now()));
            let topic = index as usize % self.ids.len();
            let deadline = Instant::now() + Duration::from_mins(1);
            while let Err(error) = self.send_one(topic, &mut connection) {
                if Instant::now() > deadline {
                    return Err(error).context("Redis did not become available");
                }
                connection = None;
                thread::sleep(Duration::from_millis(50));
                if let Ok(number) = self.last_number(topic) {
                    self.numbers[topic] = number;
                }
            }
        }
        Ok(self.numbers)
    }

    fn send_one(&mut self, topic: usize, connection: &mut Option<TcpStream>) -> Result<()> {
        if connection.is_none() {
            let mut socket = TcpStream::connect(self.redis)?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.write_all(b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n")?;
            read_lines(&mut socket, 1)?;
            *connection = Some(socket);
        }
        let Some(socket) = connection else { bail!("no connection") };
        let (before, after) = redis_template(&self.ids[topic], WriteMode::XaddPublish);
        let number = self.numbers[topic] + 1;
        let mut out = before;
        EventStamp { number, sent_us: now_us() }.write(&mut out);
        out.extend_from_slice(&after);
        socket.write_all(&out)?;
        // The entry id, which is a length and a text, and the number of subscribers.
        read_lines(socket, 3)?;
        self.numbers[topic] = number;
        Ok(())
    }

    /// The number of the topic's last event in Redis.
    fn last_number(&self, topic: usize) -> Result<u64> {
        const LAST: &str = "redis.call('SELECT', 2) \
            return cjson.encode(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1))";
        let key = format!("stream:progress:{}", self.ids[topic]);
        let text = redis::send_command(self.redis, &["EVAL", LAST, "1", &key])?;
        if !text.starts_with('[') {
            bail!("Redis is not ready: {text}");
        }
        Ok(EventStamp::find(text.as_bytes()).last().map_or(0, |stamp| stamp.number))
    }
}

/// Reads `count` lines of replies.
///
/// # Errors
///
/// If a reply is an error.
fn read_lines(socket: &mut TcpStream, count: usize) -> Result<()> {
    let mut byte = [0];
    let (mut line_count, mut is_first) = (0, true);
    while line_count < count {
        socket.read_exact(&mut byte)?;
        if is_first && byte[0] == b'-' {
            bail!("an event was refused");
        }
        is_first = byte[0] == b'\n';
        line_count += usize::from(is_first);
    }
    Ok(())
}
