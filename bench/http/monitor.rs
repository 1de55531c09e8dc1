//! What single requests make Redis do, seen by MONITOR.

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
    n_marks: usize,
}

/// A command that Redis was sent, or that a script ran.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) database: String,
    /// An address, or `lua`.
    from: String,
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
        ensure!(line.starts_with("+OK"), "MONITOR says {line}");
        Ok(Self { lines, n_marks: 0 })
    }

    /// What ran since the last time.
    pub(crate) fn take(&mut self, redis: &Redis) -> Result<Vec<Command>> {
        self.n_marks += 1;
        let mark = format!("benchmark-{}", self.n_marks);
        redis.run(&["ECHO", &mark])?;
        let mut commands = Vec::new();
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line)?;
            let command = Command::parse(&line).with_context(|| format!("MONITOR says {line}"))?;
            if command.words.last() == Some(&mark) {
                return Ok(commands);
            }
            commands.push(command);
        }
    }
}

impl Command {
    /// Of `+1700000000.123456 [1 127.0.0.1:50000] "GET" "key"`.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(" [")?;
        let (source, rest) = rest.split_once("] ")?;
        let (database, from) = source.split_once(' ')?;
        Some(Self { database: database.to_owned(), from: from.to_owned(), words: words(rest) })
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.from != "lua"
    }
}

/// Quoted as Redis does, of ASCII.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut chars) = (Vec::new(), text.chars());
    while chars.any(|it| it == '"') {
        let mut word = String::new();
        while let Some(c) = chars.next().filter(|it| *it != '"') {
            word.push(match (c, c == '\\') {
                (c, false) => c,
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

/// Round trips of these commands: a pipelined transaction is one.
pub(crate) fn round_trips(commands: &[Command]) -> usize {
    let (mut n, mut queueing) = (0, BTreeSet::new());
    for it in commands.iter().filter(|it| it.is_sent()) {
        match it.words.first().map(|it| it.to_ascii_uppercase()).as_deref() {
            Some("MULTI") => _ = queueing.insert(&it.from),
            Some("EXEC") => {
                queueing.remove(&it.from);
                n += 1;
            }
            _ if queueing.contains(&it.from) => (),
            _ => n += 1,
        }
    }
    n
}
