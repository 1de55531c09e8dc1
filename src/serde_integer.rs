//! Deserializes integers as JSON Schema defines them: `10.0` is an integer, and programs that compute percents write it.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// For `#[serde(deserialize_with = "lenient_int")]`. Fails on fractions and on numbers that do not fit into `T`.
pub(crate) fn lenient_int<'de, D: Deserializer<'de>, T: TryFrom<i128>>(
    json: D,
) -> Result<T, D::Error> {
    json.deserialize_any(LenientInt(PhantomData))
}

/// Like [`lenient_int`], for a field that may be absent or null.
pub(crate) fn lenient_int_opt<'de, D: Deserializer<'de>, T: TryFrom<i128>>(
    json: D,
) -> Result<Option<T>, D::Error> {
    json.deserialize_option(LenientIntOpt(PhantomData))
}

struct LenientInt<T>(PhantomData<T>);

impl<T: TryFrom<i128>> Visitor<'_> for LenientInt<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if T::try_from(-1).is_ok() {
            return f.write_str("a whole number");
        }
        let bits = 8 * size_of::<T>();
        write!(f, "a whole number from 0 to {}", u64::MAX >> (64 - bits))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let unexpected = Unexpected::Unsigned(number);
        T::try_from(number.into()).map_err(|_| E::invalid_value(unexpected, &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        let unexpected = Unexpected::Signed(number);
        T::try_from(number.into()).map_err(|_| E::invalid_value(unexpected, &self))
    }

    #[expect(clippy::cast_possible_truncation, reason = "below 2^53 and without fraction it fits")]
    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
        let unexpected = Unexpected::Float(number);
        if number.fract() == 0.0 && number.abs() < EXACT_BELOW {
            return T::try_from(number as i128).map_err(|_| E::invalid_value(unexpected, &self));
        }
        Err(E::invalid_type(unexpected, &self))
    }
}

struct LenientIntOpt<T>(PhantomData<T>);

impl<'de, T: TryFrom<i128>> Visitor<'de> for LenientIntOpt<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        LenientInt::<T>(PhantomData).expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Option<T>, D::Error> {
        lenient_int(json).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[serde(deserialize_with = "lenient_int")]
        progress: u8,
        #[serde(default, deserialize_with = "lenient_int_opt")]
        attempt: Option<u32>,
    }

    #[rstest]
    #[case(r#"{"progress":10}"#, Some((10, None)))]
    #[case(r#"{"progress":10.0,"attempt":2e0}"#, Some((10, Some(2))))]
    #[case(r#"{"progress":-0.0,"attempt":null}"#, Some((0, None)))]
    #[case(r#"{"progress":10.5}"#, None)]
    #[case(r#"{"progress":-1}"#, None)]
    #[case(r#"{"progress":256}"#, None)]
    #[case(r#"{"progress":1e300}"#, None)]
    #[case(r#"{"progress":"10"}"#, None)]
    #[case(r#"{"progress":null}"#, None)]
    #[case(r#"{"progress":1,"attempt":4294967296}"#, None)]
    fn integers_with_a_zero_fraction_are_accepted(
        #[case] json: &str,
        #[case] read: Option<(u8, Option<u32>)>,
    ) {
        let body = serde_json::from_str::<Body>(json);
        assert_eq!(body.ok().map(|body| (body.progress, body.attempt)), read);
    }

    #[test]
    fn an_error_names_the_allowed_range() {
        let error = serde_json::from_str::<Body>(r#"{"progress":300}"#).unwrap_err().to_string();
        assert!(error.contains("expected a whole number from 0 to 255"), "{error}");
    }
}
