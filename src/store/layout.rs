//! The layout of keys: numbered databases, or the 256 partitions of a cluster.
//!
//! In a cluster, every key belongs to one of 256 partitions, each with a hash tag and so a slot of its own. A script uses
//! the keys of one partition, and a cluster of up to 256 shards can share the partitions.
//!
//! A key is `{prefix}{{pp}}:{name}`: the prefix of all keys of the service, the partition as two hexadecimal digits in
//! braces (Redis Cluster Specification, *Hash tags*), and the name that the key has without a cluster.

use fred::types::Key;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    ids::{JobId, Sha256Hex},
    redis::{Config, Mode, hash_slot},
};

/// One of 256 groups of keys. It has no meaning where databases are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Partition(u8);

impl Partition {
    pub(crate) const COUNT: usize = 256;
    /// The partition of keys that are not about one subject, such as API keys.
    pub(crate) const SHARED: Self = Self(0);

    /// The partition of all keys of a job: the last two digits of its id.
    pub(crate) fn for_job(job: JobId) -> Self {
        Self::for_uuid(job.as_uuid())
    }

    /// The partition of a Celery task, whose id ends with the same digits as its job's.
    pub(crate) fn for_task(task: Uuid) -> Self {
        Self::for_uuid(task)
    }

    /// The partition of keys that belong to a caller: the last two digits of the hash.
    pub(crate) fn for_caller(hash: &Sha256Hex) -> Self {
        let digits = hash.as_str();
        let last = digits.get(digits.len() - 2..).unwrap_or_default();
        Self(u8::from_str_radix(last, 16).unwrap_or(0))
    }

    /// The partition of a name that callers choose: the last byte of its SHA-256.
    pub(crate) fn for_name(name: &str) -> Self {
        Self(Sha256::digest(name.as_bytes()).last().copied().unwrap_or(0))
    }

    /// The partition of a cached value: its job's if it is the status of a job, otherwise its name's.
    pub(crate) fn for_cached_value(name: &str) -> Self {
        let job = name.strip_prefix("cache:status:").and_then(|id| id.parse().ok());
        job.map_or_else(|| Self::for_name(name), Self::for_job)
    }

    fn for_uuid(id: Uuid) -> Self {
        Self(id.as_bytes()[15])
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    /// Its position in [`Partition::all`].
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn from_index(index: usize) -> Self {
        u8::try_from(index).map_or(Self::SHARED, Self)
    }

    pub(super) fn hash_slot(self) -> u16 {
        hash_slot(&format!("{:02x}", self.0))
    }
}

/// How keys are named and where they are.
#[derive(Clone, Debug)]
pub(crate) enum KeyLayout {
    /// In numbered databases, with the seed's names.
    MultiDatabase,
    /// In the only database of a cluster, with a prefix and a partition.
    Cluster { prefix: Box<str> },
}

impl KeyLayout {
    pub(crate) fn new(config: &Config) -> Self {
        match config.effective_mode() {
            Mode::Cluster => Self::Cluster { prefix: config.key_prefix.as_str().into() },
            Mode::Auto | Mode::Embedded | Mode::Standalone | Mode::Sentinel => Self::MultiDatabase,
        }
    }

    pub(crate) fn is_multi_database(&self) -> bool {
        matches!(self, Self::MultiDatabase)
    }

    /// The argument of scripts that names the layout.
    pub(crate) fn as_str(&self) -> &'static str {
        if self.is_multi_database() { "numbered" } else { "cluster" }
    }

    pub(crate) fn key(&self, partition: Partition, name: &str) -> Key {
        match self {
            Self::MultiDatabase => Key::from(name),
            Self::Cluster { prefix } => {
                Key::from(format!("{prefix}{{{:02x}}}:{name}", partition.0))
            }
        }
    }

    /// The glob pattern of keys for a glob pattern of names.
    pub(crate) fn pattern(&self, names: &str) -> String {
        match self {
            Self::MultiDatabase => names.to_owned(),
            Self::Cluster { prefix } => {
                let escape = |char: char| {
                    let is_special = matches!(char, '*' | '?' | '[' | ']' | '^' | '\\');
                    is_special.then_some('\\').into_iter().chain([char])
                };
                let literal: String = prefix.chars().flat_map(escape).collect();
                format!("{literal}{{??}}:{names}")
            }
        }
    }

    /// Splits a key into its partition and its name; `None` if the service does not own the key.
    pub(crate) fn parse<'a>(&self, key: &'a str) -> Option<(Partition, &'a str)> {
        let Self::Cluster { prefix } = self else { return Some((Partition::SHARED, key)) };
        let rest = key.strip_prefix(&**prefix)?.strip_prefix('{')?;
        let (digits, name) = rest.split_at_checked(2)?;
        let partition = u8::from_str_radix(digits, 16).ok()?;
        let is_lower_hex = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        is_lower_hex.then_some((Partition(partition), name.strip_prefix("}:")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_get_similar_numbers_of_partitions() {
        for shards in [3, 6, 12, 24] {
            let mut counts = vec![0; shards];
            for partition in Partition::all() {
                counts[usize::from(partition.hash_slot()) * shards / 16384] += 1;
            }
            let fair = Partition::COUNT / shards;
            assert!(counts.iter().all(|count| (fair / 2..=fair * 2).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn a_job_and_its_tasks_share_a_partition() {
        let job: JobId = "0190b8a2-0000-4000-8000-00000000003f".parse().unwrap();
        assert_eq!(Partition::for_job(job), Partition(0x3f));
        assert_eq!(Partition::for_task(job.as_uuid()), Partition(0x3f));
        let hash = Sha256Hex::digest("abc");
        assert_eq!(Partition::for_caller(&hash), Partition::for_name("abc"));
    }

    #[test]
    fn partitions_are_found_by_their_index() {
        for partition in Partition::all() {
            assert_eq!(Partition::from_index(partition.index()), partition);
        }
    }

    #[test]
    fn keys_are_parsed_as_they_are_made() {
        let layout = KeyLayout::Cluster { prefix: "i2m:".into() };
        let key = layout.key(Partition(0x3f), "lock:a}b");
        assert_eq!(key.as_str(), Some("i2m:{3f}:lock:a}b"));
        assert_eq!(layout.parse("i2m:{3f}:lock:a}b"), Some((Partition(0x3f), "lock:a}b")));
        for foreign in ["i2m:{3F}:a", "i2m:{3f}a", "i2m:{3}:a", "{3f}:a", "i2m:3f:a", "i2m:{+f}:a"]
        {
            assert_eq!(layout.parse(foreign), None, "{foreign}");
        }
        assert_eq!(KeyLayout::MultiDatabase.parse("job:1"), Some((Partition::SHARED, "job:1")));
    }
}
