//! Which policies a request is charged in, and its cost in each.

use super::{
    RateLimiter, Requester,
    policy::{Cost, Policy, RouteGroup},
};
use crate::{
    auth::{Caller, Role},
    ids::Sha256Hex,
    store::Partition,
};

/// The cost of a request in one policy.
pub(crate) struct Charge<'a> {
    pub(super) policy: &'a Policy,
    pub(super) key: String,
    /// All counts of one caller are in the same partition.
    pub(super) partition: Partition,
    pub(super) limit: u64,
    pub(super) cost: u64,
}

impl RateLimiter {
    /// The charges of a request to `group`; empty if the request is not limited. A cost in files is 1 until
    /// [`Self::apply_file_count`].
    ///
    /// An unknown key is not a caller: a client that guesses keys is counted by its address and creates no keys in
    /// Redis.
    pub(crate) fn charges_for(
        &self,
        caller: Option<&Caller>,
        origin: &Requester,
        group: RouteGroup,
    ) -> Vec<Charge<'_>> {
        let config = &self.0.config;
        let hash = caller.map(|caller| &caller.hash);
        let is_worker_traffic = caller.is_some_and(|caller| is_worker_traffic(caller, group));
        if config.exempt.iter().any(|exemption| exemption.matches(hash, origin.address)) {
            return Vec::new();
        }
        let address_partition = self.0.redis.partition_for_name(&origin.counted_as);
        let charge = |policy: &'_ Policy| -> Option<(String, Partition, u64)> {
            let limit = u64::from(policy.limit.get());
            match (policy.scope.is_per_key(), hash) {
                (true, None) => None,
                (true, Some(hash)) => {
                    let own_limit = caller.and_then(|caller| caller.limits.get(&policy.name));
                    let limit = own_limit
                        .map(|limit| u64::from(limit.get()))
                        .or_else(|| self.override_limit(hash, policy))
                        .unwrap_or(limit);
                    Some((policy.key(group, hash.as_str()), Partition::for_caller(hash), limit))
                }
                (false, _) => {
                    Some((policy.key(group, &origin.counted_as), address_partition, limit))
                }
            }
        };
        let policies =
            config.policies.iter().filter(|policy| policy.applies_to(group, is_worker_traffic));
        let charges = policies.filter_map(|policy| {
            let (key, partition, limit) = charge(policy)?;
            Some(Charge { policy, key, partition, limit, cost: 1 })
        });
        charges.collect()
    }

    /// Whether a charge depends on the number of files, so that the body has to be read first.
    pub(crate) fn needs_file_count(charges: &[Charge<'_>]) -> bool {
        charges.iter().any(|charge| charge.policy.cost == Cost::File)
    }

    /// Sets the cost of the charges that count files. The count is at least 1 and at most `jobs.max_files`.
    pub(crate) fn apply_file_count(&self, charges: &mut [Charge<'_>], count: usize) {
        let cost = count.clamp(1, self.0.max_files) as u64;
        for charge in charges.iter_mut().filter(|charge| charge.policy.cost == Cost::File) {
            charge.cost = cost;
        }
    }

    /// The limit that `rate_limit.overrides` sets for a key.
    fn override_limit(&self, hash: &Sha256Hex, policy: &Policy) -> Option<u64> {
        let mut overrides = self.0.config.overrides.iter();
        let found =
            overrides.find(|entry| entry.sha256 == hash.as_str() && entry.policy == policy.name)?;
        Some(u64::from(found.limit.get()))
    }
}

/// Whether a request belongs to the work of workers or operators, which is limited only by policies that name its
/// group.
fn is_worker_traffic(caller: &Caller, group: RouteGroup) -> bool {
    !caller.has_role(Role::Client) || (caller.has_role(Role::Worker) && group == RouteGroup::Report)
}
