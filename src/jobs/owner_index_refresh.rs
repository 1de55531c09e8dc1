//! Keeps jobs in the lists of their owners, in a cluster: there the script that renews a job's keys cannot reach the
//! list, so it notes that the list is to be renewed, and this does it.

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

/// Time between looks.
const TICK: Duration = Duration::from_secs(1);
/// Places that one look goes to. Every process looks, and doing it twice is no harm.
const PARTITIONS_PER_TICK: usize = 32;
/// Jobs of a place that one look takes.
const JOBS_PER_PARTITION: i64 = 100;

impl Jobs {
    /// Begins to renew lists, where no script does.
    pub(crate) fn spawn_owner_index_refresher(&self, tasks: &TaskSupervisor) {
        if !self.redis.layout().is_multi_database() {
            tasks.spawn_critical(
                "job lists",
                self.clone().refresh_owner_indexes(tasks.shutdown_token()),
            );
        }
    }

    async fn refresh_owner_indexes(self, shutdown: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let keyspaces: Vec<Keyspace<'_>> = self.redis.all_keyspaces(Database::Jobs).collect();
        let mut turn = keyspaces.chunks(PARTITIONS_PER_TICK).cycle();
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            for keyspace in turn.next().unwrap_or_default() {
                if let Err(error) = self.refresh_partition(*keyspace).await {
                    debug!(%error, "could not renew the lists of jobs; trying again");
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
