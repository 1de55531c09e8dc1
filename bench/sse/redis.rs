//! The benchmark's own Redis, and the few commands it is asked for here.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{process::Process, servers};

pub(crate) struct Redis {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    core: usize,
    dir: PathBuf,
    is_durable: bool,
}

impl Redis {
    pub(crate) fn start(core: usize, dir: &Path) -> Result<Self> {
        Self::start_at(servers::free_addr()?, core, dir, false)
    }

    /// One that has everything it acknowledged when it is started again.
    pub(crate) fn start_durable(core: usize, dir: &Path) -> Result<Self> {
        Self::start_at(servers::free_addr()?, core, dir, true)
    }

    fn start_at(addr: SocketAddr, core: usize, dir: &Path, is_durable: bool) -> Result<Self> {
        let dir_text = dir.display().to_string();
        let args = [
            ("--bind", "127.0.0.1"),
            ("--port", &addr.port().to_string()),
            ("--dir", &dir_text),
            ("--save", ""),
            ("--appendonly", if is_durable { "yes" } else { "no" }),
            ("--maxclients", "15000"),
            ("--notify-keyspace-events", ""),
        ];
        let args: Vec<String> =
            args.iter().flat_map(|it| [it.0.to_owned(), it.1.to_owned()]).collect();
        let process = Process::start(core, "redis-server", &args, &[], dir)?;
        servers::wait_for(addr)?;
        Ok(Self { process, addr, core, dir: dir.to_owned(), is_durable })
    }

    /// Ends it as a machine does that loses power, but for what the kernel has.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn start_again(&mut self) -> Result<()> {
        *self = Self::start_at(self.addr, self.core, &self.dir.clone(), self.is_durable)?;
        Ok(())
    }

    /// Runs one command on a connection of its own.
    pub(crate) fn run(&self, command: &[&str]) -> Result<String> {
        ask(self.addr, command)
    }

    /// Connections other than the one that asks.
    pub(crate) fn n_connections(&self) -> Result<usize> {
        Ok(self.run(&["CLIENT", "LIST"])?.lines().count().saturating_sub(1))
    }

    /// Waits until `n` clients wait in a blocking command.
    pub(crate) async fn wait_for_blocked(&self, n: usize) -> Result<()> {
        const TRIES: usize = 300;
        for _ in 0..TRIES {
            let info = self.run(&["INFO", "clients"])?;
            let blocked = info.lines().find_map(|it| it.strip_prefix("blocked_clients:"));
            if blocked.and_then(|it| it.trim().parse::<usize>().ok()) >= Some(n) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("fewer than {n} clients of Redis wait for events")
    }

    /// The version and whatever else INFO says of the server.
    pub(crate) fn version(&self) -> Result<String> {
        let info = self.run(&["INFO", "server"])?;
        let version = info.lines().find_map(|it| it.strip_prefix("redis_version:"));
        Ok(version.unwrap_or("?").trim().to_owned())
    }
}

/// Runs one command on a connection of its own.
pub(crate) fn ask(addr: SocketAddr, command: &[&str]) -> Result<String> {
    let mut stream = TcpStream::connect(addr).context("Redis is away")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut text = format!("*{}\r\n", command.len());
    for word in command {
        _ = write!(text, "${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(text.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let Some(length) = line.strip_prefix('$') else { return Ok(line) };
    let mut bytes = vec![0; length.trim().parse::<usize>()?];
    reader.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
