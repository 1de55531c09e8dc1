//! Types that settings are made of: times, sizes and secrets, and how they are validated.

use std::{borrow::Cow, fmt, time::Duration};

use anyhow::{Result as AnyResult, bail};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The kind of environment that the service runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// A developer machine or a test.
    Development,
    /// An installation with real users; unsafe settings are rejected.
    Production,
}

/// Serde adapter of a `Duration` written as text, such as `250ms`, `5s` or `24h`.
pub(crate) struct HumanDuration;

impl HumanDuration {
    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        humantime_serde::serialize(time, to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        humantime_serde::deserialize(from)
    }
}

/// JSON schema of a `ByteSize` written as text, such as `64KiB` or `1MiB`.
pub(crate) struct HumanSize;

/// A value that is masked in logs and by `check-config`, and wiped from memory when it is dropped.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(SecretString);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }

    fn masked(&self) -> &'static str {
        if self.is_empty() { "" } else { "********" }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(SecretString::from(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.masked())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.masked())
    }
}

/// Fails unless `value` is between `min` and `max`; the message names the setting.
pub(crate) fn validate_range(
    name: &str,
    value: Duration,
    min: Duration,
    max: Duration,
) -> AnyResult<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    bail!("{name} is {value:?}; it must be between {min:?} and {max:?}")
}

/// Gives a string type the format name that the settings reference prints.
macro_rules! text_of_form {
    ($type:ty, $form:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $form.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $form})
            }
        }
    };
}

text_of_form!(HumanDuration, "time");
text_of_form!(HumanSize, "size");
text_of_form!(Secret, "secret");
