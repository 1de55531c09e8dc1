//! Many simulated browsers in one thread: each follows a topic on a separate connection and verifies the events.

use std::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::{Result, bail};
use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, spawn_local},
    time::{Instant, sleep},
};

use crate::{
    event_stamp::{EventStamp, now_us},
    histogram::Histogram,
    servers::Topic,
    sse_parser::{SseParser, last_id},
};

/// Number of bytes that a slow browser reads before it pauses.
const BYTES_BETWEEN_PAUSES: usize = 256 << 10;
const PAUSE: Duration = Duration::from_secs(20);

thread_local! {
    /// A read buffer that all browsers share.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 << 10]);
}

/// The observations of all browsers of a fleet.
pub(crate) struct Tally {
    pub(crate) delivered: Cell<u64>,
    /// Events that were skipped.
    pub(crate) lost: Cell<u64>,
    /// Events that were received again.
    pub(crate) duplicates: Cell<u64>,
    /// Connections that the server closed.
    pub(crate) closed: Cell<u64>,
    pub(crate) latencies: RefCell<Histogram>,
}

/// The state of a browser, which persists over its connections.
struct Browser {
    topic: usize,
    /// The number of the next event.
    expected: Cell<u64>,
    /// Whether this connection has repeated the last known event as the initial job state.
    snapshot_seen: Cell<bool>,
    last_id: RefCell<Vec<u8>>,
    /// The time when the response of this connection arrived.
    connected_at: Cell<Option<Instant>>,
    /// Whether it regularly stops reading for longer than socket buffers can compensate.
    is_slow: Cell<bool>,
}

/// Browsers of several topics, with the same number per topic.
pub(crate) struct Fleet {
    addr: SocketAddr,
    topics: Vec<Topic>,
    browsers: Vec<Rc<Browser>>,
    connections: Vec<JoinHandle<()>>,
    pub(crate) tally: Rc<Tally>,
    /// Whether browsers reconnect with their last event id.
    resumes: bool,
    /// Limits the number of concurrent connection attempts.
    permits: Rc<Semaphore>,
}

