//! The stamp in the message of every event: its number in its stream and the time when it was sent.

use std::{io::Write as _, sync::LazyLock, time::Instant};

use memchr::memmem::Finder;

/// The start of the program. All times are in microseconds since then.
static PROGRAM_START: LazyLock<Instant> = LazyLock::new(Instant::now);
static PREFIX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"@@"));

const NUMBER_DIGITS: usize = 10;
const TIME_DIGITS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventStamp {
    /// Starts at 1 and increases by 1 with each event of a stream.
    pub(crate) number: u64,
    pub(crate) sent_us: u64,
}

pub(crate) fn now_us() -> u64 {
    u64::try_from(PROGRAM_START.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl EventStamp {
    /// The length of a stamp in bytes: `@@NUMBER,TIME@`.
    pub(crate) const LEN: usize = 2 + NUMBER_DIGITS + 1 + TIME_DIGITS + 1;

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        _ = write!(out, "@@{:010},{:016}@", self.number, self.sent_us);
    }

    /// The stamps in `events`.
    pub(crate) fn find(events: &[u8]) -> impl Iterator<Item = Self> {
        PREFIX.find_iter(events).filter_map(|start| {
            let rest = events.get(start + 2..start + Self::LEN)?;
            let number = parse_digits(&rest[..NUMBER_DIGITS]);
            Some(Self {
                number,
                sent_us: parse_digits(&rest[NUMBER_DIGITS + 1..NUMBER_DIGITS + 1 + TIME_DIGITS]),
            })
        })
    }
}

fn parse_digits(text: &[u8]) -> u64 {
    text.iter().fold(0, |sum, byte| sum * 10 + u64::from(byte.wrapping_sub(b'0')))
}
