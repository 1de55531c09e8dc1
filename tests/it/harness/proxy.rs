//! A network between the service and one server, which can be slow or gone.
//!
//! Sentinels and replicas pass untouched: of all that connect to a Redis, only the service begins with `HELLO`.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// How the network is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Weather {
    /// Nothing arrives; what was sent arrives when it is over.
    pub(crate) is_cut: bool,
    /// One way.
    pub(crate) delay: Duration,
    /// What the server does is done, and nobody hears of it.
    pub(crate) loses_answers: bool,
}

pub(crate) struct Proxy {
    pub(crate) weather: Arc<watch::Sender<Weather>>,
    _running: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(port: u16, server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let weather = Arc::new(watch::channel(Weather::default()).0);
        let mut running = JoinSet::new();
        let outside = weather.clone();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let weather = outside.subscribe();
                connections.spawn(async move { _ = connect(client, server, weather).await });
            }
        });
        Self { weather, _running: running }
    }
}

async fn connect(
    mut client: TcpStream,
    server: u16,
    weather: watch::Receiver<Weather>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    let mut first = vec![0; 4096];
    let n = client.read(&mut first).await?;
    first.truncate(n);
    if !first.windows(5).any(|it| it == b"HELLO") {
        server.write_all(&first).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = carry(first, from_client, to_server, weather.clone(), false) => (),
        () = carry(Vec::new(), from_server, to_client, weather, true) => (),
    }
    Ok(())
}

/// Carries one direction until an end closes, beginning with what was read already.
async fn carry(
    first: Vec<u8>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    is_answer: bool,
) {
    let (sender, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let outlook = weather.clone();
    let read = async move {
        let mut chunk = first;
        loop {
            if !chunk.is_empty() {
                let arrives = Instant::now() + outlook.borrow().delay;
                if sender.send((arrives, chunk)).is_err() {
                    return;
                }
            }
            let mut buffer = vec![0; 16 * 1024];
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => buffer.truncate(n),
            }
            chunk = buffer;
        }
    };
    let write = async move {
        while let Some((arrives, chunk)) = under_way.recv().await {
            sleep_until(arrives).await;
            if is_answer && weather.borrow().loses_answers {
                continue;
            }
            if weather.wait_for(|it| !it.is_cut).await.is_err()
                || to.write_all(&chunk).await.is_err()
            {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
