//! Signatures in the format of Standard Webhooks: HMAC-SHA256 of `id.timestamp.payload`, in base64, with the prefix
//! `v1,`.

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// A signing key.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// # Errors
    ///
    /// If the secret is not `whsec_` followed by base64 of 24 to 64 bytes.
    pub(super) fn parse(secret: &str) -> Result<Self> {
        let encoded = secret.strip_prefix("whsec_").context("a secret has to start with whsec_")?;
        let bytes =
            STANDARD.decode(encoded).ok().context("a secret has to be base64 after whsec_")?;
        if !(24..=64).contains(&bytes.len()) {
            bail!("a secret has {} bytes; it has to have 24 to 64", bytes.len());
        }
        Ok(Self(Hmac::new_from_slice(&bytes)?))
    }

    fn sign(&self, id: &str, timestamp: u64, payload: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.{payload}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The value of the header `webhook-signature`: one signature per key, so that receivers can rotate their secret at any
/// time.
pub(super) fn header(keys: &[Key], id: &str, timestamp: u64, payload: &str) -> String {
    let signatures: Vec<String> = keys.iter().map(|key| key.sign(id, timestamp, payload)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_signature_matches_the_specification() {
        // A test vector of the specification.
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let header = header(
            &[key],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(header, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[rstest]
    #[case("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    #[case("whsec_not base64")]
    #[case("whsec_c2hvcnQ=")]
    fn an_invalid_secret_is_rejected(#[case] secret: &str) {
        assert!(Key::parse(secret).is_err());
    }
}
