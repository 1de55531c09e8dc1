//! SHA-256 digests, and the ids of API keys.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{InvalidId, truncate_quoted};

/// A SHA-256 digest as 64 lower-case hexadecimal digits: of an API key, which identifies its owner while the key
/// itself is never stored, or of a request.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sha256Hex(String);

impl Sha256Hex {
    pub(crate) fn digest(text: &str) -> Self {
        Self(HEXLOWER.encode(&Sha256::digest(text.as_bytes())))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 8 digits: enough to tell clients apart in a log, too few to be useful to an attacker.
    pub(crate) fn prefix(&self) -> &str {
        &self.0[..8]
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text))
        } else {
            Err("expected the SHA-256 of the key as 64 lower-case hexadecimal digits".to_owned())
        }
    }
}

impl<'de> Deserialize<'de> for Sha256Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}

/// The visible prefix of an API key that is stored in Redis, such as `i2m_Ab12Cd34`: its id for operators.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub(crate) struct KeyId(String);

impl KeyId {
    /// The prefix of all generated keys, so that people and secret scanners recognise them.
    pub(crate) const PREFIX: &str = "i2m_";
    const LEN: usize = Self::PREFIX.len() + 8;

    /// The id of `key`, if the key has the format of a generated one.
    pub(crate) fn from_key(key: &str) -> Option<Self> {
        key.get(..Self::LEN)?.parse().ok()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_generated = text.len() == Self::LEN
            && text.starts_with(Self::PREFIX)
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        is_generated.then(|| Self(text.to_owned())).ok_or_else(|| {
            InvalidId::Other(format!(
                "a key id is the first {} characters of the key, such as i2m_Ab12Cd34; got {}",
                Self::LEN,
                truncate_quoted(text)
            ))
        })
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hashed_as_the_seed_does() {
        let hash = Sha256Hex::digest("abc");
        assert_eq!(
            hash.as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
