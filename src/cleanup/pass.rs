//! One pass over all keys of all databases or servers, in small steps with pauses.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Policy,
    report::{Change, CleanupReport},
    store::{self, OldJob},
};
use crate::{
    error::{Error, Result},
    migrations::throttle_delay,
    store::{Database, KeyKind, Keyspace, Partition, Redis},
};

/// Scripts, each on one key, that run concurrently. Redis serves other clients between them.
const MAX_CONCURRENCY: usize = 16;

/// The jobs come first, and the keys that belong to them later.
const DATABASE_ORDER: [Database; 5] =
    [Database::Jobs, Database::Progress, Database::RateLimits, Database::Cache, Database::Queue];

/// A key of the service: its kind and its name.
type CatalogedKey = (&'static KeyKind, String);

pub(super) struct CleanupPass<'a> {
    redis: &'a Redis,
    policy: &'a Policy,
    report: &'a mut CleanupReport,
    stop: &'a CancellationToken,
    saved_at: Instant,
}

/// Why a pass did not finish.
pub(super) enum PassError {
    Shutdown,
    Failed(Error),
}

impl From<Error> for PassError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

type PassResult = Result<(), PassError>;

impl<'a> CleanupPass<'a> {
    pub(super) fn new(
        redis: &'a Redis,
        policy: &'a Policy,
        report: &'a mut CleanupReport,
        stop: &'a CancellationToken,
    ) -> Self {
        Self { redis, policy, report, stop, saved_at: Instant::now() }
    }

    pub(super) async fn run(mut self) -> PassResult {
        if self.redis.layout().is_multi_database() {
            for database in DATABASE_ORDER {
                self.clean_server(self.redis.default_keyspace(database), Some(database)).await?;
            }
        } else {
            for (server, _) in self.redis.servers(Database::Jobs) {
                self.clean_server(server, None).await?;
            }
        }
        Ok(())
    }

    /// Scans all keys of a server, or of one of its databases.
    async fn clean_server(
        &mut self,
        server: Keyspace<'a>,
        database: Option<Database>,
    ) -> PassResult {
        let mut cursor = "0".to_owned();
        loop {
            let started_at = Instant::now();
            let page = store::scan(server, cursor, self.policy.batch).await?;
            self.pause_after(started_at).await?;
            for (keyspace, keys) in self.group_by_place(database, page.keys) {
                // SCAN may return more keys than requested.
                for batch in keys.chunks(self.policy.batch) {
                    self.clean_keys(keyspace, batch).await?;
                }
            }
            if page.next == "0" {
                return Ok(());
            }
            cursor = page.next;
        }
    }

    /// Groups the keys of the service by place. Counts other keys as unknown.
    fn group_by_place(
        &mut self,
        database: Option<Database>,
        keys: Vec<Option<String>>,
    ) -> Vec<(Keyspace<'a>, Vec<CatalogedKey>)> {
        let number = database.map_or(0, |database| database as u8);
        let mut groups: BTreeMap<Partition, Vec<CatalogedKey>> = BTreeMap::new();
        for key in keys {
            let key = key.unwrap_or_else(|| "(a key that is not UTF-8)".to_owned());
            let found = self.redis.layout().parse(&key).and_then(|(partition, name)| {
                Some((partition, KeyKind::find(database, name)?, name))
            });
            match found {
                Some((partition, family, name)) => {
                    groups.entry(partition).or_default().push((family, name.to_owned()));
                }
                None => self.report.count_unknown(number, &key),
            }
        }
        let database = database.unwrap_or(Database::Jobs);
        groups
            .into_iter()
            .map(|(partition, keys)| (self.redis.keyspace(database, partition), keys))
            .collect()
    }

