//! The names that callers and Redis keys use, each checked once and then a type.

use std::{fmt, str::FromStr, sync::Arc};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Error;

/// A job's name: a UUID, in Redis keys and over HTTP in lower case with hyphens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(examples("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"))]
pub(crate) struct JobId(Uuid);

impl JobId {
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }

    pub(crate) fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl FromStr for JobId {
    type Err = Error;

    /// Takes the hyphenated form only, so that one job has one name.
    fn from_str(text: &str) -> Result<Self, Error> {
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Ok(Self(id)),
            _ => Err(Error::InvalidJobId),
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A file's name within its job: `file_000`, `file_001`, …, its place in `job:{id}:files`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, pattern = "^file_([0-9]{3}|[1-9][0-9]{3,5})$", examples("file_000"))]
pub(crate) struct FileId(u32);

impl FileId {
    pub(crate) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl FromStr for FileId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.strip_prefix("file_").filter(|it| (3..=6).contains(&it.len()));
        let index = digits
            .filter(|it| it.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|it| it.parse().ok());
        match index.map(Self) {
            Some(id) if id.to_string() == text => Ok(id),
            _ => Err(Error::Invalid(format!(
                "a file id is 'file_' and its place with at least three digits, such as file_000; got {}",
                quoted(text)
            ))),
        }
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file_{:03}", self.0)
    }
}

impl Serialize for FileId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a shared metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(examples("models.rendered"))]
pub(crate) struct MetricName(String);

impl FromStr for MetricName {
    type Err = Error;

    /// Takes no colon, which stands between the parts of a key, and nothing that would have to be escaped.
    fn from_str(text: &str) -> Result<Self, Error> {
        const MAX_BYTES: usize = 100;
        let is_name = (1..=MAX_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if is_name {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::Invalid(format!(
            "a metric's name is 1 to {MAX_BYTES} letters, digits, dots, hyphens and underscores; got {}",
            quoted(text)
        )))
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lower-case hex SHA-256: of an API key, which itself is never kept and so is who owns a job; of a request.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sha256Hex(String);

impl Sha256Hex {
    pub(crate) fn of(text: &str) -> Self {
        Self(HEXLOWER.encode(&Sha256::digest(text.as_bytes())))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Enough of the hash to tell callers apart in a log, too little to be of use to a thief.
    pub(crate) fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
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
        f.write_str(self.short())
    }
}

/// The visible beginning of an API key that is kept in Redis, such as `i2m_Ab12Cd34`: its name for operators.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub(crate) struct KeyId(String);

impl KeyId {
    /// What every key of ours begins with, so that people and secret scanners recognise one.
    pub(crate) const PREFIX: &str = "i2m_";
    const LEN: usize = Self::PREFIX.len() + 8;

    /// Of a key, if it looks like one of ours.
    pub(crate) fn of(key: &str) -> Option<Self> {
        key.get(..Self::LEN)?.parse().ok()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_ours = text.len() == Self::LEN
            && text.starts_with(Self::PREFIX)
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        is_ours.then(|| Self(text.to_owned())).ok_or_else(|| {
            Error::Invalid(format!(
                "a key is named by its first {} characters, such as i2m_Ab12Cd34; got {}",
                Self::LEN,
                quoted(text)
            ))
        })
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entry's id in a Redis stream: Unix milliseconds and a sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId {
    pub(crate) ms: u64,
    pub(crate) seq: u64,
}

impl StreamId {
    /// Before every entry.
    pub(crate) const ZERO: Self = Self { ms: 0, seq: 0 };
}

impl FromStr for StreamId {
    type Err = Error;

    /// Takes `ms-seq` with both numbers, as Redis writes it and `Last-Event-ID` brings it back.
    fn from_str(text: &str) -> Result<Self, Error> {
        let number =
            |it: &str| it.bytes().all(|b| b.is_ascii_digit()).then(|| it.parse().ok()).flatten();
        text.split_once('-')
            .and_then(|(ms, seq)| Some(Self { ms: number(ms)?, seq: number(seq)? }))
            .ok_or_else(|| {
                Error::Invalid(format!(
                    "an event id looks like 1700000000000-0; got {}",
                    quoted(text)
                ))
            })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// What a lock is for, such as `job:{id}` or `file:{id}`. Names that begin with `i2m:` are the service's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resource(Arc<str>);

impl Resource {
    /// One of the service's own, which no caller can name.
    pub(crate) fn internal(name: &str) -> Self {
        Self(Arc::from(format!("i2m:{name}")))
    }
}

impl FromStr for Resource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const MAX_BYTES: usize = 200;
        let is_plain = !text.chars().any(|it| it.is_control() || it.is_whitespace());
        if (1..=MAX_BYTES).contains(&text.len()) && is_plain && !text.starts_with("i2m:") {
            return Ok(Self(Arc::from(text)));
        }
        Err(Error::Invalid(format!(
            "a resource has 1 to {MAX_BYTES} bytes, no spaces, and does not begin with i2m:; got {}",
            quoted(text)
        )))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model's name, in `cache:model:{model_id}` and over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ModelId(Arc<str>);

impl ModelId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        plain_name(text, 128).map(Self).ok_or_else(|| {
            Error::Invalid(format!(
                "a model id has 1 to 128 letters, digits and -_.:; got {}",
                quoted(text)
            ))
        })
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What cached values have in common that are invalidated together, in `tag:{tag}` and over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_.:-]{1,100}$", example = "job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")]
pub(crate) struct Tag(Arc<str>);

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        plain_name(text, 100).map(Self).ok_or_else(|| {
            Error::Invalid(format!(
                "a tag has 1 to 100 letters, digits and -_.:; got {}",
                quoted(text)
            ))
        })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn plain_name(text: &str, max_bytes: usize) -> Option<Arc<str>> {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    ((1..=max_bytes).contains(&text.len()) && is_plain).then(|| Arc::from(text))
}

/// `text` for a message to its sender: escaped, and cut so that it cannot flood a log.
pub(crate) fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let cut: String = text.chars().take(MAX_CHARS).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::first("file_000", Some(0))]
    #[case::three_digits("file_024", Some(24))]
    #[case::more_digits("file_1000", Some(1000))]
    #[case::padded("file_0001", None)]
    #[case::short("file_1", None)]
    #[case::sign("file_+01", None)]
    #[case::glob("file_*", None)]
    #[case::separator("file_000:x", None)]
    #[case::newline("file_000\n", None)]
    fn a_file_id_has_one_spelling(#[case] text: &str, #[case] index: Option<usize>) {
        assert_eq!(text.parse::<FileId>().ok().map(FileId::index), index);
    }

    #[rstest]
    #[case("00000000-0000-4000-8000-000000000000", true)]
    #[case("00000000-0000-4000-8000-00000000000A", true)]
    #[case("00000000000040008000000000000000", false)]
    #[case("{00000000-0000-4000-8000-000000000000}", false)]
    #[case("a:files", false)]
    #[case("*", false)]
    fn a_job_id_is_a_hyphenated_uuid(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<JobId>().is_ok(), valid);
    }

    #[test]
    fn a_key_is_hashed_as_the_seed_does() {
        let hash = Sha256Hex::of("abc");
        assert_eq!(
            hash.as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
