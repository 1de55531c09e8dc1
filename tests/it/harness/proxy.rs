//! A proxy between the service and one server that injects network faults.
//!
//! It does not affect sentinels and replicas: only the service's connections begin with `HELLO`.

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

/// A network fault; by default the network works.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct NetworkFault {
    /// Holds data back until the end of the cut.
    pub(crate) is_cut: bool,
    /// In each direction.
    pub(crate) delay: Duration,
    /// Forwards requests and drops the server's responses.
    pub(crate) drops_responses: bool,
}

pub(crate) struct Proxy {
    pub(crate) fault: Arc<watch::Sender<NetworkFault>>,
    _running: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(port: u16, server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let fault = Arc::new(watch::channel(NetworkFault::default()).0);
        let mut running = JoinSet::new();
        let subject = fault.clone();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let fault = subject.subscribe();
                connections.spawn(async move { _ = connect(client, server, fault).await });
            }
        });
        Self { fault, _running: running }
    }
}

async fn connect(
    mut client: TcpStream,
    server: u16,
    fault: watch::Receiver<NetworkFault>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    let mut first = vec![0; 4096];
    let n = client.read(&mut first).await?;
    first.truncate(n);
    if !first.windows(5).any(|window| window == b"HELLO") {
        server.write_all(&first).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = forward(first, from_client, to_server, fault.clone(), false) => (),
        () = forward(Vec::new(), from_server, to_client, fault, true) => (),
    }
    Ok(())
}

/// Forwards `first` and then one direction of the connection until an end closes.
async fn forward(
    first: Vec<u8>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fault: watch::Receiver<NetworkFault>,
    is_from_server: bool,
) {
    let (sender, mut in_flight) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let delay_source = fault.clone();
    let read = async move {
        let mut chunk = first;
        loop {
            if !chunk.is_empty() {
                let arrives = Instant::now() + delay_source.borrow().delay;
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
        while let Some((arrives, chunk)) = in_flight.recv().await {
            sleep_until(arrives).await;
            if is_from_server && fault.borrow().drops_responses {
                continue;
            }
            if fault.wait_for(|fault| !fault.is_cut).await.is_err()
                || to.write_all(&chunk).await.is_err()
            {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
