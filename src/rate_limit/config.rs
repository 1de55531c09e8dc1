//! The limiter's settings: its policies, whom it leaves alone, which proxies it believes.

use std::{
    collections::HashSet,
    fmt,
    net::IpAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{brute_force, client_ip::ProxyHeader, policy::Policy};
use crate::{
    auth::Limits,
    ids::Sha256Hex,
    settings::{Time, check_between},
};

/// How often callers may call.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whether requests are limited at all.
    pub enabled: bool,
    /// Count, and refuse nobody.
    pub shadow: bool,
    /// The longest that a request waits for its limits; then each policy's `on_redis_failure` decides.
    #[serde(with = "Time")]
    pub deadline: Duration,
    /// Processes that serve together: each takes its share of a limit while Redis is away.
    pub nodes: NonZeroU32,
    /// Whom to limit never: SHA-256 of keys, addresses and networks.
    pub allow: Vec<Allowed>,
    /// Callers over their limit that are remembered, and as many that are counted while Redis is away.
    pub deny_table_size: NonZeroUsize,
    /// Requests that may wait for their limits at once; further ones are treated as if Redis were away.
    pub max_waiting: usize,
    /// Addresses and networks of proxies that are believed about who calls; without, the peer is the caller.
    pub trusted_proxies: Vec<Network>,
    /// The header in which they say it. Only what every one of these proxies writes.
    pub proxy_header: ProxyHeader,
    /// Wrong keys and tickets that one address may show within `failed_keys_window`. Further attempts get 429, with right
    /// keys too, but for keys that were let in from there before. Counted whether `enabled` or not. A ticket that has
    /// expired is not wrong.
    pub failed_keys_limit: NonZeroU32,
    /// How long they are counted.
    #[serde(with = "Time")]
    pub failed_keys_window: Duration,
    /// IPv6 addresses that agree in this many bits are one caller.
    pub ipv6_prefix: u8,
    /// What is limited: a request passes all of them, and is counted by all or by none. What workers report is counted
    /// only by policies that name `report`; probes and the dashboard never.
    pub policies: Vec<Policy>,
    /// Limits of single keys.
    pub overrides: Vec<Override>,
}

/// Another limit for one key.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Lower-case hex SHA-256 of the key.
    pub sha256: String,
    /// The policy, by its name.
    pub policy: String,
    /// The limit instead of the policy's.
    pub limit: NonZeroU32,
}

/// A network of addresses, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// For whoever compares it with addresses by itself.
    pub(crate) fn net(self) -> IpNet {
        self.0
    }

    pub(super) fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let one = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| one()).map(Self).map_err(|_| {
            format!("{text:?} is no address and no network such as 10.0.0.0/8 or 2001:db8::/32")
        })
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0.to_string()
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Somebody who is never limited: the hash of a key, an address or a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Allowed(Whom);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Whom {
    Key(Sha256Hex),
    From(Network),
}

impl Allowed {
    pub(super) fn is(&self, key: Option<&Sha256Hex>, address: IpAddr) -> bool {
        match &self.0 {
            Whom::Key(hash) => key == Some(hash),
            Whom::From(network) => network.contains(address),
        }
    }
}

impl TryFrom<String> for Allowed {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let key = Sha256Hex::try_from(text.clone()).map(Whom::Key);
        key.or_else(|_| Network::try_from(text).map(Whom::From))
            .map(Self)
            .map_err(|error| format!("{error}, and no SHA-256 of a key"))
    }
}

impl From<Allowed> for String {
    fn from(allowed: Allowed) -> Self {
        match allowed.0 {
            Whom::Key(hash) => hash.as_str().to_owned(),
            Whom::From(network) => network.into(),
        }
    }
}

impl Config {
    pub(crate) fn check(&self, max_files: usize) -> Result<()> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        check_between("deadline", self.deadline, ms(1), secs(10))?;
        if !(32..=128).contains(&self.ipv6_prefix) {
            bail!("ipv6_prefix is {}; it has to be between 32 and 128", self.ipv6_prefix);
        }
        check_between("failed_keys_window", self.failed_keys_window, secs(1), secs(86_400))?;
        let mut names = HashSet::from([brute_force::NAME]);
        for policy in &self.policies {
            policy.check(max_files).with_context(|| format!("policies: {:?}", policy.name))?;
            if !names.insert(policy.name.as_str()) {
                bail!("policies: the name {:?} is taken", policy.name);
            }
        }
        for it in &self.overrides {
            if let Err(reason) = Sha256Hex::try_from(it.sha256.clone()) {
                bail!("overrides: sha256: {reason}");
            }
            self.check_limit(&it.policy, it.limit, max_files).context("overrides")?;
        }
        Ok(())
    }

    /// Whether a key can have these limits instead of the policies'.
    pub(crate) fn check_limits(&self, limits: &Limits, max_files: usize) -> Result<()> {
        limits.iter().try_for_each(|(policy, limit)| self.check_limit(policy, *limit, max_files))
    }

    /// The policies that count keys, and the least limit that each may have.
    pub(crate) fn least_limits(&self, max_files: usize) -> impl Iterator<Item = (&str, usize)> {
        self.policies.iter().filter(|it| it.scope.is_of_keys()).map(move |it| {
            (it.name.as_str(), if it.cost == super::Cost::File { max_files } else { 1 })
        })
    }

    fn check_limit(&self, policy: &str, limit: NonZeroU32, max_files: usize) -> Result<()> {
        let Some(policy) = self.policies.iter().find(|it| it.name == policy) else {
            bail!("there is no policy {policy:?}");
        };
        if !policy.scope.is_of_keys() {
            bail!("the policy {:?} does not count keys", policy.name);
        }
        let other = Policy { limit, ..policy.clone() };
        other.check(max_files).with_context(|| format!("{:?}", policy.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_leave_alone_is_a_hash_an_address_or_a_network() {
        let hash = Sha256Hex::of("key");
        let allowed = |text: &str| Allowed::try_from(text.to_owned());
        let (v4, v6) = ("10.1.2.3".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert!(allowed(hash.as_str()).unwrap().is(Some(&hash), v4));
        assert!(!allowed(hash.as_str()).unwrap().is(None, v4));
        assert!(allowed("10.0.0.0/8").unwrap().is(None, v4));
        assert!(!allowed("10.0.0.0/8").unwrap().is(None, v6));
        assert!(allowed("2001:db8::1").unwrap().is(None, v6));
        for bad in ["", "10.0.0.0/33", "localhost", &hash.as_str()[1..]] {
            assert!(allowed(bad).is_err(), "{bad}");
        }
    }
}
