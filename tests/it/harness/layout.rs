//! The key layout of a cluster, implemented a second time from docs/REDIS.md: tests use the seed's key names on every
//! kind of Redis.

use sha2::{Digest as _, Sha256};

const PREFIX: &str = "i2m:";
const UUID_LEN: usize = 36;

/// The cluster key of the key `name`.
pub(super) fn key_of(name: &str) -> String {
    format!("{PREFIX}{{{}}}:{name}", partition_of(name))
}

/// The cluster key of the key `name` in the partition of the key `other`.
pub(super) fn key_beside(other: &str, name: &str) -> String {
    format!("{PREFIX}{{{}}}:{name}", partition_of(other))
}

/// The name without the prefix and the partition.
pub(super) fn name_of(key: &str) -> Option<&str> {
    Some(key.strip_prefix(PREFIX)?.strip_prefix('{')?.split_once("}:")?.1)
}

/// The database of the key on a standalone server.
pub(super) fn database_of(name: &str) -> u8 {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if begins(&["progress:", "stream:progress:"]) {
        2
    } else if begins(&["rl:"]) {
        3
    } else if begins(&[
        "cache:",
        "i2m:cache:",
        "i2m:claim:",
        "tag:",
        "i2m:tag:",
        "metric:",
        "i2m:metrics:",
    ]) {
        4
    } else {
        1
    }
}

/// Whether every partition has its own key of this name.
pub(super) fn is_in_every_partition(name: &str) -> bool {
    ["i2m:active", "i2m:outbox", "i2m:cancelling", "i2m:webhooks", "i2m:reindex"].contains(&name)
        || name.starts_with("tag:")
        || name.starts_with("i2m:tag:")
}

fn partition_of(name: &str) -> String {
    for prefix in ["i2m:lock:", "i2m:cache:", "i2m:claim:"] {
        if let Some(subject) = name.strip_prefix(prefix) {
            return if prefix == "i2m:lock:" {
                partition_of(&format!("lock:{subject}"))
            } else {
                partition_of(subject)
            };
        }
    }
    let of_jobs = ["job:", "session:", "progress:", "stream:progress:", "cache:status:"];
    let of_tasks = ["i2m:task:", "i2m:webhook:"];
    for prefix in of_jobs.iter().chain(&of_tasks) {
        if let Some(id) = name.strip_prefix(prefix).and_then(|rest| rest.get(..UUID_LEN)) {
            return id[UUID_LEN - 2..].to_owned();
        }
    }
    for prefix in ["user_jobs:", "i2m:idempotency:"] {
        if let Some(owner) = name.strip_prefix(prefix).and_then(|owner| owner.split(':').next()) {
            return owner[owner.len() - 2..].to_owned();
        }
    }
    // The service's own locks are in the partition of the data that they protect.
    if name.starts_with("lock:i2m:") {
        return "00".to_owned();
    }
    if let Some(address) = name.strip_prefix("rl:ip:") {
        return sha256_end(address);
    }
    if let Some(caller) = name.strip_prefix("rl:").and_then(|key| key.rsplit(':').next()) {
        let is_hash = caller.len() == 64;
        return if is_hash { caller[62..].to_owned() } else { sha256_end(caller) };
    }
    if name.starts_with("lock:") || name.starts_with("cache:") {
        return sha256_end(name);
    }
    "00".to_owned()
}

fn sha256_end(text: &str) -> String {
    format!("{:02x}", Sha256::digest(text.as_bytes())[31])
}
