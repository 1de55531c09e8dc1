//! The `Last-Event-ID` of a connection that watches several jobs: the last entry received of each, in the order of
//! the URL.
//!
//! Format: `m1.` and one token per job, joined by commas. A token is the entry's milliseconds in base 36, followed by
//! `_` and the sequence number if that is not 0, or `-` if no event of the job was received. About ten bytes per job.

use crate::ids::StreamId;

const PREFIX: &str = "m1.";
const RADIX: u32 = 36;

/// Encodes one position per job; [`StreamId::ZERO`] stands for none.
pub(super) fn encode(positions: &[StreamId]) -> String {
    let tokens: Vec<String> = positions.iter().map(|id| encode_token(*id)).collect();
    format!("{PREFIX}{}", tokens.join(","))
}

/// The positions of `job_count` jobs; `None` if `text` is malformed or has another number of positions.
pub(crate) fn decode(text: &str, job_count: usize) -> Option<Vec<Option<StreamId>>> {
    let positions = text.strip_prefix(PREFIX)?.split(',').map(|token| match token {
        "-" => Some(None),
        token => decode_token(token).map(Some),
    });
    let positions: Vec<Option<StreamId>> = positions.collect::<Option<_>>()?;
    (positions.len() == job_count).then_some(positions)
}

fn encode_token(id: StreamId) -> String {
    match (id, id.seq) {
        (StreamId::ZERO, _) => "-".to_owned(),
        (_, 0) => base36(id.ms),
        _ => format!("{}_{}", base36(id.ms), base36(id.seq)),
    }
}

fn decode_token(token: &str) -> Option<StreamId> {
    let (ms, seq) = token.split_once('_').unwrap_or((token, "0"));
    let parse = |digits: &str| u64::from_str_radix(digits, RADIX).ok();
    Some(StreamId { ms: parse(ms)?, seq: parse(seq)? })
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
    fn positions_round_trip() {
        let id = |ms, seq| StreamId { ms, seq };
        let positions = [
            id(1_795_405_722_764, 0),
            StreamId::ZERO,
            id(1_795_405_722_764, 35),
            id(u64::MAX, u64::MAX),
        ];
        let text = encode(&positions);
        let read = decode(&text, 4).unwrap();
        let expected: Vec<_> =
            positions.iter().map(|id| Some(*id).filter(|id| *id != StreamId::ZERO)).collect();
        assert_eq!(read, expected);
        assert_eq!(decode(&text, 3), None);
    }

    #[test]
    fn malformed_positions_are_rejected() {
        for malformed in [
            "",
            "m1.",
            "m1.x,",
            "1795405722764-0",
            "m1.!",
            "m2.-",
            "m1._",
            "m1.zzzzzzzzzzzzzzzzzzzz",
        ] {
            assert_eq!(decode(malformed, 1), None, "{malformed}");
        }
    }
}
