//! Many browsers in one thread: each follows a topic on a connection of its own and checks what it gets.

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
    histogram::Histogram,
    marker::{Marker, now_us},
    servers::Topic,
    wire::{Wire, last_id},
};

/// What a slow browser reads before it pauses.
const READ_BETWEEN_PAUSES: usize = 256 << 10;
const PAUSE: Duration = Duration::from_secs(20);

thread_local! {
    /// What was read last, whoever read it.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 << 10]);
}

/// What all browsers of a fleet saw together.
pub(crate) struct Tally {
    pub(crate) n_delivered: Cell<u64>,
    /// Events that were skipped.
    pub(crate) n_lost: Cell<u64>,
    /// Events that came again.
    pub(crate) n_repeated: Cell<u64>,
    /// Connections that ended without being told to.
    pub(crate) n_closed: Cell<u64>,
    pub(crate) latencies: RefCell<Histogram>,
}

/// A browser, which outlives its connections.
struct Browser {
    topic: usize,
    /// The number of the next event.
    expected: Cell<u64>,
    /// Whether it was told on this connection what it knew, as the state in which it finds the job.
    greeted: Cell<bool>,
    last_id: RefCell<Vec<u8>>,
    /// When the first event or comment came on this connection.
    back_at: Cell<Option<Instant>>,
    /// Whether it stops reading now and then, for longer than sockets can make up for.
    is_slow: Cell<bool>,
}

/// Browsers of some topics, as many of each.
pub(crate) struct Fleet {
    addr: SocketAddr,
    topics: Vec<Topic>,
    browsers: Vec<Rc<Browser>>,
    connections: Vec<JoinHandle<()>>,
    pub(crate) tally: Rc<Tally>,
    /// Whether browsers note ids and come back with them.
    resumes: bool,
    /// Connections that may be under way to be opened.
    doors: Rc<Semaphore>,
}

