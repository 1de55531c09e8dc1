//! Names that clients choose: shared metrics, locks, models and cache tags.

use std::{fmt, str::FromStr, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;

use super::{InvalidId, truncate_quoted};

/// The name of a shared metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(examples("models.rendered"))]
pub(crate) struct MetricName(String);

impl FromStr for MetricName {
    type Err = InvalidId;

    /// Rejects colons, which separate the parts of a Redis key, and characters that would need escaping.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const MAX_BYTES: usize = 100;
        let is_name = (1..=MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if is_name {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidId::Other(format!(
            "a metric name has 1 to {MAX_BYTES} letters, digits, dots, hyphens and underscores; got {}",
            truncate_quoted(text)
        )))
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a lock, such as `job:{id}` or `file:{id}`. Names that begin with `i2m:` are reserved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LockName(Arc<str>);

impl LockName {
    /// A reserved name, which clients cannot use.
    pub(crate) fn reserved(name: &str) -> Self {
        Self(Arc::from(format!("i2m:{name}")))
    }
}

impl FromStr for LockName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const MAX_BYTES: usize = 200;
        let has_blanks = text.chars().any(|char| char.is_control() || char.is_whitespace());
        if (1..=MAX_BYTES).contains(&text.len()) && !has_blanks && !text.starts_with("i2m:") {
            return Ok(Self(Arc::from(text)));
        }
        Err(InvalidId::Other(format!(
            "a resource has 1 to {MAX_BYTES} bytes, no spaces, and does not begin with i2m:; got {}",
            truncate_quoted(text)
        )))
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a model, in `cache:model:{model_id}` and over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ModelId(Arc<str>);

impl ModelId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        valid_name(text, 128).map(Self).ok_or_else(|| {
            InvalidId::Other(format!(
                "a model id has 1 to 128 letters, digits and -_.:; got {}",
                truncate_quoted(text)
            ))
        })
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag of cached values that are invalidated together, in `tag:{tag}` and over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_.:-]{1,100}$", example = "job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")]
pub(crate) struct Tag(Arc<str>);

impl FromStr for Tag {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        valid_name(text, 100).map(Self).ok_or_else(|| {
            InvalidId::Other(format!(
                "a tag has 1 to 100 letters, digits and -_.:; got {}",
                truncate_quoted(text)
            ))
        })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn valid_name(text: &str, max_bytes: usize) -> Option<Arc<str>> {
    let is_valid = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    ((1..=max_bytes).contains(&text.len()) && is_valid).then(|| Arc::from(text))
}
