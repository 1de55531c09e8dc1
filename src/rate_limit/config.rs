//! Settings of the rate limiter: policies, exemptions and trusted proxies.

use std::{collections::HashSet, fmt, net::IpAddr, num::NonZeroU32, time::Duration};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{brute_force, client_ip::ProxyHeader, policy::Policy};
use crate::{
    auth::Limits,
    ids::Sha256Hex,
    settings::{HumanDuration, validate_range},
};

/// Rate limits.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Enables rate limiting.
    pub enabled: bool,
    /// Dry run: requests are counted, but none is rejected.
    pub dry_run: bool,
    /// The maximum time that a request waits for the rate limiter. After it, `on_redis_failure` of each policy decides.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub deadline: Duration,
    /// The number of gateway processes. While Redis is unavailable, each process enforces its share of a limit.
    pub process_count: NonZeroU32,
    /// Callers without limits: SHA-256 hashes of API keys, IP addresses and CIDR ranges.
    pub exempt: Vec<Exemption>,
    /// The maximum number of requests that wait for the rate limiter at the same time. Further requests are decided
    /// as if Redis were unavailable.
    #[schemars(extend("x-tuning" = true))]
    pub max_waiting: usize,
    /// Trusted proxy addresses and CIDR ranges. If empty, the peer address is the client address.
    pub trusted_proxies: Vec<IpNetwork>,
    /// The header in which the trusted proxies forward the client address. All of them must set it.
    pub proxy_header: ProxyHeader,
    /// The number of invalid API keys and stream tickets that one address may send within `failed_keys_window`. Further
    /// attempts get 429, even with a valid key, unless that key was used from the address before. Also enforced if
    /// `enabled` is false. Expired tickets do not count.
    pub failed_keys_limit: NonZeroU32,
    /// The window of `failed_keys_limit`.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub failed_keys_window: Duration,
    /// The limits. A request must be within all of them and is counted by all or by none. Reports of workers are
    /// counted only by policies that name `report`; health probes and the dashboard are never counted.
    pub policies: Vec<Policy>,
    /// Limits of individual API keys.
    pub overrides: Vec<Override>,
}

/// The limit of one API key in one policy.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// SHA-256 of the API key in lower-case hex.
    pub sha256: String,
    /// The name of the policy.
    pub policy: String,
    /// The limit that replaces the policy's.
    pub limit: NonZeroU32,
}

/// An IP address or a CIDR range.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct IpNetwork(IpNet);

impl IpNetwork {
    pub(crate) fn net(self) -> IpNet {
        self.0
    }

    pub(super) fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl TryFrom<String> for IpNetwork {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| address()).map(Self).map_err(|_| {
            format!(
                "{text:?} is not an IP address or a CIDR range such as 10.0.0.0/8 or 2001:db8::/32"
            )
        })
    }
}

impl From<IpNetwork> for String {
    fn from(network: IpNetwork) -> Self {
        network.0.to_string()
    }
}

impl fmt::Debug for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A caller without limits: the hash of a key, an address or a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Exemption(ExemptSubject);

#[derive(Clone, Debug, PartialEq, Eq)]
enum ExemptSubject {
    Key(Sha256Hex),
    Network(IpNetwork),
}

impl Exemption {
    pub(super) fn matches(&self, key: Option<&Sha256Hex>, address: IpAddr) -> bool {
        match &self.0 {
            ExemptSubject::Key(hash) => key == Some(hash),
            ExemptSubject::Network(network) => network.contains(address),
        }
    }
}

impl TryFrom<String> for Exemption {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let key = Sha256Hex::try_from(text.clone()).map(ExemptSubject::Key);
        key.or_else(|_| IpNetwork::try_from(text).map(ExemptSubject::Network))
            .map(Self)
            .map_err(|error| format!("{error}, and not the SHA-256 of an API key"))
    }
}

impl From<Exemption> for String {
    fn from(exemption: Exemption) -> Self {
        match exemption.0 {
            ExemptSubject::Key(hash) => hash.as_str().to_owned(),
            ExemptSubject::Network(network) => network.into(),
        }
    }
}

impl Config {
    pub(crate) fn validate(&self, max_files: usize) -> Result<()> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        validate_range("deadline", self.deadline, ms(1), secs(10))?;
        validate_range("failed_keys_window", self.failed_keys_window, secs(1), secs(86_400))?;
        let mut names = HashSet::from([brute_force::NAME]);
        for policy in &self.policies {
            policy.validate(max_files).with_context(|| format!("policies: {:?}", policy.name))?;
            if !names.insert(policy.name.as_str()) {
                bail!("policies: the name {:?} is already used", policy.name);
            }
        }
        for entry in &self.overrides {
            if let Err(reason) = Sha256Hex::try_from(entry.sha256.clone()) {
                bail!("overrides: sha256: {reason}");
            }
            self.validate_limit(&entry.policy, entry.limit, max_files).context("overrides")?;
        }
        Ok(())
    }

    /// Whether a key may have these limits instead of those of the policies.
    pub(crate) fn validate_limits(&self, limits: &Limits, max_files: usize) -> Result<()> {
        limits.iter().try_for_each(|(policy, limit)| self.validate_limit(policy, *limit, max_files))
    }

    /// The policies that count API keys, and the lowest limit that a key may have in each.
    pub(crate) fn min_limits(&self, max_files: usize) -> impl Iterator<Item = (&str, usize)> {
        let policies = self.policies.iter().filter(|policy| policy.scope.is_per_key());
        policies.map(move |policy| {
            (policy.name.as_str(), if policy.cost == super::Cost::File { max_files } else { 1 })
        })
    }

    fn validate_limit(&self, policy: &str, limit: NonZeroU32, max_files: usize) -> Result<()> {
        let Some(policy) = self.policies.iter().find(|known| known.name == policy) else {
            bail!("no policy {policy:?} is configured");
        };
        if !policy.scope.is_per_key() {
            bail!("policy {:?} does not count API keys", policy.name);
        }
        let changed = Policy { limit, ..policy.clone() };
        changed.validate(max_files).with_context(|| format!("{:?}", policy.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exemption_is_a_hash_an_address_or_a_network() {
        let hash = Sha256Hex::digest("key");
        let exemption = |text: &str| Exemption::try_from(text.to_owned());
        let (v4, v6) = ("10.1.2.3".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert!(exemption(hash.as_str()).unwrap().matches(Some(&hash), v4));
        assert!(!exemption(hash.as_str()).unwrap().matches(None, v4));
        assert!(exemption("10.0.0.0/8").unwrap().matches(None, v4));
        assert!(!exemption("10.0.0.0/8").unwrap().matches(None, v6));
        assert!(exemption("2001:db8::1").unwrap().matches(None, v6));
        for invalid in ["", "10.0.0.0/33", "localhost", &hash.as_str()[1..]] {
            assert!(exemption(invalid).is_err(), "{invalid}");
        }
    }
}
