//! Stream tickets: the credential in the URL of a browser's `EventSource`, which cannot send headers.
//!
//! Format: `EXPIRY.SIGNATURE`. The expiry is in Unix seconds as hexadecimal; the signature is the HMAC-SHA-256 (RFC
//! 2104) of the job id, a zero byte and the expiry, as unpadded base64url (RFC 4648). A ticket is valid for one job,
//! for any number of connections until it expires, and at every process that has the secret.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::RwLock;
use sha2::Sha256;

use super::Config;
use crate::{
    error::{Error, Result},
    ids::JobId,
    settings::Secret,
    store::{
        Database, Redis,
        client::{Client, KeysInterface as _},
        ticket_secret_key,
    },
};

/// A ticket as text for a URL. It has no `Debug` and no `Display`, so that it does not get into logs.
pub(crate) struct Ticket(String);

impl Ticket {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Signs and verifies tickets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct StreamTickets(Arc<Inner>);

struct Inner {
    redis: Redis,
    secrets: RwLock<Arc<Secrets>>,
    ttl: Duration,
}

/// The first secret signs; signatures of all are accepted.
#[derive(Default)]
struct Secrets {
    configured: Vec<Secret>,
    /// Used if none is configured: the secret that all processes of this Redis share, then the previous one, if Redis
    /// has lost its data since.
    shared: Vec<Secret>,
}

impl Secrets {
    fn all(&self) -> &[Secret] {
        if self.configured.is_empty() { &self.shared } else { &self.configured }
    }
}

impl StreamTickets {
    pub(crate) fn new(config: &Config, redis: Redis) -> Self {
        let secrets = Secrets { configured: config.ticket_secrets.clone(), shared: Vec::new() };
        let secrets = RwLock::new(Arc::new(secrets));
        Self(Arc::new(Inner { redis, secrets, ttl: config.ticket_ttl }))
    }

    /// Replaces the configured secrets.
    pub(crate) fn reload(&self, config: &Config) {
        let shared = self.current().shared.clone();
        self.set(Secrets { configured: config.ticket_secrets.clone(), shared });
    }

    /// A ticket for `job`.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`], only if no secret is configured.
    pub(crate) async fn issue(&self, job: JobId) -> Result<Ticket> {
        let ttl_secs = i64::try_from(self.0.ttl.as_secs()).unwrap_or(i64::MAX / 2);
        let expiry = format!("{:x}", Utc::now().timestamp() + ttl_secs);
        let secrets = self.secrets().await?;
        let secret = secrets.all().first().ok_or_else(no_secret)?;
        let signature = mac(secret, job, &expiry).finalize().into_bytes();
        Ok(Ticket(format!("{expiry}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    /// Verifies comma-separated tickets: one per job of `jobs`, in the same order, each signed with any of the secrets
    /// and not expired.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTicket`] if any ticket is invalid, else [`Error::ExpiredTicket`] if any has expired;
    /// [`Error::RedisUnavailable`], only if no secret is configured.
    pub(crate) async fn verify(&self, jobs: &[JobId], tickets: &str) -> Result<()> {
        let tickets: Vec<&str> = tickets.split(',').collect();
        if tickets.len() != jobs.len() {
            return Err(Error::InvalidTicket);
        }
        let secrets = self.secrets().await?;
        let now = Utc::now().timestamp();
        let mut are_all_current = true;
        // All tickets are verified, so that an expired ticket does not hide a forged one after it.
        for (job, ticket) in jobs.iter().zip(tickets) {
            let expiry = signed_expiry(&secrets, *job, ticket).ok_or(Error::InvalidTicket)?;
            are_all_current &= expiry >= now;
        }
        if are_all_current { Ok(()) } else { Err(Error::ExpiredTicket) }
    }

    /// Renews the TTL of the shared secret, if it is in use, and loads the new one if Redis has lost its data.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`].
    pub(super) async fn refresh_shared_secret(&self) -> Result<()> {
        let current = self.current();
        if current.all().is_empty() || !current.configured.is_empty() {
            return Ok(());
        }
        self.load_shared_secret().await
    }

    async fn secrets(&self) -> Result<Arc<Secrets>> {
        if self.current().all().is_empty() {
            self.load_shared_secret().await?;
        }
        Ok(self.current())
    }

    async fn load_shared_secret(&self) -> Result<()> {
        const MAX_SHARED_SECRETS: usize = 2;
        let current = self.current();
        let loaded = self.get_or_create_shared_secret().await?;
        if current.shared.first().is_some_and(|secret| secret.expose() == loaded.expose()) {
            return Ok(());
        }
        let mut shared = current.shared.clone();
        shared.insert(0, loaded);
        shared.truncate(MAX_SHARED_SECRETS);
        self.set(Secrets { configured: Vec::new(), shared });
        Ok(())
    }

    fn current(&self) -> Arc<Secrets> {
        self.0.secrets.read().clone()
    }

    fn set(&self, secrets: Secrets) {
        *self.0.secrets.write() = Arc::new(secrets);
    }

    /// The secret that all processes of this Redis share. The first process creates it.
    async fn get_or_create_shared_secret(&self) -> Result<Secret> {
        const TTL_SECS: i64 = 30 * 24 * 3600;
        let fresh = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let (keyspace, fresh) = (self.0.redis.default_keyspace(Database::Jobs), &fresh);
        let get_or_create = |client: Client| async move {
            use crate::store::client::{Expiration, SetOptions};

            let key = keyspace.key(ticket_secret_key());
            let ttl = Some(Expiration::EX(TTL_SECS));
            let if_missing = Some(SetOptions::NX);
            client.set::<(), _, _>(key.clone(), fresh.as_str(), ttl, if_missing, false).await?;
            client.expire::<(), _>(key.clone(), TTL_SECS, None).await?;
            client.get::<Option<String>, _>(key).await
        };
        let secret = keyspace.call_idempotent(get_or_create).await?;
        secret.map(Secret::from).ok_or_else(no_secret)
    }
}

/// The expiry of a ticket in Unix seconds, if it is signed for `job` with any of the secrets.
fn signed_expiry(secrets: &Secrets, job: JobId, ticket: &str) -> Option<i64> {
    let (expiry, signature) = ticket.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    // verify_slice compares in constant time.
    let is_signed = |secret: &Secret| mac(secret, job, expiry).verify_slice(&signature).is_ok();
    let is_signed = secrets.all().iter().any(is_signed);
    if is_signed { i64::from_str_radix(expiry, 16).ok() } else { None }
}

fn no_secret() -> Error {
    Error::RedisUnavailable("the shared ticket secret is missing".to_owned())
}

fn mac(secret: &Secret, job: JobId, expiry: &str) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes());
    let mut mac = mac.expect("HMAC accepts keys of any length");
    mac.update(job.to_string().as_bytes());
    mac.update(&[0]);
    mac.update(expiry.as_bytes());
    mac
}
