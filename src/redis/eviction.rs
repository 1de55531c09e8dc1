//! The check of `maxmemory-policy`: most policies evict keys that nothing has deleted.

use std::time::Duration;

use fred::{clients::Client, interfaces::ClientLike as _, types::InfoKind};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    backend::Backend,
    call::call_with_retry,
    call_error::Idempotency,
    config::{Config, OnUnsafePolicy},
};
use crate::{error::Result, tasks::TaskSupervisor};

/// Time between checks: a failover changes the server.
const POLL_INTERVAL: Duration = Duration::from_mins(1);
/// Time between checks until Redis has answered once.
const STARTUP_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Checks the policy at the start and regularly. The policy is the same for all databases of a server; `database` only
/// labels the calls.
pub(crate) fn spawn_check(
    config: &Config,
    backend: &Backend,
    database: usize,
    tasks: &TaskSupervisor,
) {
    let (allowed, reaction) =
        (config.allowed_eviction_policies.clone(), config.on_unsafe_eviction_policy);
    let (backend, shutdown) = (backend.clone(), tasks.shutdown_token());
    // The end of the task stops the service.
    tasks.spawn_critical("redis eviction policy", async move {
        let mut known = None;
        while let Some(policies) = poll((&backend, database), known.is_none(), &shutdown).await {
            // Each server of a cluster has a policy of its own; the first unsafe one is reported.
            let is_unsafe = |policy: &&String| !allowed.contains(policy);
            let unsafe_policy = policies.iter().find(is_unsafe);
            let Some(policy) = unsafe_policy.or(policies.first()).cloned() else { continue };
            if is_unsafe(&&policy) && known.as_ref() != Some(&policy) {
                if known.is_none() && reaction == OnUnsafePolicy::Refuse {
                    let allowed = allowed.join(", ");
                    error!(
                        %policy, allowed,
                        "the maxmemory-policy of Redis is not one of redis.allowed_eviction_policies"
                    );
                    return;
                }
                warn!(%policy, "Redis may evict jobs when its memory is full (maxmemory-policy)");
            }
            known = Some(policy);
        }
    });
}

/// Waits for the next check, and repeats it until every server has answered. `None` when the service stops.
async fn poll(
    (backend, database): (&Backend, usize),
    is_first: bool,
    shutdown: &CancellationToken,
) -> Option<Vec<String>> {
    if !is_first {
        shutdown.run_until_cancelled(sleep(POLL_INTERVAL)).await?;
    }
    loop {
        if backend.is_up() {
            let policies = Box::pin(policies(backend, database));
            if let Ok(policies) = shutdown.run_until_cancelled(policies).await? {
                return Some(policies);
            }
        }
        shutdown.run_until_cancelled(sleep(STARTUP_POLL_INTERVAL)).await?;
    }
}

async fn policies(backend: &Backend, database: usize) -> Result<Vec<String>> {
    let mut policies = Vec::new();
    for (slot, _) in backend.servers(database) {
        let info =
            |client: Client| async move { client.info::<String>(Some(InfoKind::Memory)).await };
        let route = backend.route(database, slot);
        let info = call_with_retry(route, Idempotency::Idempotent, info).await?;
        let policy =
            info.lines().find_map(|line| line.trim_end().strip_prefix("maxmemory_policy:"));
        policies.extend(policy.map(str::to_owned));
    }
    Ok(policies)
}
