//! Records the Redis commands of single requests with MONITOR.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::redis::Redis;

pub(crate) struct Monitor {
    lines: BufReader<TcpStream>,
    mark_count: usize,
}

/// A command that a client sent or a script ran.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) database: String,
    /// The address of the client, or `lua`.
    source: String,
    pub(crate) words: Vec<String>,
}

impl Monitor {
    pub(crate) fn start(redis: &Redis) -> Result<Self> {
        let mut stream = TcpStream::connect(redis.addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"MONITOR\r\n")?;
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        ensure!(line.starts_with("+OK"), "unexpected reply to MONITOR: {line}");
        Ok(Self { lines, mark_count: 0 })
    }

    /// Returns the commands since the previous call.
    pub(crate) fn drain(&mut self, redis: &Redis) -> Result<Vec<Command>> {
        self.mark_count += 1;
        let mark = format!("benchmark-{}", self.mark_count);
        redis.run(&["ECHO", &mark])?;
        let mut commands = Vec::new();
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line)?;
            let command = Command::parse(&line)
                .with_context(|| format!("unexpected output of MONITOR: {line}"))?;
            if command.words.last() == Some(&mark) {
                return Ok(commands);
            }
            commands.push(command);
        }
    }
}

impl Command {
    /// Parses a line such as `+1700000000.123456 [1 127.0.0.1:50000] "GET" "key"`.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(" [")?;
        let (source, rest) = rest.split_once("] ")?;
        let (database, source) = source.split_once(' ')?;
        let (database, source) = (database.to_owned(), source.to_owned());
        Some(Self { database, source, words: parse_words(rest) })
    }

    /// Whether a client sent the command, as opposed to a script.
    pub(crate) fn is_from_client(&self) -> bool {
        self.source != "lua"
    }
}

/// Parses words that Redis has quoted; supports ASCII only.
fn parse_words(text: &str) -> Vec<String> {
    let (mut words, mut chars) = (Vec::new(), text.chars());
    while chars.any(|character| character == '"') {
        let mut word = String::new();
        while let Some(current) = chars.next().filter(|character| *character != '"') {
            word.push(match (current, current == '\\') {
                (current, false) => current,
                (_, true) => match chars.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(other) => other,
                    None => break,
                },
            });
        }
        words.push(word);
    }
    words
}

/// The number of round trips of the commands. A pipelined transaction is one round trip.
pub(crate) fn round_trips(commands: &[Command]) -> usize {
    let (mut trips, mut in_transaction) = (0, BTreeSet::new());
    for command in commands.iter().filter(|command| command.is_from_client()) {
        match command.words.first().map(|word| word.to_ascii_uppercase()).as_deref() {
            Some("MULTI") => _ = in_transaction.insert(&command.source),
            Some("EXEC") => {
                in_transaction.remove(&command.source);
                trips += 1;
            }
            _ if in_transaction.contains(&command.source) => (),
            _ => trips += 1,
        }
    }
    trips
}