    /// Applies the cleanup rules to keys of one place, removes the old jobs among them, and prunes the collections.
    async fn clean_keys(&mut self, keyspace: Keyspace<'_>, keys: &[CatalogedKey]) -> PassResult {
        for old_jobs in self.apply_rules(keyspace, keys).await?.chunks(MAX_CONCURRENCY) {
            self.remove_jobs(old_jobs).await?;
        }
        let numbered = self.redis.layout().is_multi_database();
        let collections: Vec<_> = keys
            .iter()
            .filter(|(family, _)| {
                let members = if numbered { family.members } else { family.local_members() };
                members.is_some()
            })
            .collect();
        for chunk in collections.chunks(MAX_CONCURRENCY) {
            self.prune(keyspace, chunk).await?;
        }
        Ok(())
    }

    /// Returns the old jobs.
    async fn apply_rules(
        &mut self,
        keyspace: Keyspace<'_>,
        keys: &[CatalogedKey],
    ) -> Result<Vec<OldJob>, PassError> {
        let mut by_family: BTreeMap<&str, (&'static KeyKind, Vec<String>)> = BTreeMap::new();
        for (family, key) in keys {
            let (_, names) = by_family.entry(family.name).or_insert_with(|| (family, Vec::new()));
            names.push(key.clone());
        }
        let databases: BTreeMap<_, _> =
            by_family.iter().map(|(name, (family, _))| (*name, family.database as u8)).collect();
        let families = by_family.into_values().collect();
        let started_at = Instant::now();
        let (counts, old_jobs) =
            store::apply_rules(self.redis, keyspace, self.policy, families, self.report.dry_run)
                .await?;
        for counted in counts {
            let number = databases.get(counted.family.as_str()).copied().unwrap_or(0);
            self.report.count(&counted.family, number, counted.change, counted.count);
        }
        self.pause_after(started_at).await?;
        Ok(old_jobs)
    }

    async fn remove_jobs(&mut self, jobs: &[OldJob]) -> PassResult {
        let started_at = Instant::now();
        let dry_run = self.report.dry_run;
        let removals =
            jobs.iter().map(|job| store::remove_job(self.redis, self.policy, job, dry_run));
        for (database, counted) in try_join_all(removals).await?.into_iter().flatten() {
            self.report.count(&counted.family, database, counted.change, counted.count);
        }
        self.pause_after(started_at).await
    }

    /// Removes members of collections whose job, task or key no longer exists, one batch of each collection at a time.
    async fn prune(&mut self, keyspace: Keyspace<'_>, keys: &[&CatalogedKey]) -> PassResult {
        let mut unfinished: Vec<_> =
            keys.iter().map(|(family, key)| (*family, key.as_str(), "0".to_owned())).collect();
        while !unfinished.is_empty() {
            let started_at = Instant::now();
            let options = (self.policy.batch, self.report.dry_run);
            let batches = unfinished.iter().map(|(family, key, cursor)| {
                store::prune_members(self.redis, keyspace, (family, key), cursor, options)
            });
            let results = try_join_all(batches).await?;
            let mut next = Vec::new();
            for ((family, key, _), pruned) in unfinished.into_iter().zip(results) {
                let database = family.database as u8;
                self.report.count(family.name, database, Change::Pruned, pruned.member_count);
                self.report.count(family.name, database, Change::Removed, pruned.key_count);
                if pruned.next != "0" {
                    next.push((family, key, pruned.next));
                }
            }
            unfinished = next;
            self.pause_after(started_at).await?;
        }
        Ok(())
    }

    /// Counts the step that began at `started_at`, pauses according to the duty cycle, and saves the report once a
    /// second.
    async fn pause_after(&mut self, started_at: Instant) -> PassResult {
        const SAVE_INTERVAL: Duration = Duration::from_secs(1);
        let duration = started_at.elapsed();
        self.report.count_step(duration);
        let pause = sleep(throttle_delay(duration, self.policy.duty_cycle));
        if self.stop.run_until_cancelled(pause).await.is_none() {
            return Err(PassError::Shutdown);
        }
        if self.saved_at.elapsed() > SAVE_INTERVAL {
            store::save(self.redis, self.report).await?;
            self.saved_at = Instant::now();
        }
        Ok(())
    }
}
