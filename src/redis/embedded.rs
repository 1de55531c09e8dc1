//! A private `redis-server` child process, so that the service runs on a laptop without further setup.
//!
//! The child must not outlive the service, even if that is killed with SIGKILL. A parent death signal requires `unsafe`
//! code, so a small shell supervises Redis: it reads from a pipe of the service and stops Redis when the pipe closes
//! for any reason. The service and the child hold a lock on the data directory together, so the next service waits until
//! the previous Redis has written its data.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::config::EmbeddedConfig;
use crate::tasks::TaskSupervisor;

/// Stops Redis when the pipe at standard input closes, and exits when Redis does.
const SUPERVISOR_SH: &str = r#"
"$@" </dev/null &
redis=$!
( while read -r _; do :; done; kill -TERM "$redis" 2>/dev/null ) <&3 &
watch=$!
exec 3<&-
wait "$redis"
status=$?
kill "$watch" 2>/dev/null
exit "$status"
"#;

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The path of a Unix socket must fit into `sockaddr_un`.
const MAX_SOCKET_PATH: usize = 100;

/// The running child. Dropping it closes the pipe, which stops Redis.
pub(super) struct Embedded {
    child: Child,
}

impl Embedded {
    /// Starts the server, restarts it whenever it exits until the service stops, and returns its socket.
    ///
    /// # Errors
    ///
    /// If the program is missing (the message explains how to install it), the directory is in use, or the server does
    /// not answer in time.
    pub(super) async fn start(config: &EmbeddedConfig, tasks: &TaskSupervisor) -> Result<PathBuf> {
        let dir = prepare_dir(&config.dir)?;
        let lock = lock_dir(&dir, config.start_timeout).await?;
        let socket = socket_path(&dir)?;
        let mut embedded = Self::spawn(config, &dir, &socket, &lock)?;
        embedded.wait_until_ready(&dir, &socket, config.start_timeout).await?;
        info!(dir = %dir.display(), "embedded Redis started");
        let (config, path) = (config.clone(), socket.clone());
        let shutdown = tasks.shutdown_token();
        tasks.spawn_critical("embedded redis", async move {
            while embedded.has_exited(&shutdown).await {
                error!("the embedded Redis exited; restarting it");
                match Self::spawn(&config, &dir, &path, &lock) {
                    Ok(restarted) => embedded = restarted,
                    Err(error) => {
                        error!(error = format!("{error:#}"), "cannot start the embedded Redis");
                    }
                }
            }
            // Other tasks still close their connections; Redis stops when the pipe of this task closes.
            _ = fs::remove_file(&path);
        });
        Ok(socket)
    }

    /// The socket of the server of a running service, if there is one.
    pub(super) fn running(config: &EmbeddedConfig) -> Option<PathBuf> {
        let socket = socket_path(&config.dir.canonicalize().ok()?).ok()?;
        is_ready(&socket).then_some(socket)
    }

    fn spawn(config: &EmbeddedConfig, dir: &Path, socket: &Path, lock: &File) -> Result<Self> {
        let log = File::options().create(true).append(true).open(dir.join("redis.log"))?;
        let child = Command::new("sh")
            .args(["-c", &format!("exec 3<&0; {SUPERVISOR_SH}"), "redis-supervisor"])
            .arg(&config.program)
            .args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"])
            .arg(socket)
            .arg("--dir")
            .arg(dir)
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--save",
                "",
                "--daemonize",
                "no",
            ])
            .args([
                "--maxmemory-policy",
                "noeviction",
                "--notify-keyspace-events",
                "Kt",
                "--loglevel",
                "notice",
            ])
            .arg("--logfile")
            .arg(dir.join("redis.log"))
            // A process group of its own, so that Ctrl-C stops only the service, which drains first.
            .process_group(0)
            .stdin(Stdio::piped())
            // Not for output, which goes to the log: the child inherits the lock this way.
            .stdout(Stdio::from(lock.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()
            .context("cannot start sh")?;
        Ok(Self { child })
    }

    async fn wait_until_ready(&mut self, dir: &Path, socket: &Path, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !is_ready(socket) {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the embedded Redis exited at once ({status}); its log is {}. Is redis-server installed? \
                     (Debian, Ubuntu: apt-get install redis-server; Fedora: dnf install redis; macOS: brew install \
                     redis) To use another Redis, set I2M__REDIS__URL=redis://host:6379",
                    dir.join("redis.log").display()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "the embedded Redis did not answer within {limit:?}; see {}",
                    dir.join("redis.log").display()
                );
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Waits until the child exits (true) or the service stops (false).
    async fn has_exited(&mut self, shutdown: &CancellationToken) -> bool {
        const CHECK_INTERVAL: Duration = Duration::from_millis(200);
        while shutdown.run_until_cancelled(sleep(CHECK_INTERVAL)).await.is_some() {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
        }
        false
    }
}

fn prepare_dir(dir: &Path) -> Result<PathBuf> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| dir.canonicalize())
        .with_context(|| format!("redis.embedded.dir {} cannot be used", dir.display()))
}

async fn lock_dir(dir: &Path, limit: Duration) -> Result<File> {
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    let deadline = Instant::now() + limit;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                sleep(POLL_INTERVAL).await;
            }
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "{} is in use by another image2model-gateway; set I2M__REDIS__EMBEDDED__DIR",
                    dir.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context("cannot lock the data directory");
            }
        }
    }
}

fn socket_path(dir: &Path) -> Result<PathBuf> {
    let beside = dir.join("redis.sock");
    if beside.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok(beside);
    }
    // Private, and the same path at each start with the same directory.
    let name = crate::ids::Sha256Hex::digest(&String::from_utf8_lossy(dir.as_os_str().as_bytes()));
    let parent = std::env::temp_dir().join(format!("i2m-{}", name.prefix()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&parent)?;
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o700))?;
    Ok(parent.join("redis.sock"))
}

/// Whether the server accepts commands; it does not while it loads its data.
fn is_ready(socket: &Path) -> bool {
    let ping = || -> io::Result<bool> {
        use std::io::Read as _;

        let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 5];
        stream.read_exact(&mut reply)?;
        Ok(&reply == b"+PONG")
    };
    ping().unwrap_or(false)
}
