//! Counts what a Redis does for a piece of work: by what it says while it is watched, and by its own count.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use super::{PATIENCE, TestRedis};

/// What some work cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Commands that clients sent.
    pub(crate) round_trips: u64,
    /// The same and those that scripts called.
    pub(crate) commands: u64,
}

/// A Redis that is watched by `MONITOR`, and asked for `commandstats`.
pub(crate) struct Meter {
    monitor: BufReader<UnixStream>,
    asker: BufReader<UnixStream>,
}

/// What the meter asks with; the service spells it otherwise.
const ASK: &str = "info commandstats";
const ASKED: &str = "\"info\" \"commandstats\"";
/// The look of every process at what keys there are, twice a second.
const BACKGROUND: &str = "\"i2m:{keys}";

impl Meter {
    pub(crate) async fn of(redis: &TestRedis) -> Self {
        let socket = redis.dir().join("redis.sock");
        let mut monitor = BufReader::new(UnixStream::connect(&socket).await.unwrap());
        monitor.write_all(b"MONITOR\r\n").await.unwrap();
        assert_eq!(line_of(&mut monitor).await, "+OK\r\n");
        let asker = BufReader::new(UnixStream::connect(&socket).await.unwrap());
        Self { monitor, asker }
    }

    /// Waits until it has been sent this, since the meter is there.
    pub(crate) async fn until_sent(&mut self, command: &str) {
        let read = async { while !line_of(&mut self.monitor).await.contains(command) {} };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no {command}"));
    }

    /// Does `work` and says what it cost. Nothing else may ask this Redis meanwhile.
    pub(crate) async fn measure<T>(&mut self, work: impl Future<Output = T>) -> (Cost, T) {
        let before = self.count().await;
        let done = work.await;
        let after = self.count().await;
        self.lines_until_asked().await;
        let (mut cost, mut n_background, mut is_ours) = (Cost::default(), 0, true);
        for line in self.lines_until_asked().await {
            // What a script calls stands below it.
            if !line.contains(" lua] ") {
                is_ours = !line.contains(BACKGROUND);
                cost.round_trips += u64::from(is_ours);
            }
            n_background += u64::from(!is_ours);
        }
        // Of what was counted the first question is one.
        cost.commands = after - before - 1 - n_background;
        (cost, done)
    }

    /// How many commands it has run.
    async fn count(&mut self) -> u64 {
        self.asker.write_all(format!("{ASK}\r\n").as_bytes()).await.unwrap();
        let head = line_of(&mut self.asker).await;
        let len: usize = head.trim_end().trim_start_matches('$').parse().unwrap();
        let mut text = vec![0; len + 2];
        self.asker.read_exact(&mut text).await.unwrap();
        let text = String::from_utf8(text).unwrap();
        let calls = text.lines().filter_map(|it| it.split_once(":calls=")?.1.split_once(','));
        calls.map(|(calls, _)| calls.parse::<u64>().unwrap()).sum()
    }

    /// The commands that were run until the meter asked.
    async fn lines_until_asked(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = line_of(&mut self.monitor).await;
            if line.contains(ASKED) {
                return lines;
            }
            lines.push(line);
        }
    }
}

async fn line_of(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line
}
