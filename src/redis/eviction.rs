//! Whether Redis would throw keys away to make room: jobs that nobody has deleted would be gone.

use std::time::Duration;

use fred::{interfaces::ClientLike as _, types::InfoKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{Config, Database, Redis};
use crate::{error::Result, tasks::Tasks};

/// Time between looks: after a failover it is another server.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// The same until Redis has answered once.
const FIRST_LOOKS: Duration = Duration::from_millis(250);

/// What is done about a `maxmemory-policy` that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnOtherPolicy {
    /// It is logged.
    Warn,
    /// The service does not start.
    Refuse,
}

/// Looks at the policy at the start, and now and then.
pub(super) fn watch(config: &Config, redis: &Redis, tasks: &Tasks) {
    let (allowed, reaction) = (config.eviction_policies.clone(), config.on_other_policy);
    let (redis, shutdown) = (redis.clone(), tasks.shutdown());
    // A task that ends by itself stops the service.
    tasks.spawn("redis eviction policy", async move {
        let mut known = None;
        while let Some(policies) = look(&redis, known.is_none(), &shutdown).await {
            // Each server of a cluster has its own; one that is not allowed is worth a word.
            let other = policies.iter().find(|it| !allowed.contains(it));
            let Some(policy) = other.or(policies.first()).cloned() else { continue };
            if !allowed.contains(&policy) && known.as_ref() != Some(&policy) {
                if known.is_none() && reaction == OnOtherPolicy::Refuse {
                    let allowed = allowed.join(", ");
                    error!(%policy, allowed, "Redis' maxmemory-policy is not one of redis.eviction_policies");
                    return;
                }
                warn!(%policy, "Redis may throw jobs away when its memory is full (maxmemory-policy)");
            }
            known = Some(policy);
        }
    });
}

/// Waits until it is time, and asks every server until there is an answer. `None` when the service stops.
async fn look(redis: &Redis, is_first: bool, shutdown: &CancellationToken) -> Option<Vec<String>> {
    if !is_first {
        shutdown.run_until_cancelled(sleep(LOOK_EVERY)).await?;
    }
    loop {
        if redis.is_up() {
            let asked = Box::pin(policies(redis));
            if let Ok(policies) = shutdown.run_until_cancelled(asked).await? {
                return Some(policies);
            }
        }
        shutdown.run_until_cancelled(sleep(FIRST_LOOKS)).await?;
    }
}

async fn policies(redis: &Redis) -> Result<Vec<String>> {
    let mut policies = Vec::new();
    for (place, _) in redis.servers(Database::Jobs) {
        let ask = |client: fred::clients::Client| async move {
            client.info::<String>(Some(InfoKind::Memory)).await
        };
        let info = place.read(ask).await?;
        let said = info.lines().find_map(|it| it.trim_end().strip_prefix("maxmemory_policy:"));
        policies.extend(said.map(str::to_owned));
    }
    Ok(policies)
}
