//! Ids of jobs and of their files.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{InvalidId, truncate_quoted};

/// The id of a job: a UUID, written in lower case with hyphens in Redis keys and over HTTP.
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
    type Err = InvalidId;

    /// Accepts only the hyphenated form, so that each job has exactly one spelling.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Ok(Self(id)),
            _ => Err(InvalidId::Job),
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

/// The id of a file within its job: `file_000`, `file_001`, …, by its index in `job:{id}:files`.
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
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.strip_prefix("file_").filter(|digits| (3..=6).contains(&digits.len()));
        let index = digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok());
        match index.map(Self) {
            Some(id) if id.to_string() == text => Ok(id),
            _ => Err(InvalidId::Other(format!(
                "a file id is 'file_' and its index with at least three digits, such as file_000; got {}",
                truncate_quoted(text)
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
}
