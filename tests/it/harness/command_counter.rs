//! Counts the commands that Redis runs for a piece of work, with `MONITOR` and `INFO commandstats`.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use super::{TIMEOUT, TestRedis};

/// The commands that Redis ran for a piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandCost {
    /// Commands that clients sent.
    pub(crate) round_trips: u64,
    /// Commands that clients sent or scripts called.
    pub(crate) commands: u64,
}

/// Two connections to one Redis: one for `MONITOR`, one for `INFO commandstats`.
pub(crate) struct CommandCounter {
    monitor: BufReader<UnixStream>,
    stats: BufReader<UnixStream>,
}

/// The counter's own command, in lower case; the service sends it in upper case.
const STATS_COMMAND: &str = "info commandstats";
const STATS_COMMAND_IN_MONITOR: &str = "\"info\" \"commandstats\"";
/// The refresh of the API keys, which each process runs twice a second.
const BACKGROUND: &str = "\"i2m:{keys}";

impl CommandCounter {
    pub(crate) async fn start(redis: &TestRedis) -> Self {
        let socket = redis.dir().join("redis.sock");
        let mut monitor = BufReader::new(UnixStream::connect(&socket).await.unwrap());
        monitor.write_all(b"MONITOR\r\n").await.unwrap();
        assert_eq!(read_line(&mut monitor).await, "+OK\r\n");
        let stats = BufReader::new(UnixStream::connect(&socket).await.unwrap());
        Self { monitor, stats }
    }

    /// Waits until Redis has received this command since the counter was started.
    pub(crate) async fn wait_until_sent(&mut self, command: &str) {
        let read = async { while !read_line(&mut self.monitor).await.contains(command) {} };
        tokio::time::timeout(TIMEOUT, read).await.unwrap_or_else(|_| panic!("no {command}"));
    }

    /// Runs `work` and returns its cost and result. Meanwhile no other client may use this Redis.
    pub(crate) async fn measure<T>(&mut self, work: impl Future<Output = T>) -> (CommandCost, T) {
        let before = self.count().await;
        let result = work.await;
        let after = self.count().await;
        self.lines_until_stats().await;
        let (mut cost, mut background_count, mut is_ours) = (CommandCost::default(), 0, true);
        for line in self.lines_until_stats().await {
            // The commands of a script follow the script's own line.
            if !line.contains(" lua] ") {
                is_ours = !line.contains(BACKGROUND);
                cost.round_trips += u64::from(is_ours);
            }
            background_count += u64::from(!is_ours);
        }
        // The count includes the first `INFO commandstats`.
        cost.commands = after - before - 1 - background_count;
        (cost, result)
    }

    /// The number of commands that Redis has run.
    async fn count(&mut self) -> u64 {
        self.stats.write_all(format!("{STATS_COMMAND}\r\n").as_bytes()).await.unwrap();
        let head = read_line(&mut self.stats).await;
        let len: usize = head.trim_end().trim_start_matches('$').parse().unwrap();
        let mut text = vec![0; len + 2];
        self.stats.read_exact(&mut text).await.unwrap();
        let text = String::from_utf8(text).unwrap();
        let calls = text.lines().filter_map(|line| line.split_once(":calls=")?.1.split_once(','));
        calls.map(|(calls, _)| calls.parse::<u64>().unwrap()).sum()
    }

    /// The lines of `MONITOR` up to the counter's own command.
    async fn lines_until_stats(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = read_line(&mut self.monitor).await;
            if line.contains(STATS_COMMAND_IN_MONITOR) {
                return lines;
            }
            lines.push(line);
        }
    }
}

async fn read_line(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line
}