impl Fleet {
    pub(crate) fn new(addr: SocketAddr, topics: &[Topic], per_topic: usize, resumes: bool) -> Self {
        // Browsers that were cut come back all at once; others do not queue for longer than it takes.
        let n_doors = if resumes { Semaphore::MAX_PERMITS } else { 256 };
        let browser = |topic| Browser {
            topic,
            expected: Cell::new(1),
            greeted: Cell::new(false),
            last_id: RefCell::default(),
            back_at: Cell::new(None),
            is_slow: Cell::new(false),
        };
        let n = topics.len() * per_topic;
        Self {
            addr,
            topics: topics.to_vec(),
            browsers: (0..n).map(|i| Rc::new(browser(i % topics.len()))).collect(),
            connections: Vec::new(),
            tally: Rc::new(Tally {
                n_delivered: Cell::new(0),
                n_lost: Cell::new(0),
                n_repeated: Cell::new(0),
                n_closed: Cell::new(0),
                latencies: RefCell::new(Histogram::new()),
            }),
            resumes,
            doors: Rc::new(Semaphore::new(n_doors)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.browsers.len()
    }

    /// Makes one browser in `n` a slow one.
    pub(crate) fn slow_down(&self, n: usize) {
        self.browsers.iter().step_by(n).for_each(|it| it.is_slow.set(true));
    }

    /// Begins to open every connection.
    pub(crate) fn connect(&mut self) {
        self.connections = (0..self.len()).map(|it| self.connect_one(it)).collect();
    }

    fn connect_one(&self, i: usize) -> JoinHandle<()> {
        let (addr, resumes) = (self.addr, self.resumes);
        let (browser, tally, doors) =
            (self.browsers[i].clone(), self.tally.clone(), self.doors.clone());
        let path = self.topics[browser.topic].path.clone();
        browser.back_at.set(None);
        spawn_local(async move {
            loop {
                browser.greeted.set(false);
                let outcome = follow(addr, &path, &browser, &tally, (resumes, &doors)).await;
                if outcome.is_err() || !resumes {
                    tally.n_closed.set(tally.n_closed.get() + 1);
                }
                if !resumes {
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        })
    }

    /// Waits until every browser has its response, at most `patience`.
    pub(crate) async fn all_back(&self, patience: Duration) -> Result<()> {
        let begin = Instant::now();
        while self.browsers.iter().any(|it| it.back_at.get().is_none()) {
            if begin.elapsed() > patience {
                let n_out = self.browsers.iter().filter(|it| it.back_at.get().is_none()).count();
                bail!("{n_out} of {} browsers could not connect", self.len());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// When the last browser got its response.
    pub(crate) fn last_back_at(&self) -> Option<Instant> {
        self.browsers.iter().filter_map(|it| it.back_at.get()).max()
    }

    /// Cuts connection `i`, which comes back at once.
    pub(crate) fn cut_one(&mut self, i: usize) {
        self.connections[i].abort();
        self.connections[i] = self.connect_one(i);
    }

    pub(crate) fn cut_all(&mut self) {
        self.connections.drain(..).for_each(|it| it.abort());
    }

    /// Closes every connection and forgets what was expected, before events numbered from `numbers` on.
    pub(crate) async fn start_over(&mut self, numbers: &[u64]) -> Result<()> {
        self.cut_all();
        sleep(Duration::from_millis(300)).await;
        for browser in &self.browsers {
            browser.expected.set(numbers[browser.topic] + 1);
            browser.last_id.borrow_mut().clear();
        }
        self.connect();
        self.all_back(Duration::from_mins(1)).await?;
        // For servers that subscribe after they answer.
        sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    pub(crate) fn clear_tally(&self) {
        for count in [&self.tally.n_delivered, &self.tally.n_lost, &self.tally.n_repeated] {
            count.set(0);
        }
        self.tally.n_closed.set(0);
        self.tally.latencies.borrow_mut().clear();
    }

    /// Events up to `numbers` that browsers still wait for.
    pub(crate) fn n_outstanding(&self, numbers: &[u64]) -> u64 {
        let of = |it: &Rc<Browser>| (numbers[it.topic] + 1).saturating_sub(it.expected.get());
        self.browsers.iter().map(of).sum()
    }

    /// Waits until nothing is outstanding, or `patience` is over. Says what still is.
    pub(crate) async fn settle(&self, numbers: &[u64], patience: Duration) -> u64 {
        let begin = Instant::now();
        loop {
            let n_outstanding = self.n_outstanding(numbers);
            if n_outstanding == 0 || begin.elapsed() > patience {
                return n_outstanding;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.cut_all();
    }
}

/// One connection, until it ends.
async fn follow(
    addr: SocketAddr,
    path: &str,
    browser: &Browser,
    tally: &Tally,
    (resumes, doors): (bool, &Semaphore),
) -> Result<()> {
    let door = doors.acquire().await?;
    let socket = TcpSocket::new_v4()?;
    if browser.is_slow.get() {
        socket.set_recv_buffer_size(4 << 10)?;
    }
    let mut stream = socket.connect(addr).await?;
    let mut n_read_since_pause = 0;
    let mut request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n");
    let last_event_id = browser.last_id.borrow().clone();
    if !last_event_id.is_empty() {
        _ = write!(request, "Last-Event-ID: {}\r\n", String::from_utf8_lossy(&last_event_id));
    }
    stream.write_all((request + "\r\n").as_bytes()).await?;
    let mut wire = Wire::new();
    let mut door = Some(door);
    loop {
        let n = poll_fn(|cx| read(cx, &mut stream, &mut wire, browser, (tally, resumes))).await?;
        if n == 0 {
            bail!("closed");
        }
        if browser.is_slow.get() {
            n_read_since_pause += n;
            if n_read_since_pause > READ_BETWEEN_PAUSES {
                n_read_since_pause = 0;
                sleep(PAUSE).await;
            }
        }
        if wire.is_done() {
            bail!("refused or ended");
        }
        if door.is_some() && wire.is_open() {
            door = None;
            browser.back_at.set(Some(Instant::now()));
        }
    }
}

/// Reads what is there and takes it in. Gives the number of bytes.
fn read(
    cx: &mut Context<'_>,
    stream: &mut TcpStream,
    wire: &mut Wire,
    browser: &Browser,
    (tally, resumes): (&Tally, bool),
) -> Poll<std::io::Result<usize>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        let now = now_us();
        wire.feed(buffer.filled(), &mut |events| browser.take(events, now, tally, resumes));
        Poll::Ready(Ok(buffer.filled().len()))
    })
}

impl Browser {
    fn take(&self, events: &[u8], now: u64, tally: &Tally, resumes: bool) {
        if resumes && let Some(id) = last_id(events) {
            let mut last_id = self.last_id.borrow_mut();
            last_id.clear();
            last_id.extend_from_slice(id);
        }
        let mut latencies = tally.latencies.borrow_mut();
        for marker in Marker::find(events) {
            let expected = self.expected.get();
            if marker.number < expected {
                // The state of the job on a new connection says what its last event said.
                if self.greeted.replace(true) || marker.number + 1 != expected {
                    tally.n_repeated.set(tally.n_repeated.get() + 1);
                }
                continue;
            }
            tally.n_lost.set(tally.n_lost.get() + marker.number - expected);
            tally.n_delivered.set(tally.n_delivered.get() + 1);
            latencies.add(now.saturating_sub(marker.sent_us));
            self.expected.set(marker.number + 1);
        }
    }
}
