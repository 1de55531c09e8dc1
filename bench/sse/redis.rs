//! The Redis of the benchmark, and a minimal client.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{pinned_process::PinnedProcess, servers};

pub(crate) struct Redis {
    pub(crate) process: PinnedProcess,
    pub(crate) addr: SocketAddr,
    core: usize,
    dir: PathBuf,
    is_durable: bool,
}

impl Redis {
    pub(crate) fn start(core: usize, dir: &Path) -> Result<Self> {
        Self::start_at(servers::free_addr()?, core, dir, false)
    }

    /// A Redis that keeps acknowledged writes over a restart.
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
            args.iter().flat_map(|arg| [arg.0.to_owned(), arg.1.to_owned()]).collect();
        let process = PinnedProcess::start(core, "redis-server", &args, &[], dir)?;
        servers::wait_until_listening(addr)?;
        Ok(Self { process, addr, core, dir: dir.to_owned(), is_durable })
    }

    /// Kills the process. Data that the kernel has buffered is kept, unlike in a power failure.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn restart(&mut self) -> Result<()> {
        *self = Self::start_at(self.addr, self.core, &self.dir.clone(), self.is_durable)?;
        Ok(())
    }

    /// Runs one command on a new connection.
    pub(crate) fn run(&self, command: &[&str]) -> Result<String> {
        send_command(self.addr, command)
    }

    /// The number of client connections, without the one that runs this command.
    pub(crate) fn connection_count(&self) -> Result<usize> {
        Ok(self.run(&["CLIENT", "LIST"])?.lines().count().saturating_sub(1))
    }

    /// Waits until `count` clients are blocked in a command.
    pub(crate) async fn wait_for_blocked(&self, count: usize) -> Result<()> {
        const MAX_TRIES: usize = 300;
        for _ in 0..MAX_TRIES {
            let info = self.run(&["INFO", "clients"])?;
            let blocked = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
            if blocked.and_then(|clients| clients.trim().parse::<usize>().ok()) >= Some(count) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("fewer than {count} clients of Redis are blocked")
    }

    /// The version of the server.
    pub(crate) fn version(&self) -> Result<String> {
        let info = self.run(&["INFO", "server"])?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or("?").trim().to_owned())
    }
}

/// Runs one command on a new connection. Returns the text of a bulk string, or the first line of any other reply.
pub(crate) fn send_command(addr: SocketAddr, command: &[&str]) -> Result<String> {
    let mut stream = TcpStream::connect(addr).context("could not connect to Redis")?;
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
