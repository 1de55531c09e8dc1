//! Keys kept in Redis: made, shown, limited and revoked by operators, and then the same in every process.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::warn;
use uuid::Uuid;

use super::{
    ApiKeys, Config, Limits, Role,
    store::{self, Created, Record, StoredKey},
};
use crate::{
    error::{Error, Result},
    ids::{KeyId, Sha256Hex, quoted},
    store::Redis,
};

/// A key that was just made: the only time that it is seen.
pub(crate) struct NewKey {
    pub(crate) key: SecretString,
    pub(crate) id: KeyId,
}

/// What a new key shall be.
pub(crate) struct Order {
    pub(crate) name: String,
    pub(crate) roles: Vec<Role>,
    pub(crate) limits: Limits,
}

impl Order {
    fn check(&self) -> Result<()> {
        let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(is_fit) {
            return Err(Error::Invalid(format!(
                "name: 1 to 64 letters, digits, '.', '_' and '-'; got {}",
                quoted(&self.name)
            )));
        }
        if self.roles.is_empty() {
            return Err(Error::Invalid("roles: at least one of client, worker, admin".to_owned()));
        }
        Ok(())
    }
}

/// Makes a key. Only its hash is kept, so nobody can show it again.
///
/// # Errors
///
/// [`Error::Invalid`], [`Error::TooManyKeys`], [`Error::RedisUnavailable`].
pub(crate) async fn create(redis: &Redis, configured: &Config, order: Order) -> Result<NewKey> {
    const ATTEMPTS: usize = 4;
    order.check()?;
    let n_configured = configured.n_keys_named(&order.name);
    let mut record = Record {
        sha256: Sha256Hex::of(""),
        name: order.name,
        roles: order.roles,
        limits: order.limits,
        created_at: 0,
    };
    for _ in 0..ATTEMPTS {
        let key = random_key();
        let Some(id) = KeyId::of(key.expose_secret()) else { continue };
        record.sha256 = Sha256Hex::of(key.expose_secret());
        match store::create(redis, &id, &record, n_configured).await? {
            Created::Kept => return Ok(NewKey { key, id }),
            Created::Exists => warn!(%id, "a new key began as another one; making another"),
            Created::NameTaken => {
                let reason = format!("{} has two live keys; revoke one", quoted(&record.name));
                return Err(Error::TooManyKeys(reason));
            }
            Created::Full => {
                return Err(Error::TooManyKeys("there are too many keys".to_owned()));
            }
        }
    }
    Err(Error::RedisUnavailable("no new key could be made".to_owned()))
}

/// 244 random bits.
fn random_key() -> SecretString {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    SecretString::from(format!("{}{}", KeyId::PREFIX, URL_SAFE_NO_PAD.encode(bytes)))
}

impl ApiKeys {
    pub(crate) async fn create(&self, order: Order) -> Result<NewKey> {
        let new = create(&self.0.redis, &self.configured(), order).await?;
        self.see().await;
        Ok(new)
    }

    pub(crate) async fn list(&self) -> Result<Vec<StoredKey>> {
        // What this process knows and Redis does not yet.
        self.note_used().await?;
        store::list(&self.0.redis).await
    }

    pub(crate) async fn limit(&self, id: &KeyId, limits: &Limits) -> Result<()> {
        store::limit(&self.0.redis, id, limits).await?;
        self.see().await;
        Ok(())
    }

    pub(crate) async fn revoke(&self, id: &KeyId) -> Result<()> {
        store::revoke(&self.0.redis, id).await?;
        self.see().await;
        Ok(())
    }

    /// So that whoever made a change finds it made; the other processes are told of it.
    async fn see(&self) {
        if let Err(error) = self.refresh().await {
            warn!(%error, "changed keys could not be read again at once");
        }
    }
}
