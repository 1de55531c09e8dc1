//! Stream tickets: what a browser's `EventSource`, which sends no header, shows in its URL.
//!
//! `EXPIRY.SIGNATURE`: expiry in Unix seconds as hexadecimal; the signature is the HMAC-SHA-256 (RFC 2104)
//! of `job id`, a zero byte and the expiry, as unpadded base64url (RFC 4648). It is good for one job, for
//! any number of reconnections until it expires, and on every node that has the secret.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use fred::{clients::Client, interfaces::KeysInterface as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::RwLock;
use sha2::Sha256;

use super::Config;
use crate::{
    error::{Error, Result},
    ids::JobId,
    settings::Secret,
    store::{Database, Redis, ticket_secret_key},
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
    redis: Redis,
    secrets: RwLock<Arc<Secrets>>,
    ttl: Duration,
}

/// The first signs, all are accepted.
#[derive(Default)]
struct Secrets {
    configured: Vec<Secret>,
    /// Where none is configured: the one that all processes at this Redis share, and before it the one that was
    /// lost with Redis' data.
    shared: Vec<Secret>,
}

impl Secrets {
    fn all(&self) -> &[Secret] {
        if self.configured.is_empty() { &self.shared } else { &self.configured }
    }
}

impl Tickets {
    pub(crate) fn new(config: &Config, redis: Redis) -> Self {
        let secrets = Secrets { configured: config.ticket_secrets.clone(), shared: Vec::new() };
        let secrets = RwLock::new(Arc::new(secrets));
        Self(Arc::new(Inner { redis, secrets, ttl: config.ticket_ttl }))
    }

    /// Takes over the secrets of other settings.
    pub(crate) fn reload(&self, config: &Config) {
        let shared = self.known().shared.clone();
        self.set(Secrets { configured: config.ticket_secrets.clone(), shared });
    }

    /// A ticket for `job`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`], only where no secret is configured.
    pub(crate) async fn issue(&self, job: JobId) -> Result<Ticket> {
        let ttl_secs = i64::try_from(self.0.ttl.as_secs()).unwrap_or(i64::MAX / 2);
        let expiry = format!("{:x}", Utc::now().timestamp() + ttl_secs);
        let secrets = self.secrets().await?;
        let secret = secrets.all().first().ok_or_else(no_secret)?;
        let signature = mac(secret, job, &expiry).finalize().into_bytes();
        Ok(Ticket(format!("{expiry}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    /// Accepts tickets, separated by commas, if there is one for each of `jobs`, in their order: signed by any of the
    /// secrets and not expired.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTicket`] if one is none, else [`Error::ExpiredTicket`]; [`Error::RedisUnavailable`] where no
    /// secret is configured.
    pub(crate) async fn check(&self, jobs: &[JobId], tickets: &str) -> Result<()> {
        let tickets: Vec<&str> = tickets.split(',').collect();
        if tickets.len() != jobs.len() {
            return Err(Error::InvalidTicket);
        }
        let secrets = self.secrets().await?;
        let now = Utc::now().timestamp();
        let mut all_alive = true;
        // To the last one, so that an expired ticket hides no forged one behind it.
        for (job, ticket) in jobs.iter().zip(tickets) {
            let expiry = signed_expiry(&secrets, *job, ticket).ok_or(Error::InvalidTicket)?;
            all_alive &= expiry >= now;
        }
        if all_alive { Ok(()) } else { Err(Error::ExpiredTicket) }
    }

    /// Keeps the shared secret from expiring, if it is in use, and takes over another one, should Redis have lost its
    /// data.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(super) async fn renew(&self) -> Result<()> {
        let known = self.known();
        if known.all().is_empty() || !known.configured.is_empty() {
            return Ok(());
        }
        self.read_shared().await
    }

    async fn secrets(&self) -> Result<Arc<Secrets>> {
        if self.known().all().is_empty() {
            self.read_shared().await?;
        }
        Ok(self.known())
    }

    async fn read_shared(&self) -> Result<()> {
        const REMEMBERED: usize = 2;
        let known = self.known();
        let present = self.shared_secret().await?;
        if known.shared.first().is_some_and(|it| it.expose() == present.expose()) {
            return Ok(());
        }
        let mut shared = known.shared.clone();
        shared.insert(0, present);
        shared.truncate(REMEMBERED);
        self.set(Secrets { configured: Vec::new(), shared });
        Ok(())
    }

    fn known(&self) -> Arc<Secrets> {
        self.0.secrets.read().clone()
    }

    fn set(&self, secrets: Secrets) {
        *self.0.secrets.write() = Arc::new(secrets);
    }

    /// The secret that all processes at this Redis share: made by the first.
    async fn shared_secret(&self) -> Result<Secret> {
        const RENEWED_SECS: i64 = 30 * 24 * 3600;
        let fresh = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let (keyspace, fresh) = (self.0.redis.default_keyspace(Database::Jobs), &fresh);
        let make = |client: Client| async move {
            use fred::types::{Expiration, SetOptions};

            let key = keyspace.key(ticket_secret_key());
            let expires = Some(Expiration::EX(RENEWED_SECS));
            let if_none = Some(SetOptions::NX);
            client.set::<(), _, _>(key.clone(), fresh.as_str(), expires, if_none, false).await?;
            client.expire::<(), _>(key.clone(), RENEWED_SECS, None).await?;
            client.get::<Option<String>, _>(key).await
        };
        let made = keyspace.call_idempotent(make).await?;
        made.map(Secret::from).ok_or_else(no_secret)
    }
}

/// When a ticket expires, if any of the secrets has signed it for `job`.
fn signed_expiry(secrets: &Secrets, job: JobId, ticket: &str) -> Option<i64> {
    let (expiry, signature) = ticket.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    // verify_slice compares in constant time.
    let is_signed = |it: &Secret| mac(it, job, expiry).verify_slice(&signature).is_ok();
    let signed = secrets.all().iter().any(is_signed);
    if signed { i64::from_str_radix(expiry, 16).ok() } else { None }
}

fn no_secret() -> Error {
    Error::RedisUnavailable("no ticket secret".to_owned())
}

fn mac(secret: &Secret, job: JobId, expiry: &str) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes());
    let mut mac = mac.expect("HMAC takes a key of any length");
    mac.update(job.to_string().as_bytes());
    mac.update(&[0]);
    mac.update(expiry.as_bytes());
    mac
}
