//! Hash slots of keys in a cluster (Redis Cluster Specification, *Key distribution model*).

/// The slot of all keys with this hash tag.
pub(crate) fn hash_slot(tag: &str) -> u16 {
    crc16(tag.as_bytes()) % 16384
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_equal_those_of_redis() {
        // The check value of the specification.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // CLUSTER KEYSLOT {00} and {ff}
        assert_eq!(hash_slot("00"), 13_254);
        assert_eq!(hash_slot("ff"), 11_756);
    }
}
