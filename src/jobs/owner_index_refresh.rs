//! Refreshes the TTL of owners' job indexes in a cluster. There, the script that refreshes the keys of a job cannot
//! access the index, so it adds the job to a queue, which this task empties.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Jobs, store::cluster};
use crate::{
    error::Result,
    store::{Database, Keyspace},
    tasks::TaskSupervisor,
};

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Every process polls the partitions in turn, because refreshing an index twice is harmless.
const PARTITIONS_PER_TICK: usize = 32;
const JOBS_PER_PARTITION: i64 = 100;

impl Jobs {
    /// Starts the task in a cluster. Elsewhere, scripts refresh the indexes.
    pub(crate) fn spawn_owner_index_refresher(&self, tasks: &TaskSupervisor) {
        if !self.redis.layout().is_multi_database() {
            tasks.spawn_critical(
                "owner indexes",
                self.clone().refresh_owner_indexes(tasks.shutdown_token()),
            );
        }
    }

    async fn refresh_owner_indexes(self, shutdown: CancellationToken) {
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let keyspaces: Vec<Keyspace<'_>> = self.redis.all_keyspaces(Database::Jobs).collect();
        let mut batches = keyspaces.chunks(PARTITIONS_PER_TICK).cycle();
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            for keyspace in batches.next().unwrap_or_default() {
                if let Err(error) = self.refresh_partition(*keyspace).await {
                    debug!(%error, "could not refresh owner indexes; retrying");
                }
            }
        }
    }

    async fn refresh_partition(&self, keyspace: Keyspace<'_>) -> Result<()> {
        for job in cluster::jobs_to_reindex(keyspace, JOBS_PER_PARTITION).await? {
            cluster::refresh_owner_index(&self.redis, self.retention, job).await?;
        }
        Ok(())
    }
}
