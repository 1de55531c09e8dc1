//! Stream tickets: what a browser's `EventSource`, which sends no header, shows in its URL.
//!
//! `EXPIRY.SIGNATURE`: expiry in Unix seconds as hexadecimal; the signature is the HMAC-SHA-256 (RFC 2104)
//! of `job id`, a zero byte and the expiry, as unpadded base64url (RFC 4648). It is good for one job, for
//! any number of reconnections until it expires, and on every node that has the secret.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use fred::interfaces::KeysInterface as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Config;
use crate::{
    error::{Error, Result},
    ids::JobId,
    redis::{Database, Redis, ticket_secret_key},
};

/// A ticket as it stands in a URL. Not for logs, so it has no `Debug` and no `Display`.
pub(crate) struct Ticket(String);

impl Ticket {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Signs and checks tickets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tickets(Arc<Inner>);

struct Inner {
    secrets: Vec<Vec<u8>>,
    shared: tokio::sync::OnceCell<Vec<u8>>,
    redis: Redis,
    ttl: Duration,
}

impl Tickets {
    pub(crate) fn new(config: &Config, redis: Redis) -> Self {
        let secrets =
            config.ticket_secrets.iter().map(|it| it.expose().as_bytes().to_vec()).collect();
        let shared = tokio::sync::OnceCell::new();
        Self(Arc::new(Inner { secrets, shared, redis, ttl: config.ticket_ttl }))
    }

    /// A ticket for `job`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`], only where no secret is configured.
    pub(crate) async fn issue(&self, job: JobId) -> Result<Ticket> {
        let ttl_secs = i64::try_from(self.0.ttl.as_secs()).unwrap_or(i64::MAX / 2);
        let expiry = format!("{:x}", Utc::now().timestamp() + ttl_secs);
        let signature = mac(self.signing_secret().await?, job, &expiry).finalize().into_bytes();
        Ok(Ticket(format!("{expiry}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    /// Accepts a ticket that is signed for `job` by any of the secrets and not expired.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTicket`], or [`Error::RedisUnavailable`] where no secret is configured.
    pub(crate) async fn check(&self, job: JobId, ticket: &str) -> Result<()> {
        let (expiry, signature) = ticket.split_once('.').ok_or(Error::InvalidTicket)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Error::InvalidTicket)?;
        let signing = self.signing_secret().await?;
        let mut secrets =
            std::iter::once(signing).chain(self.0.secrets.iter().skip(1).map(Vec::as_slice));
        // verify_slice compares in constant time.
        let signed =
            secrets.any(|secret| mac(secret, job, expiry).verify_slice(&signature).is_ok());
        let alive = i64::from_str_radix(expiry, 16).is_ok_and(|it| it >= Utc::now().timestamp());
        if signed && alive { Ok(()) } else { Err(Error::InvalidTicket) }
    }

    async fn signing_secret(&self) -> Result<&[u8]> {
        match self.0.secrets.first() {
            Some(secret) => Ok(secret),
            None => self.0.shared.get_or_try_init(|| self.shared_secret()).await.map(Vec::as_slice),
        }
    }

    /// The secret that all processes at this Redis share: made by the first, renewed at each start.
    async fn shared_secret(&self) -> Result<Vec<u8>> {
        const RENEWED_SECS: i64 = 30 * 24 * 3600;
        let fresh = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let made: Option<String> = self
            .0
            .redis
            .call(Database::Jobs, |client| async move {
                use fred::types::{Expiration, SetOptions};

                let key = ticket_secret_key();
                let expires = Some(Expiration::EX(RENEWED_SECS));
                client.set::<(), _, _>(key, fresh, expires, Some(SetOptions::NX), false).await?;
                client.expire::<(), _>(key, RENEWED_SECS, None).await?;
                client.get(key).await
            })
            .await?;
        made.map(String::into_bytes)
            .ok_or_else(|| Error::RedisUnavailable("no ticket secret".to_owned()))
    }
}

fn mac(secret: &[u8], job: JobId, expiry: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(job.to_string().as_bytes());
    mac.update(&[0]);
    mac.update(expiry.as_bytes());
    mac
}