impl Fleet {
    pub(crate) fn new(addr: SocketAddr, topics: &[Topic], per_topic: usize, resumes: bool) -> Self {
        // Resuming browsers reconnect all at the same time; others are limited, so that no attempt times out.
        let max_connecting = if resumes { Semaphore::MAX_PERMITS } else { 256 };
        let browser = |topic| Browser {
            topic,
            expected: Cell::new(1),
            snapshot_seen: Cell::new(false),
            last_id: RefCell::default(),
            connected_at: Cell::new(None),
            is_slow: Cell::new(false),
        };
        let count = topics.len() * per_topic;
        Self {
            addr,
            topics: topics.to_vec(),
            browsers: (0..count).map(|index| Rc::new(browser(index % topics.len()))).collect(),
            connections: Vec::new(),
            tally: Rc::new(Tally {
                delivered: Cell::new(0),
                lost: Cell::new(0),
                duplicates: Cell::new(0),
                closed: Cell::new(0),
                latencies: RefCell::new(Histogram::new()),
            }),
            resumes,
            permits: Rc::new(Semaphore::new(max_connecting)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.browsers.len()
    }

    /// Makes every `interval`th browser a slow one.
    pub(crate) fn make_slow(&self, interval: usize) {
        self.browsers.iter().step_by(interval).for_each(|browser| browser.is_slow.set(true));
    }

    /// Starts to open all connections.
    pub(crate) fn connect(&mut self) {
        self.connections = (0..self.len()).map(|index| self.connect_one(index)).collect();
    }

    fn connect_one(&self, index: usize) -> JoinHandle<()> {
        let (addr, resumes) = (self.addr, self.resumes);
        let (browser, tally, permits) =
            (self.browsers[index].clone(), self.tally.clone(), self.permits.clone());
        let path = self.topics[browser.topic].path.clone();
        browser.connected_at.set(None);
        spawn_local(async move {
            loop {
                browser.snapshot_seen.set(false);
                let outcome = follow(addr, &path, &browser, &tally, (resumes, &permits)).await;
                if outcome.is_err() || !resumes {
                    tally.closed.set(tally.closed.get() + 1);
                }
                if !resumes {
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        })
    }

    /// Waits until every browser has received its response.
    ///
    /// # Errors
    ///
    /// If this takes longer than `timeout`.
    pub(crate) async fn wait_all_connected(&self, timeout: Duration) -> Result<()> {
        let started = Instant::now();
        while self.browsers.iter().any(|browser| browser.connected_at.get().is_none()) {
            if started.elapsed() > timeout {
                let missing = self
                    .browsers
                    .iter()
                    .filter(|browser| browser.connected_at.get().is_none())
                    .count();
                bail!("{missing} of {} browsers could not connect", self.len());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The time when the last browser received its response.
    pub(crate) fn last_connected_at(&self) -> Option<Instant> {
        self.browsers.iter().filter_map(|browser| browser.connected_at.get()).max()
    }

    /// Closes the connection of one browser and opens a new one.
    pub(crate) fn reconnect_one(&mut self, index: usize) {
        self.connections[index].abort();
        self.connections[index] = self.connect_one(index);
    }

    pub(crate) fn disconnect_all(&mut self) {
        self.connections.drain(..).for_each(|connection| connection.abort());
    }

    /// Closes all connections and opens new ones. The browsers expect events that follow `numbers`.
    pub(crate) async fn reset(&mut self, numbers: &[u64]) -> Result<()> {
        self.disconnect_all();
        sleep(Duration::from_millis(300)).await;
        for browser in &self.browsers {
            browser.expected.set(numbers[browser.topic] + 1);
            browser.last_id.borrow_mut().clear();
        }
        self.connect();
        self.wait_all_connected(Duration::from_mins(1)).await?;
        // Some servers subscribe only after they have sent the response.
        sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    pub(crate) fn clear_tally(&self) {
        for count in [&self.tally.delivered, &self.tally.lost, &self.tally.duplicates] {
            count.set(0);
        }
        self.tally.closed.set(0);
        self.tally.latencies.borrow_mut().clear();
    }

    /// The number of events up to `numbers` that browsers have not received yet.
    pub(crate) fn outstanding(&self, numbers: &[u64]) -> u64 {
        let outstanding_of = |browser: &Rc<Browser>| {
            (numbers[browser.topic] + 1).saturating_sub(browser.expected.get())
        };
        self.browsers.iter().map(outstanding_of).sum()
    }

    /// Waits until no event is outstanding, at most `timeout`. Returns the number of outstanding events.
    pub(crate) async fn wait_until_delivered(&self, numbers: &[u64], timeout: Duration) -> u64 {
        let started = Instant::now();
        loop {
            let outstanding = self.outstanding(numbers);
            if outstanding == 0 || started.elapsed() > timeout {
                return outstanding;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.disconnect_all();
    }
}

/// Runs one connection until it ends.
async fn follow(
    addr: SocketAddr,
    path: &str,
    browser: &Browser,
    tally: &Tally,
    (resumes, permits): (bool, &Semaphore),
) -> Result<()> {
    let permit = permits.acquire().await?;
    let socket = TcpSocket::new_v4()?;
    if browser.is_slow.get() {
        socket.set_recv_buffer_size(4 << 10)?;
    }
    let mut stream = socket.connect(addr).await?;
    let mut bytes_since_pause = 0;
    let mut request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n");
    let last_event_id = browser.last_id.borrow().clone();
    if !last_event_id.is_empty() {
        _ = write!(request, "Last-Event-ID: {}\r\n", String::from_utf8_lossy(&last_event_id));
    }
    stream.write_all((request + "\r\n").as_bytes()).await?;
    let mut wire = SseParser::new();
    let mut permit = Some(permit);
    loop {
        let length =
            poll_fn(|cx| read(cx, &mut stream, &mut wire, browser, (tally, resumes))).await?;
        if length == 0 {
            bail!("the server closed the connection");
        }
        if browser.is_slow.get() {
            bytes_since_pause += length;
            if bytes_since_pause > BYTES_BETWEEN_PAUSES {
                bytes_since_pause = 0;
                sleep(PAUSE).await;
            }
        }
        if wire.is_done() {
            bail!("the stream was refused or has ended");
        }
        if permit.is_some() && wire.is_open() {
            permit = None;
            browser.connected_at.set(Some(Instant::now()));
        }
    }
}

/// Reads available bytes and records their events. Returns the number of bytes.
fn read(
    cx: &mut Context<'_>,
    stream: &mut TcpStream,
    wire: &mut SseParser,
    browser: &Browser,
    (tally, resumes): (&Tally, bool),
) -> Poll<std::io::Result<usize>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        let now = now_us();
        wire.feed(buffer.filled(), &mut |events| browser.record(events, now, tally, resumes));
        Poll::Ready(Ok(buffer.filled().len()))
    })
}

impl Browser {
    fn record(&self, events: &[u8], now: u64, tally: &Tally, resumes: bool) {
        if resumes && let Some(id) = last_id(events) {
            let mut last_id = self.last_id.borrow_mut();
            last_id.clear();
            last_id.extend_from_slice(id);
        }
        let mut latencies = tally.latencies.borrow_mut();
        for marker in EventStamp::find(events) {
            let expected = self.expected.get();
            if marker.number < expected {
                // A new connection starts with the job state, which repeats the last event.
                if self.snapshot_seen.replace(true) || marker.number + 1 != expected {
                    tally.duplicates.set(tally.duplicates.get() + 1);
                }
                continue;
            }
            tally.lost.set(tally.lost.get() + marker.number - expected);
            tally.delivered.set(tally.delivered.get() + 1);
            latencies.add(now.saturating_sub(marker.sent_us));
            self.expected.set(marker.number + 1);
        }
    }
}
