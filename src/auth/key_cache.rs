//! The keys that are let in, in memory: those of the settings and those kept in Redis.

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

/// The keys that are let in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApiKeys(pub(super) Arc<Inner>);

pub(super) struct Inner {
    mode: Mode,
    grace: Duration,
    /// Of this process, and known to nobody.
    secret: [u8; 32],
    pub(super) redis: Redis,
    configured: RwLock<Configured>,
    stored: RwLock<Stored>,
    /// Held while keys are read, so that an older answer does not replace a newer one.
    reading: tokio::sync::Mutex<()>,
}

struct Configured {
    config: Config,
    grants: HashMap<Fingerprint, Grant>,
}

#[derive(Default)]
struct Stored {
    grants: HashMap<Fingerprint, Grant>,
    version: String,
    /// When Redis last said that this is so.
    heard: Option<Instant>,
}

/// What a key is looked up by: an HMAC of its hash with a secret of this process. However long a comparison of two of
/// them takes, it tells nothing about any key.
#[derive(PartialEq, Eq, Hash)]
struct Fingerprint([u8; 32]);

/// What a key may do.
#[derive(Clone)]
struct Grant {
    name: Arc<str>,
    roles: Arc<[Role]>,
    limits: Arc<Limits>,
    /// Of a key kept in Redis: its id, and whether it was used since that was last noted there.
    usage: Option<(KeyId, Arc<AtomicBool>)>,
}

impl ApiKeys {
    pub(crate) fn new(config: &Config, redis: Redis) -> Self {
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        secret[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        let configured = Configured { config: config.clone(), grants: HashMap::new() };
        let keys = Self(Arc::new(Inner {
            mode: config.mode,
            grace: config.stored_keys_grace,
            secret,
            redis,
            configured: RwLock::new(configured),
            stored: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
        }));
        keys.reload(config);
        keys
    }

    /// Takes over the keys of other settings; their mode needs a restart.
    pub(crate) fn reload(&self, config: &Config) {
        let grants = config.keys.iter().filter_map(|it| {
            let hash = Sha256Hex::try_from(it.sha256.clone()).ok()?;
            let grant = Grant {
                name: Arc::from(it.name.as_str()),
                roles: Arc::from(it.roles.as_slice()),
                limits: Arc::new(it.limits.clone()),
                usage: None,
            };
            Some((self.fingerprint(&hash), grant))
        });
        let configured = Configured { config: config.clone(), grants: grants.collect() };
        *self.0.configured.write() = configured;
    }

    /// The settings' keys, as they were last loaded.
    pub(crate) fn configured(&self) -> Config {
        self.0.configured.read().config.clone()
    }

    /// Whether a wrong key can be told from a right one; not yet while the service starts.
    pub(crate) fn are_known(&self) -> bool {
        self.0.mode == Mode::Open || self.stored(|it| it.heard.is_some())
    }

    /// Whether there is a connection to ask Redis on.
    pub(super) fn can_ask(&self) -> bool {
        self.0.redis.is_up()
    }

    /// Who presents `key`. Asks no Redis.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidKey`]; [`Error::RedisUnavailable`] for a key that is not configured, while it was too long
    /// since Redis could be asked for the others.
    pub(crate) fn identify(&self, key: &str) -> Result<Caller> {
        let hash = Sha256Hex::of(key);
        if self.0.mode == Mode::Open {
            let roles = Arc::from([Role::Client, Role::Worker, Role::Admin]);
            return Ok(Caller {
                name: Arc::from(hash.short()),
                hash,
                roles,
                limits: Arc::default(),
            });
        }
        let fingerprint = self.fingerprint(&hash);
        let configured = self.0.configured.read();
        let grant = match configured.grants.get(&fingerprint) {
            Some(grant) => grant.clone(),
            None => self.stored(|it| self.find_stored(it, &fingerprint))?,
        };
        if let Some((_, is_used)) = &grant.usage
            && !is_used.load(Ordering::Relaxed)
        {
            is_used.store(true, Ordering::Relaxed);
        }
        Ok(Caller { name: grant.name, hash, roles: grant.roles, limits: grant.limits })
    }

    fn find_stored(&self, stored: &Stored, fingerprint: &Fingerprint) -> Result<Grant> {
        if stored.heard.is_none_or(|it| it.elapsed() > self.0.grace) {
            return Err(Error::RedisUnavailable("the keys kept there are not known".to_owned()));
        }
        stored.grants.get(fingerprint).cloned().ok_or(Error::InvalidKey)
    }

    /// Reads the keys kept in Redis, if they have changed.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; then the last known ones go on.
    pub(super) async fn refresh(&self) -> Result<()> {
        let _turn = self.0.reading.lock().await;
        let known = self.stored(|it| it.version.clone());
        let asked = Instant::now();
        let read = store::load(&self.0.redis, &known).await?;
        let mut stored = self.0.stored.write();
        stored.heard = Some(asked);
        if let Some((version, keys)) = read {
            stored.grants = self.grants(&stored, keys);
            stored.version = version;
        }
        Ok(())
    }

    fn grants(&self, before: &Stored, keys: Vec<StoredKey>) -> HashMap<Fingerprint, Grant> {
        let grants = keys.into_iter().map(|key| {
            let fingerprint = self.fingerprint(&key.record.sha256);
            let noted = before.grants.get(&fingerprint).and_then(|it| it.usage.clone());
            let is_used = noted.map(|it| it.1).unwrap_or_default();
            let grant = Grant {
                name: Arc::from(key.record.name),
                roles: Arc::from(key.record.roles),
                limits: Arc::new(key.record.limits),
                usage: Some((key.id, is_used)),
            };
            (fingerprint, grant)
        });
        grants.collect()
    }

    /// Tells Redis which keys were used since it was told last.
    pub(super) async fn note_used(&self) -> Result<()> {
        let used: Vec<(KeyId, Arc<AtomicBool>)> = self.stored(|it| {
            let usages = it.grants.values().filter_map(|it| it.usage.clone());
            usages.filter(|it| it.1.swap(false, Ordering::Relaxed)).collect()
        });
        if used.is_empty() {
            return Ok(());
        }
        let noted = store::note_used(&self.0.redis, used.iter().map(|it| &it.0)).await;
        if noted.is_err() {
            for (_, is_used) in &used {
                is_used.store(true, Ordering::Relaxed);
            }
        }
        noted
    }

    fn stored<T>(&self, read: impl FnOnce(&Stored) -> T) -> T {
        read(&self.0.stored.read())
    }

    fn fingerprint(&self, hash: &Sha256Hex) -> Fingerprint {
        Fingerprint::of(&self.0.secret, hash)
    }
}

impl Fingerprint {
    fn of(secret: &[u8], hash: &Sha256Hex) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(secret);
        let mut mac = mac.expect("HMAC takes a key of any length");
        mac.update(hash.as_str().as_bytes());
        Self(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever cannot foresee what is compared learns nothing from how long it takes.
    #[test]
    fn what_keys_are_compared_by_is_known_to_this_process_only() {
        let (one, other) = ([1; 32], [2; 32]);
        let (key, near) = (Sha256Hex::of("key"), Sha256Hex::of("kez"));
        assert!(Fingerprint::of(&one, &key) == Fingerprint::of(&one, &key));
        assert!(Fingerprint::of(&one, &key) != Fingerprint::of(&other, &key));
        assert!(Fingerprint::of(&one, &key) != Fingerprint::of(&one, &near));
    }
}
