//! Open event streams that are read continuously.

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

/// A set of open streams, closed on drop.
pub(crate) struct OpenStreams {
    _streams: JoinSet<()>,
    ended_count: Rc<Cell<usize>>,
}

impl OpenStreams {
    /// Opens `count` streams, distributed over `jobs`, and waits until each has received its first event.
    pub(crate) async fn open(addr: SocketAddr, jobs: &[Job], count: usize) -> Result<Self> {
        const MAX_CONNECTING: usize = 64;
        const TIMEOUT: Duration = Duration::from_mins(1);
        let (open_count, ended_count) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (permits, mut streams) = (Arc::new(Semaphore::new(MAX_CONNECTING)), JoinSet::new());
        for job in jobs.iter().cycle().take(count) {
            let path = format!("/api/v1/jobs/{}/progress/stream", job.id);
            let (open_count, ended_count, permits) =
                (open_count.clone(), ended_count.clone(), permits.clone());
            streams.spawn_local(async move {
                let opened = async {
                    let _door = permits.acquire().await?;
                    open(addr, &path).await
                };
                match opened.await {
                    Ok(mut stream) => {
                        open_count.set(open_count.get() + 1);
                        while stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {}
                    }
                    Err(error) => eprintln!("   {error:#}"),
                }
                ended_count.set(ended_count.get() + 1);
            });
        }
        let started = Instant::now();
        while open_count.get() < count {
            ensure!(ended_count.get() == 0, "a stream could not be opened");
            ensure!(
                started.elapsed() < TIMEOUT,
                "only {} of {count} streams are open",
                open_count.get()
            );
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { _streams: streams, ended_count })
    }

    /// Fails if a stream has ended.
    pub(crate) fn ensure_all_open(&self) -> Result<()> {
        ensure!(self.ended_count.get() == 0, "{} streams have ended", self.ended_count.get());
        Ok(())
    }
}

async fn open(addr: SocketAddr, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await.context("could not connect")?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {KEY}\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let (mut response, mut buffer) = (Vec::new(), [0; 4096]);
    while !response.windows(5).any(|window| window == b"data:") {
        let length = stream.read(&mut buffer).await?;
        let text = String::from_utf8_lossy(&response);
        ensure!(length > 0, "unexpected response to {path}: {text}");
        response.extend_from_slice(&buffer[..length]);
    }
    ensure!(response.starts_with(b"HTTP/1.1 200"), "{path} was refused");
    Ok(stream)
}
