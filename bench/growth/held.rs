//! Streams that are held open, and read as they come.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::workload::{Job, KEY};

/// Closed when dropped.
pub(crate) struct Held {
    _streams: JoinSet<()>,
    n_ended: Rc<Cell<usize>>,
}

impl Held {
    /// Opens `n` streams of `jobs` in turn, and waits until each has been told how its job is.
    pub(crate) async fn open(addr: SocketAddr, jobs: &[Job], n: usize) -> Result<Self> {
        const AT_ONCE: usize = 64;
        const PATIENCE: Duration = Duration::from_mins(1);
        let (n_open, n_ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (doors, mut streams) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        for job in jobs.iter().cycle().take(n) {
            let path = format!("/api/v1/jobs/{}/progress/stream", job.id);
            let (n_open, n_ended, doors) = (n_open.clone(), n_ended.clone(), doors.clone());
            streams.spawn_local(async move {
                let opened = async {
                    let _door = doors.acquire().await?;
                    open(addr, &path).await
                };
                match opened.await {
                    Ok(mut stream) => {
                        n_open.set(n_open.get() + 1);
                        while stream.read(&mut [0; 4096]).await.is_ok_and(|it| it > 0) {}
                    }
                    Err(error) => eprintln!("   {error:#}"),
                }
                n_ended.set(n_ended.get() + 1);
            });
        }
        let begin = Instant::now();
        while n_open.get() < n {
            ensure!(n_ended.get() == 0, "a stream was not opened");
            ensure!(begin.elapsed() < PATIENCE, "{} of {n} streams are open", n_open.get());
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { _streams: streams, n_ended })
    }

    /// Whether none of them has ended.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.n_ended.get() == 0, "{} streams have ended", self.n_ended.get());
        Ok(())
    }
}

async fn open(addr: SocketAddr, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await.context("could not connect")?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {KEY}\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !answer.windows(5).any(|it| it == b"data:") {
        let n = stream.read(&mut buffer).await?;
        let said = String::from_utf8_lossy(&answer);
        ensure!(n > 0, "{path} is answered {said}");
        answer.extend_from_slice(&buffer[..n]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path} is refused");
    Ok(stream)
}
