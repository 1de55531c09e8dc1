//! Ids of the entries of Redis streams.

use std::{fmt, str::FromStr};

use super::{InvalidId, truncate_quoted};

/// The id of a Redis stream entry: Unix milliseconds and a sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId {
    pub(crate) ms: u64,
    pub(crate) seq: u64,
}

impl StreamId {
    /// Sorts before every entry.
    pub(crate) const ZERO: Self = Self { ms: 0, seq: 0 };
}

impl FromStr for StreamId {
    type Err = InvalidId;

    /// Parses `ms-seq` with both numbers, as Redis formats it and as browsers return it in `Last-Event-ID`.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let number = |digits: &str| {
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten()
        };
        text.split_once('-')
            .and_then(|(ms, seq)| Some(Self { ms: number(ms)?, seq: number(seq)? }))
            .ok_or_else(|| {
                InvalidId::Other(format!(
                    "an event id looks like 1700000000000-0; got {}",
                    truncate_quoted(text)
                ))
            })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}
