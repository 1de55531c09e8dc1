//! The mark that every event carries: its number in its stream and when it was sent.

use std::{io::Write as _, sync::LazyLock, time::Instant};

use memchr::memmem::Finder;

/// When the program began; all times are microseconds since.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
static START: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"@@"));

const NUMBER: usize = 10;
const TIME: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// From 1, without a gap, in each stream.
    pub(crate) number: u64,
    pub(crate) sent_us: u64,
}

pub(crate) fn now_us() -> u64 {
    u64::try_from(BEGIN.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Marker {
    /// Bytes of a marker: `@@NUMBER,TIME@`.
    pub(crate) const LEN: usize = 2 + NUMBER + 1 + TIME + 1;

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        _ = write!(out, "@@{:010},{:016}@", self.number, self.sent_us);
    }

    /// The markers in `events`.
    pub(crate) fn find(events: &[u8]) -> impl Iterator<Item = Self> {
        START.find_iter(events).filter_map(|at| {
            let rest = events.get(at + 2..at + Self::LEN)?;
            let number = digits(&rest[..NUMBER]);
            Some(Self { number, sent_us: digits(&rest[NUMBER + 1..NUMBER + 1 + TIME]) })
        })
    }
}

fn digits(text: &[u8]) -> u64 {
    text.iter().fold(0, |sum, it| sum * 10 + u64::from(it.wrapping_sub(b'0')))
}
