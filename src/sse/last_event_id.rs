//! The `Last-Event-ID` of a connection that follows several jobs: how far each has come, in the URL's order.
//!
//! `m1.` and a token a job, joined by commas: the entry's milliseconds in base 36, and after `_` its sequence
//! number if that is not 0; `-` for a job of which nothing was seen. About ten bytes a job.

use crate::ids::StreamId;

const PREFIX: &str = "m1.";
const RADIX: u32 = 36;

/// One position a job.
pub(super) fn encode(positions: &[StreamId]) -> String {
    let tokens: Vec<String> = positions.iter().map(|it| token(*it)).collect();
    format!("{PREFIX}{}", tokens.join(","))
}

/// The positions of `job_count` jobs; `None` if `text` is not of a connection with as many.
pub(crate) fn decode(text: &str, job_count: usize) -> Option<Vec<Option<StreamId>>> {
    let positions = text.strip_prefix(PREFIX)?.split(',').map(|it| match it {
        "-" => Some(None),
        token => parse(token).map(Some),
    });
    let positions: Vec<Option<StreamId>> = positions.collect::<Option<_>>()?;
    (positions.len() == job_count).then_some(positions)
}

fn token(id: StreamId) -> String {
    match (id, id.seq) {
        (StreamId::ZERO, _) => "-".to_owned(),
        (_, 0) => base36(id.ms),
        _ => format!("{}_{}", base36(id.ms), base36(id.seq)),
    }
}

fn parse(token: &str) -> Option<StreamId> {
    let (ms, seq) = token.split_once('_').unwrap_or((token, "0"));
    let number = |it: &str| u64::from_str_radix(it, RADIX).ok();
    Some(StreamId { ms: number(ms)?, seq: number(seq)? })
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(number % u64::from(RADIX)).unwrap_or(0);
        digits.push(char::from_digit(digit, RADIX).unwrap_or('0'));
        number /= u64::from(RADIX);
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back() {
        let of = |ms, seq| StreamId { ms, seq };
        let positions = [
            of(1_795_405_722_764, 0),
            StreamId::ZERO,
            of(1_795_405_722_764, 35),
            of(u64::MAX, u64::MAX),
        ];
        let text = encode(&positions);
        let read = decode(&text, 4).unwrap();
        let expected: Vec<_> =
            positions.iter().map(|it| Some(*it).filter(|it| *it != StreamId::ZERO)).collect();
        assert_eq!(read, expected);
        assert_eq!(decode(&text, 3), None);
    }

    #[test]
    fn anything_else_is_no_position() {
        for bad in [
            "",
            "m1.",
            "m1.x,",
            "1795405722764-0",
            "m1.!",
            "m2.-",
            "m1._",
            "m1.zzzzzzzzzzzzzzzzzzzz",
        ] {
            assert_eq!(decode(bad, 1), None, "{bad}");
        }
    }
}
