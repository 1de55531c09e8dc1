//! A private `redis-server` child, so that one process is a whole system on a laptop.
//!
//! The child must not outlive the service, not even one killed with SIGKILL. Without `unsafe` no parent
//! death signal can be set, so a small shell stands between: it holds the reading end of a pipe from the
//! service, and ends Redis when that closes, however it came to close. A lock on the data folder is held by
//! the service and the child together, so a next service waits until the last Redis has written its data.

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

use super::EmbeddedConfig;
use crate::tasks::Tasks;

/// Ends Redis when the pipe at standard input closes; ends itself when Redis does.
const GUARD: &str = r#"
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

const POLL: Duration = Duration::from_millis(10);

/// Paths of unix sockets have to fit into `sockaddr_un`.
const MAX_SOCKET_PATH: usize = 100;

/// The running child. Dropping it closes the pipe, which ends Redis.
pub(super) struct Embedded {
    child: Child,
}

impl Embedded {
    /// Starts the server, and again if it should die, until the service stops. Returns its socket.
    ///
    /// # Errors
    ///
    /// If the program is missing (the message says how to install it), the folder is in use, or the server
    /// does not answer in time.
    pub(super) async fn start(config: &EmbeddedConfig, tasks: &Tasks) -> Result<PathBuf> {
        let dir = prepare_dir(&config.dir)?;
        let lock = lock_dir(&dir, config.start_timeout).await?;
        let socket = socket_path(&dir)?;
        let mut embedded = Self::spawn(config, &dir, &socket, &lock)?;
        embedded.wait_until_up(&dir, &socket, config.start_timeout).await?;
        info!(dir = %dir.display(), "embedded Redis started");
        let (config, path) = (config.clone(), socket.clone());
        let shutdown = tasks.shutdown();
        tasks.spawn("embedded redis", async move {
            while embedded.ended(&shutdown).await {
                error!("the embedded Redis ended; starting it again");
                match Self::spawn(&config, &dir, &path, &lock) {
                    Ok(again) => embedded = again,
                    Err(error) => {
                        error!(error = format!("{error:#}"), "could not start the embedded Redis");
                    }
                }
            }
            // The connections' tasks still say goodbye; Redis goes when this task's pipe closes.
            _ = fs::remove_file(&path);
        });
        Ok(socket)
    }

    /// The socket of a server that a running service has started.
    pub(super) fn running(config: &EmbeddedConfig) -> Option<PathBuf> {
        let socket = socket_path(&config.dir.canonicalize().ok()?).ok()?;
        answers(&socket).then_some(socket)
    }

    fn spawn(config: &EmbeddedConfig, dir: &Path, socket: &Path, lock: &File) -> Result<Self> {
        let log = File::options().create(true).append(true).open(dir.join("redis.log"))?;
        let child = Command::new("sh")
            .args(["-c", &format!("exec 3<&0; {GUARD}"), "redis-guard"])
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
            // A process group of its own: Ctrl-C at the terminal is for the service, which drains first.
            .process_group(0)
            .stdin(Stdio::piped())
            // Not for output, which goes to the log: the child inherits the lock with it.
            .stdout(Stdio::from(lock.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()
            .context("cannot start sh")?;
        Ok(Self { child })
    }

    async fn wait_until_up(&mut self, dir: &Path, socket: &Path, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !answers(socket) {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the embedded Redis ended at once ({status}); its log is {}. Is redis-server installed? \
                     (Debian, Ubuntu: apt-get install redis-server; Fedora: dnf install redis; macOS: brew install \
                     redis) A Redis elsewhere is used with I2M__REDIS__URL=redis://host:6379",
                    dir.join("redis.log").display()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "the embedded Redis did not answer within {patience:?}; see {}",
                    dir.join("redis.log").display()
                );
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits for the end of the child (true) or of the service (false).
    async fn ended(&mut self, shutdown: &CancellationToken) -> bool {
        const LOOK: Duration = Duration::from_millis(200);
        while shutdown.run_until_cancelled(sleep(LOOK)).await.is_some() {
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

async fn lock_dir(dir: &Path, patience: Duration) -> Result<File> {
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    let deadline = Instant::now() + patience;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(POLL).await,
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "{} is in use by another image2model-gateway; set I2M__REDIS__EMBEDDED__DIR",
                    dir.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context("cannot lock the data folder");
            }
        }
    }
}

fn socket_path(dir: &Path) -> Result<PathBuf> {
    let beside = dir.join("redis.sock");
    if beside.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok(beside);
    }
    // Private and the same at each start for the same folder.
    let name = crate::ids::Sha256Hex::of(&String::from_utf8_lossy(dir.as_os_str().as_bytes()));
    let parent = std::env::temp_dir().join(format!("i2m-{}", name.short()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&parent)?;
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o700))?;
    Ok(parent.join("redis.sock"))
}

/// Whether the server takes commands, which it does not while it loads its data.
fn answers(socket: &Path) -> bool {
    let ping = || -> io::Result<bool> {
        use std::io::Read as _;

        let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    };
    ping().unwrap_or(false)
}
