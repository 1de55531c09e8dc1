//! Sends marked events at a steady rate, from a thread of its own.

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
    marker::{Marker, now_us},
    redis,
    servers::{Kind, Server, Topic},
};

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// XADD and PUBLISH, as the gateway's scripts do.
    Signalled,
    /// XADD alone, as foreign programs do.
    Silent,
}

/// One connection on which events go out to some topics in turn.
pub(crate) struct Publisher {
    socket: TcpStream,
    /// What stands before and after the marker of each topic's events.
    templates: Vec<(Vec<u8>, Vec<u8>)>,
    /// The number of each topic's last event.
    pub(crate) numbers: Vec<u64>,
    next_topic: usize,
    out: Vec<u8>,
    replies: Vec<u8>,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) n_events: u64,
    pub(crate) seconds: f64,
}

impl Publisher {
    pub(crate) fn connect(
        server: &Server,
        redis: SocketAddr,
        topics: &[Topic],
        way: Way,
    ) -> Result<Self> {
        let through_redis = server.kind.reads_redis();
        let socket = TcpStream::connect(if through_redis { redis } else { server.addr })?;
        socket.set_nodelay(true)?;
        let mut out = Vec::new();
        if through_redis {
            out.extend_from_slice(b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n");
        }
        let template = |it: &Topic| match server.kind {
            Kind::Gateway | Kind::FastApi => redis_template(&it.id, way),
            Kind::Nchan | Kind::NchanRedis => http_template(&it.id),
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

    /// One that outlives Redis; see [`Careful`].
    pub(crate) fn careful(redis: SocketAddr, topics: &[Topic], rate: f64) -> Careful {
        let ids = topics.iter().map(|it| it.id.clone()).collect();
        Careful { redis, ids, rate, numbers: vec![0; topics.len()] }
    }

    /// Sends `rate` events a second for `period`; gives itself back with what it sent.
    pub(crate) async fn send(mut self, rate: f64, period: Duration) -> Result<(Self, Sent)> {
        let (done, outcome) = oneshot::channel();
        thread::spawn(move || {
            let sent = self.send_now(rate, period);
            _ = done.send(sent.map(|it| (self, it)));
        });
        outcome.await.context("the publisher died")?
    }

    fn send_now(&mut self, rate: f64, period: Duration) -> Result<Sent> {
        // So that a publisher that has fallen behind still asks the clock now and then.
        const MOST_AT_ONCE: u64 = 200;
        let (begin, mut n_events) = (Instant::now(), 0);
        loop {
            let elapsed = begin.elapsed();
            if elapsed >= period {
                break;
            }
            let due = (elapsed.as_secs_f64() * rate) as u64 + 1;
            let n = due.saturating_sub(n_events).min(MOST_AT_ONCE);
            if n == 0 {
                let next = begin + Duration::from_secs_f64(n_events as f64 / rate);
                thread::sleep(next.saturating_duration_since(Instant::now()));
                continue;
            }
            for _ in 0..n {
                self.add_event();
            }
            self.flush(begin + period + Duration::from_secs(2))?;
            n_events += n;
        }
        Ok(Sent { n_events, seconds: begin.elapsed().as_secs_f64() })
    }

    fn add_event(&mut self) {
        let topic = self.next_topic;
        self.next_topic = (topic + 1) % self.templates.len();
        self.numbers[topic] += 1;
        let (before, after) = &self.templates[topic];
        self.out.extend_from_slice(before);
        Marker { number: self.numbers[topic], sent_us: now_us() }.write(&mut self.out);
        self.out.extend_from_slice(after);
    }

    fn flush(&mut self, deadline: Instant) -> Result<()> {
        let mut rest = 0;
        while rest < self.out.len() {
            match self.socket.write(&self.out[rest..]) {
                Ok(n) => rest += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() > deadline {
                        bail!("the server takes no more events");
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
                Ok(n) => {
                    let text = &self.replies[..n];
                    let refusals: [&[u8]; 4] = [b"-ERR", b"-OOM", b"HTTP/1.1 4", b"HTTP/1.1 5"];
                    if refusals.iter().any(|it| memmem::find(text, it).is_some()) {
                        bail!("an event was refused: {}", String::from_utf8_lossy(text));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("could not publish"),
            }
        }
    }
}

/// What `progress/overall.lua` writes, around the marker in its message.
fn redis_template(id: &str, way: Way) -> (Vec<u8>, Vec<u8>) {
    let key = format!("stream:progress:{id}");
    let mut before: Vec<&str> = vec!["XADD", &key, "MAXLEN", "~", "1000", "*"];
    before.extend(["file_id", "", "progress", "50", "timestamp", "2026-01-01T00:00:00.000000"]);
    before.extend(["event", "task_progress", "status", "processing", "overall", "50"]);
    before.extend(["completed", "0", "failed", "0", "total", "1", "message"]);
    let mut head = format!("*{}\r\n", before.len() + 1);
    for word in before {
        _ = write!(head, "${}\r\n{word}\r\n", word.len());
    }
    _ = write!(head, "${}\r\n", Marker::LEN);
    let mut tail = "\r\n".to_owned();
    if way == Way::Signalled {
        let (channel, text) = (format!("progress:{id}"), format!("{{\"job_id\":\"{id}\"}}"));
        tail += "*3\r\n$7\r\nPUBLISH\r\n";
        _ = write!(tail, "${}\r\n{channel}\r\n${}\r\n{text}\r\n", channel.len(), text.len());
    }
    (head.into_bytes(), tail.into_bytes())
}

/// A POST of what the gateway makes of such an entry.
fn http_template(id: &str) -> (Vec<u8>, Vec<u8>) {
    let before = "{\"status\":\"processing\",\"progress\":50,\"current\":0,\"total\":1,\
                  \"total_files\":1,\"message\":\"";
    let after =
        format!("\",\"job_id\":\"{id}\",\"task_id\":\"{id}\",\"timestamp\":1767225600000}}");
    let length = before.len() + Marker::LEN + after.len();
    let head = format!(
        "POST /pub/{id} HTTP/1.1\r\nHost: localhost\r\nX-EventSource-Event: task_progress\r\n\
         Content-Length: {length}\r\n\r\n{before}"
    );
    (head.into_bytes(), after.into_bytes())
}

/// Sends one event at a time and makes sure of it: after an outage it asks what Redis has, and goes on from there.
pub(crate) struct Careful {
    redis: SocketAddr,
    ids: Vec<String>,
    /// Events a second, to all topics together.
    rate: f64,
    numbers: Vec<u64>,
}

impl Careful {
    /// Sends for `period`; gives the number of each topic's last event.
    pub(crate) fn send_in_background(self, period: Duration) -> JoinHandle<Result<Vec<u64>>> {
        tokio::task::spawn_blocking(move || self.send(period))
    }

    fn send(mut self, period: Duration) -> Result<Vec<u64>> {
        let begin = Instant::now();
        let mut connection = None;
        for n in 0_u64.. {
            let due = begin + Duration::from_secs_f64(n as f64 / self.rate);
            if due > begin + period {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let topic = n as usize % self.ids.len();
            let patience = Instant::now() + Duration::from_mins(1);
            while let Err(error) = self.send_one(topic, &mut connection) {
                if Instant::now() > patience {
                    return Err(error).context("Redis did not come back");
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
        let (before, after) = redis_template(&self.ids[topic], Way::Signalled);
        let number = self.numbers[topic] + 1;
        let mut out = before;
        Marker { number, sent_us: now_us() }.write(&mut out);
        out.extend_from_slice(&after);
        socket.write_all(&out)?;
        // The id, which is a length and a text, and how many heard of it.
        read_lines(socket, 3)?;
        self.numbers[topic] = number;
        Ok(())
    }

    /// The number of the last event that Redis has.
    fn last_number(&self, topic: usize) -> Result<u64> {
        const LAST: &str = "redis.call('SELECT', 2) \
            return cjson.encode(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1))";
        let key = format!("stream:progress:{}", self.ids[topic]);
        let text = redis::ask(self.redis, &["EVAL", LAST, "1", &key])?;
        if !text.starts_with('[') {
            bail!("Redis is not ready: {text}");
        }
        Ok(Marker::find(text.as_bytes()).last().map_or(0, |it| it.number))
    }
}

/// Reads so many lines of replies, none of which may be an error.
fn read_lines(socket: &mut TcpStream, n: usize) -> Result<()> {
    let mut byte = [0];
    let (mut n_lines, mut is_first) = (0, true);
    while n_lines < n {
        socket.read_exact(&mut byte)?;
        if is_first && byte[0] == b'-' {
            bail!("an event was refused");
        }
        is_first = byte[0] == b'\n';
        n_lines += usize::from(is_first);
    }
    Ok(())
}
