//! All accepted keys in memory: those of the settings and those stored in Redis.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::RwLock;
use sha2::Sha256;
use uuid::Uuid;

use super::{
    Caller, Config, Limits, Mode, Role,
    store::{self, StoredKey},
};
use crate::{
    error::{Error, Result},
    ids::{KeyId, Sha256Hex},
    store::Redis,
};

/// Authenticates API keys without a call to Redis. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApiKeys(pub(super) Arc<Inner>);

pub(super) struct Inner {
    mode: Mode,
    grace: Duration,
    /// The HMAC key of [`Fingerprint`], random per process.
    secret: [u8; 32],
    pub(super) redis: Redis,
    configured: RwLock<Configured>,
    stored: RwLock<Stored>,
    /// Locked while keys are loaded, so that an older reply does not replace a newer one.
    loading: tokio::sync::Mutex<()>,
}

struct Configured {
    config: Config,
    permissions: HashMap<Fingerprint, KeyPermissions>,
}

#[derive(Default)]
struct Stored {
    permissions: HashMap<Fingerprint, KeyPermissions>,
    version: String,
    /// When Redis last confirmed these keys.
    loaded_at: Option<Instant>,
}

/// The lookup key of an API key: an HMAC of its hash with a secret of this process. The time that comparing two
/// fingerprints takes therefore reveals nothing about any key.
#[derive(PartialEq, Eq, Hash)]
struct Fingerprint([u8; 32]);

/// The owner of a key, and its permissions.
#[derive(Clone)]
struct KeyPermissions {
    name: Arc<str>,
    roles: Arc<[Role]>,
    limits: Arc<Limits>,
    /// For a key stored in Redis: its id, and whether it was used since the last [`ApiKeys::flush_last_used`].
    usage: Option<(KeyId, Arc<AtomicBool>)>,
}

