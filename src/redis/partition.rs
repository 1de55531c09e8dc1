//! What belongs together stands together: in a cluster, every key belongs to one of 256 partitions, each a hash tag and
//! so a slot of its own. Scripts stay within one, and a cluster of up to 256 shards can share them.
//!
//! A key is `{prefix}{{pp}}:{name}`: what all keys of the service begin with, the partition as two hexadecimal digits
//! in braces (Redis Cluster Specification, *Hash tags*), and the name that it has elsewhere.

use fred::types::Key;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::ids::{JobId, Sha256Hex};

/// A part of all keys. Where databases are numbered it means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Partition(u8);

impl Partition {
    pub(crate) const COUNT: usize = 256;
    /// Of what belongs to no subject, such as API keys.
    pub(crate) const SHARED: Self = Self(0);

    /// Of all keys of a job: the last two digits of its id.
    pub(crate) fn of_job(job: JobId) -> Self {
        Self::of_uuid(job.as_uuid())
    }

    /// Of a Celery task, which ends as its job does.
    pub(crate) fn of_task(task: Uuid) -> Self {
        Self::of_uuid(task)
    }

    /// Of what belongs to a caller: the last two digits of the hash.
    pub(crate) fn of_caller(hash: &Sha256Hex) -> Self {
        let digits = hash.as_str();
        let last = digits.get(digits.len() - 2..).unwrap_or_default();
        Self(u8::from_str_radix(last, 16).unwrap_or(0))
    }

    /// Of a name that anybody may choose: the last byte of its SHA-256.
    pub(crate) fn of_name(name: &str) -> Self {
        Self(Sha256::digest(name.as_bytes()).last().copied().unwrap_or(0))
    }

    /// Of a cached value: of its job if it is a job's status, else of its name.
    pub(crate) fn of_cached(name: &str) -> Self {
        let job = name.strip_prefix("cache:status:").and_then(|it| it.parse().ok());
        job.map_or_else(|| Self::of_name(name), Self::of_job)
    }

    fn of_uuid(id: Uuid) -> Self {
        Self(id.as_bytes()[15])
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its slot (Redis Cluster Specification, *Key distribution model*).
    pub(super) fn slot(self) -> u16 {
        crc16(format!("{:02x}", self.0).as_bytes()) % 16384
    }
}

/// How keys are named.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// As the seed names them, in numbered databases.
    Numbered,
    /// In the one database of a cluster, all with a prefix.
    Partitioned { prefix: Box<str> },
}

impl Layout {
    pub(crate) fn is_numbered(&self) -> bool {
        matches!(self, Self::Numbered)
    }

    /// What scripts take for it.
    pub(crate) fn as_str(&self) -> &'static str {
        if self.is_numbered() { "numbered" } else { "cluster" }
    }

    pub(crate) fn key(&self, partition: Partition, name: &str) -> Key {
        match self {
            Self::Numbered => Key::from(name),
            Self::Partitioned { prefix } => {
                Key::from(format!("{prefix}{{{:02x}}}:{name}", partition.0))
            }
        }
    }

    /// A glob of keys from one of names.
    pub(crate) fn pattern(&self, names: &str) -> String {
        match self {
            Self::Numbered => names.to_owned(),
            Self::Partitioned { prefix } => {
                let escape = |it: char| {
                    let special = matches!(it, '*' | '?' | '[' | ']' | '^' | '\\');
                    special.then_some('\\').into_iter().chain([it])
                };
                let literal: String = prefix.chars().flat_map(escape).collect();
                format!("{literal}{{??}}:{names}")
            }
        }
    }

    /// Takes a key apart; `None` for one that is not the service's.
    pub(crate) fn parse<'a>(&self, key: &'a str) -> Option<(Partition, &'a str)> {
        let Self::Partitioned { prefix } = self else { return Some((Partition::SHARED, key)) };
        let rest = key.strip_prefix(&**prefix)?.strip_prefix('{')?;
        let (digits, name) = rest.split_at_checked(2)?;
        let partition = u8::from_str_radix(digits, 16).ok()?;
        let is_ours = digits.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        is_ours.then_some((Partition(partition), name.strip_prefix("}:")?))
    }
}

/// CRC-16/XMODEM, with which Redis Cluster makes slots of keys.
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
    fn slots_are_those_of_redis() {
        // The check value of the specification.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // CLUSTER KEYSLOT {00} and {ff}
        assert_eq!(Partition(0x00).slot(), 13_254);
        assert_eq!(Partition(0xff).slot(), 11_756);
    }

    #[test]
    fn shards_get_about_the_same() {
        for n_shards in [3, 6, 12, 24] {
            let mut counts = vec![0; n_shards];
            for it in Partition::all() {
                counts[usize::from(it.slot()) * n_shards / 16384] += 1;
            }
            let fair = Partition::COUNT / n_shards;
            assert!(counts.iter().all(|it| (fair / 2..=fair * 2).contains(it)), "{counts:?}");
        }
    }

    #[test]
    fn what_belongs_together_is_of_one_partition() {
        let job: JobId = "0190b8a2-0000-4000-8000-00000000003f".parse().unwrap();
        assert_eq!(Partition::of_job(job), Partition(0x3f));
        assert_eq!(Partition::of_task(job.as_uuid()), Partition(0x3f));
        let hash = Sha256Hex::of("abc");
        assert_eq!(Partition::of_caller(&hash), Partition::of_name("abc"));
    }

    #[test]
    fn keys_are_taken_apart_as_they_are_made() {
        let layout = Layout::Partitioned { prefix: "i2m:".into() };
        let key = layout.key(Partition(0x3f), "lock:a}b");
        assert_eq!(key.as_str(), Some("i2m:{3f}:lock:a}b"));
        assert_eq!(layout.parse("i2m:{3f}:lock:a}b"), Some((Partition(0x3f), "lock:a}b")));
        for foreign in ["i2m:{3F}:a", "i2m:{3f}a", "i2m:{3}:a", "{3f}:a", "i2m:3f:a", "i2m:{+f}:a"]
        {
            assert_eq!(layout.parse(foreign), None, "{foreign}");
        }
        assert_eq!(Layout::Numbered.parse("job:1"), Some((Partition::SHARED, "job:1")));
    }
}
