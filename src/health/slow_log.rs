//! The slow log of Redis, for operators. Of a command only its name and its keys are shown. Values are never shown,
//! because they contain results, messages and secrets of clients.

use crate::store::client::Value;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// An entry of the slow log.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = SlowCommand)]
pub(crate) struct SlowQuery {
    id: u64,
    start_time: Option<DateTime<Utc>>,
    duration_microseconds: u64,
    command: String,
    /// Address of the client that sent the command.
    client: String,
    client_name: String,
}

/// Commands whose arguments are only keys, patterns, ids and options.
const WITHOUT_VALUES: [&str; 19] = [
    "DEL", "UNLINK", "EXISTS", "MGET", "TOUCH", "SUNION", "SINTER", "WATCH", "XREAD", "XRANGE",
    "XLEN", "SCAN", "KEYS", "SLOWLOG", "INFO", "COMMAND", "LRANGE", "HGETALL", "SMEMBERS",
];
/// Commands whose first argument is a key. Later arguments can be values.
const KEY_FIRST: [&str; 49] = [
    "GET",
    "SET",
    "SETEX",
    "PSETEX",
    "SETNX",
    "GETSET",
    "GETDEL",
    "INCR",
    "INCRBY",
    "DECR",
    "EXPIRE",
    "PEXPIRE",
    "TTL",
    "PTTL",
    "TYPE",
    "STRLEN",
    "APPEND",
    "HSET",
    "HGET",
    "HMGET",
    "HMSET",
    "HDEL",
    "HKEYS",
    "HVALS",
    "HLEN",
    "HINCRBY",
    "HEXISTS",
    "HSCAN",
    "LPUSH",
    "RPUSH",
    "LPOP",
    "RPOP",
    "LLEN",
    "LREM",
    "LPOS",
    "LTRIM",
    "SADD",
    "SREM",
    "SCARD",
    "SISMEMBER",
    "SSCAN",
    "ZADD",
    "ZREM",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZREVRANGE",
    "ZSCAN",
    "XADD",
    "XTRIM",
];

/// Keeps the newest `limit` entries, in descending order. The entries of a cluster come from several servers.
pub(super) fn keep_newest(queries: &mut Vec<SlowQuery>, limit: u64) {
    queries.sort_by(|a, b| b.start_time.cmp(&a.start_time).then(b.id.cmp(&a.id)));
    queries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
}

impl SlowQuery {
    /// Parses an entry of SLOWLOG GET; `None` if the entry is malformed.
    pub(super) fn parse(entry: Value) -> Option<Self> {
        let mut parts = entry.into_array().into_iter();
        let mut next = || parts.next().unwrap_or(Value::Null);
        let (id, unix_secs, duration_microseconds) =
            (next().as_u64()?, next().as_i64()?, next().as_u64()?);
        let words: Vec<Vec<u8>> =
            next().into_array().iter().filter_map(|word| Some(word.as_bytes()?.to_vec())).collect();
        Some(Self {
            id,
            start_time: DateTime::from_timestamp(unix_secs, 0),
            duration_microseconds,
            command: describe(&words),
            client: next().as_string().unwrap_or_default(),
            client_name: next().as_string().unwrap_or_default(),
        })
    }
}

/// A command as text: its name and keys, and the length of every other argument.
fn describe(words: &[Vec<u8>]) -> String {
    use std::fmt::Write as _;

    const MAX_WORDS: usize = 12;
    let Some((name, arguments)) = words.split_first() else { return String::new() };
    let name = printable(name).to_uppercase();
    let mut text = name.clone();
    for (index, word) in arguments.iter().take(MAX_WORDS).enumerate() {
        text.push(' ');
        if may_be_shown(&name, index, arguments) {
            text.push_str(&printable(word));
        } else {
            _ = write!(text, "<{} bytes>", word.len());
        }
    }
    if arguments.len() > MAX_WORDS {
        _ = write!(text, " … {} more", arguments.len() - MAX_WORDS);
    }
    text
}

fn may_be_shown(name: &str, index: usize, arguments: &[Vec<u8>]) -> bool {
    match name {
        // Arguments: the hash of the script, the number of keys, the keys, the values.
        "EVALSHA" | "EVALSHA_RO" | "FCALL" | "FCALL_RO" => {
            let key_count =
                arguments.get(1).and_then(|count| printable(count).parse().ok()).unwrap_or(0);
            index < 2_usize.saturating_add(key_count)
        }
        "EVAL" | "EVAL_RO" => index == 1,
        _ => WITHOUT_VALUES.contains(&name) || (index == 0 && KEY_FIRST.contains(&name)),
    }
}

/// A word without control characters, truncated.
fn printable(word: &[u8]) -> String {
    const MAX_CHARS: usize = 100;
    let text = String::from_utf8_lossy(word);
    let chars = text.chars().map(|char| if char.is_control() { '·' } else { char });
    let mut truncated: String = chars.take(MAX_CHARS).collect();
    if text.chars().count() > MAX_CHARS {
        truncated.push('…');
    }
    truncated
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("get job:1", "GET job:1")]
    #[case(
        "SET i2m:ticket_secret hush EX 5",
        "SET i2m:ticket_secret <4 bytes> <2 bytes> <1 bytes>"
    )]
    #[case("HSET job:1 params hush", "HSET job:1 <6 bytes> <4 bytes>")]
    #[case("EVALSHA ab 2 job:1 job:2 hush", "EVALSHA ab 2 job:1 job:2 <4 bytes>")]
    #[case("EVAL hush 1 hush", "EVAL <4 bytes> 1 <4 bytes>")]
    #[case("AUTH user hush", "AUTH <4 bytes> <4 bytes>")]
    #[case("CONFIG SET requirepass hush", "CONFIG <3 bytes> <11 bytes> <4 bytes>")]
    #[case("DEL 1 2 3 4 5 6 7 8 9 a b c d e", "DEL 1 2 3 4 5 6 7 8 9 a b c … 2 more")]
    fn values_are_not_shown(#[case] command: &str, #[case] expected: &str) {
        let words: Vec<Vec<u8>> = command.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(describe(&words), expected);
    }
}