impl ApiKeys {
    pub(crate) fn new(config: &Config, redis: Redis) -> Self {
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        secret[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        let configured = Configured { config: config.clone(), permissions: HashMap::new() };
        let keys = Self(Arc::new(Inner {
            mode: config.mode,
            grace: config.stored_keys_grace,
            secret,
            redis,
            configured: RwLock::new(configured),
            stored: RwLock::default(),
            loading: tokio::sync::Mutex::default(),
        }));
        keys.reload(config);
        keys
    }

    /// Replaces the keys of the settings. A changed mode takes effect only after a restart.
    pub(crate) fn reload(&self, config: &Config) {
        let permissions = config.keys.iter().filter_map(|key| {
            let hash = Sha256Hex::try_from(key.sha256.clone()).ok()?;
            let permissions = KeyPermissions {
                name: Arc::from(key.name.as_str()),
                roles: Arc::from(key.roles.as_slice()),
                limits: Arc::new(key.limits.clone()),
                usage: None,
            };
            Some((self.fingerprint(&hash), permissions))
        });
        let permissions = permissions.collect();
        *self.0.configured.write() = Configured { config: config.clone(), permissions };
    }

    /// The settings as last loaded.
    pub(crate) fn configured(&self) -> Config {
        self.0.configured.read().config.clone()
    }

    /// Whether the keys of Redis were loaded once, so that an unknown key can be rejected. False while the service
    /// starts.
    pub(crate) fn is_loaded(&self) -> bool {
        self.0.mode == Mode::Open || self.stored(|stored| stored.loaded_at.is_some())
    }

    pub(super) fn is_redis_up(&self) -> bool {
        self.0.redis.is_up()
    }

    /// The caller with this key.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidKey`]; [`Error::RedisUnavailable`] for a key that is not configured, while the keys of Redis are
    /// not loaded or older than `auth.stored_keys_grace`.
    pub(crate) fn authenticate(&self, key: &str) -> Result<Caller> {
        let hash = Sha256Hex::digest(key);
        if self.0.mode == Mode::Open {
            let roles = Arc::from([Role::Client, Role::Worker, Role::Admin]);
            return Ok(Caller {
                name: Arc::from(hash.prefix()),
                hash,
                roles,
                limits: Arc::default(),
            });
        }
        let fingerprint = self.fingerprint(&hash);
        let configured = self.0.configured.read();
        let permissions = match configured.permissions.get(&fingerprint) {
            Some(permissions) => permissions.clone(),
            None => self.stored(|stored| self.find_stored(stored, &fingerprint))?,
        };
        if let Some((_, is_used)) = &permissions.usage
            && !is_used.load(Ordering::Relaxed)
        {
            is_used.store(true, Ordering::Relaxed);
        }
        let KeyPermissions { name, roles, limits, .. } = permissions;
        Ok(Caller { name, hash, roles, limits })
    }

    fn find_stored(&self, stored: &Stored, fingerprint: &Fingerprint) -> Result<KeyPermissions> {
        if stored.loaded_at.is_none_or(|loaded_at| loaded_at.elapsed() > self.0.grace) {
            return Err(Error::RedisUnavailable("API keys are not loaded or outdated".to_owned()));
        }
        stored.permissions.get(fingerprint).cloned().ok_or(Error::InvalidKey)
    }

    /// Loads the keys from Redis, if they have changed.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; the previous keys then remain.
    pub(super) async fn refresh(&self) -> Result<()> {
        let _guard = self.0.loading.lock().await;
        let known_version = self.stored(|stored| stored.version.clone());
        let requested_at = Instant::now();
        let loaded = store::load(&self.0.redis, &known_version).await?;
        let mut stored = self.0.stored.write();
        stored.loaded_at = Some(requested_at);
        if let Some((version, keys)) = loaded {
            stored.permissions = self.permissions(&stored, keys);
            stored.version = version;
        }
        Ok(())
    }

    fn permissions(
        &self,
        previous: &Stored,
        keys: Vec<StoredKey>,
    ) -> HashMap<Fingerprint, KeyPermissions> {
        let permissions = keys.into_iter().map(|key| {
            let fingerprint = self.fingerprint(&key.record.sha256);
            let known = previous.permissions.get(&fingerprint);
            let usage = known.and_then(|permissions| permissions.usage.clone());
            let is_used = usage.map(|(_, is_used)| is_used).unwrap_or_default();
            let permissions = KeyPermissions {
                name: Arc::from(key.record.name),
                roles: Arc::from(key.record.roles),
                limits: Arc::new(key.record.limits),
                usage: Some((key.id, is_used)),
            };
            (fingerprint, permissions)
        });
        permissions.collect()
    }

    /// Writes to Redis which keys were used since the last call.
    pub(super) async fn flush_last_used(&self) -> Result<()> {
        let used: Vec<(KeyId, Arc<AtomicBool>)> = self.stored(|stored| {
            let keys = stored.permissions.values();
            let usages = keys.filter_map(|permissions| permissions.usage.clone());
            usages.filter(|(_, is_used)| is_used.swap(false, Ordering::Relaxed)).collect()
        });
        if used.is_empty() {
            return Ok(());
        }
        let flushed = store::touch_last_used(&self.0.redis, used.iter().map(|(id, _)| id)).await;
        if flushed.is_err() {
            for (_, is_used) in &used {
                is_used.store(true, Ordering::Relaxed);
            }
        }
        flushed
    }

    fn stored<T>(&self, read: impl FnOnce(&Stored) -> T) -> T {
        read(&self.0.stored.read())
    }

    fn fingerprint(&self, hash: &Sha256Hex) -> Fingerprint {
        Fingerprint::new(&self.0.secret, hash)
    }
}

impl Fingerprint {
    fn new(secret: &[u8], hash: &Sha256Hex) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(secret);
        let mut mac = mac.expect("HMAC accepts keys of any length");
        mac.update(hash.as_str().as_bytes());
        Self(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attacker who cannot predict fingerprints learns nothing from the time that a comparison takes.
    #[test]
    fn fingerprints_depend_on_the_secret_of_the_process() {
        let (secret, other_secret) = ([1; 32], [2; 32]);
        let (key, similar_key) = (Sha256Hex::digest("key"), Sha256Hex::digest("kez"));
        let fingerprint = Fingerprint::new(&secret, &key);
        assert!(fingerprint == Fingerprint::new(&secret, &key));
        assert!(fingerprint != Fingerprint::new(&other_secret, &key));
        assert!(fingerprint != Fingerprint::new(&secret, &similar_key));
    }
}
