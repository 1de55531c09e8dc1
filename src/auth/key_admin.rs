//! Administration of the keys stored in Redis, which all processes share: create, list, limit and revoke.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::warn;
use uuid::Uuid;

use super::{
    ApiKeys, Config, Limits, Role,
    store::{self, CreateReply, Record, StoredKey},
};
use crate::{
    error::{Error, Result},
    ids::{KeyId, Sha256Hex, truncate_quoted},
    store::Redis,
};

/// A key that was just created. It cannot be shown again later.
pub(crate) struct CreatedKey {
    pub(crate) key: SecretString,
    pub(crate) id: KeyId,
}

/// The parameters of a new key.
pub(crate) struct NewApiKey {
    pub(crate) name: String,
    pub(crate) roles: Vec<Role>,
    pub(crate) limits: Limits,
}

impl NewApiKey {
    fn validate(&self) -> Result<()> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(is_allowed) {
            return Err(Error::Validation(format!(
                "name: must have 1 to 64 letters, digits, '.', '_' and '-'; got {}",
                truncate_quoted(&self.name)
            )));
        }
        if self.roles.is_empty() {
            return Err(Error::Validation(
                "roles: must have at least one of client, worker, admin".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Creates a key. Only its hash is stored, so the key cannot be shown again.
///
/// # Errors
///
/// [`Error::Validation`], [`Error::TooManyKeys`], [`Error::RedisUnavailable`].
pub(crate) async fn create(
    redis: &Redis,
    configured: &Config,
    order: NewApiKey,
) -> Result<CreatedKey> {
    const MAX_ATTEMPTS: usize = 4;
    order.validate()?;
    let configured_count = configured.key_count(&order.name);
    let mut record = Record {
        sha256: Sha256Hex::digest(""),
        name: order.name,
        roles: order.roles,
        limits: order.limits,
        created_at: 0,
    };
    for _ in 0..MAX_ATTEMPTS {
        let key = random_key();
        let Some(id) = KeyId::from_key(key.expose_secret()) else { continue };
        record.sha256 = Sha256Hex::digest(key.expose_secret());
        match store::create(redis, &id, &record, configured_count).await? {
            CreateReply::Created => return Ok(CreatedKey { key, id }),
            CreateReply::IdTaken => warn!(%id, "generated key has the id of another key; retrying"),
            CreateReply::NameTaken => {
                let reason =
                    format!("{} has two live keys; revoke one", truncate_quoted(&record.name));
                return Err(Error::TooManyKeys(reason));
            }
            CreateReply::Full => {
                return Err(Error::TooManyKeys("the maximum number of keys is reached".to_owned()));
            }
        }
    }
    Err(Error::RedisUnavailable("no unused key id was found".to_owned()))
}

/// A key with 244 random bits.
fn random_key() -> SecretString {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    SecretString::from(format!("{}{}", KeyId::PREFIX, URL_SAFE_NO_PAD.encode(bytes)))
}

impl ApiKeys {
    pub(crate) async fn create(&self, order: NewApiKey) -> Result<CreatedKey> {
        let new = create(&self.0.redis, &self.configured(), order).await?;
        self.reload_after_change().await;
        Ok(new)
    }

    pub(crate) async fn list(&self) -> Result<Vec<StoredKey>> {
        // So that the list contains the last uses that only this process knows so far.
        self.flush_last_used().await?;
        store::list(&self.0.redis).await
    }

    pub(crate) async fn limit(&self, id: &KeyId, limits: &Limits) -> Result<()> {
        store::limit(&self.0.redis, id, limits).await?;
        self.reload_after_change().await;
        Ok(())
    }

    pub(crate) async fn revoke(&self, id: &KeyId) -> Result<()> {
        store::revoke(&self.0.redis, id).await?;
        self.reload_after_change().await;
        Ok(())
    }

    /// Reloads the keys, so that a change is effective in this process when its request completes. Other processes are
    /// notified by the script.
    async fn reload_after_change(&self) {
        if let Err(error) = self.refresh().await {
            warn!(%error, "reloading API keys after a change failed");
        }
    }
}
