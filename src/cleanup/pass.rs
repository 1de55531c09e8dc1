//! One pass over every key of every database or server, in small steps with pauses between them.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Policy,
    report::Report,
    store::{self, OldJob},
};
use crate::{
    error::{Error, Result},
    migrations::rest_after,
    store::{Database, KeyKind, Keyspace, Partition, Redis},
};

/// Scripts on one key each that a step may send together. Redis answers others between them.
const AT_ONCE: usize = 16;

/// What belongs to a job is looked at after the job.
const ORDER: [Database; 5] =
    [Database::Jobs, Database::Progress, Database::RateLimits, Database::Cache, Database::Queue];

/// A key's family and its name.
type Named = (&'static KeyKind, String);

pub(super) struct Sweep<'a> {
    redis: &'a Redis,
    policy: &'a Policy,
    report: &'a mut Report,
    stop: &'a CancellationToken,
    saved_at: Instant,
}

/// Why a pass ended before its end.
pub(super) enum Stopped {
    /// The process is about to end.
    ByShutdown,
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

type Done<T = ()> = Result<T, Stopped>;

impl<'a> Sweep<'a> {
    pub(super) fn new(
        redis: &'a Redis,
        policy: &'a Policy,
        report: &'a mut Report,
        stop: &'a CancellationToken,
    ) -> Self {
        Self { redis, policy, report, stop, saved_at: Instant::now() }
    }

    pub(super) async fn run(mut self) -> Done {
        if self.redis.layout().is_multi_database() {
            for database in ORDER {
                self.sweep(self.redis.default_keyspace(database), Some(database)).await?;
            }
        } else {
            for (server, _) in self.redis.servers(Database::Jobs) {
                self.sweep(server, None).await?;
            }
        }
        Ok(())
    }

    /// Looks at every key of a server, or of one database there.
    async fn sweep(&mut self, server: Keyspace<'a>, database: Option<Database>) -> Done {
        let mut cursor = "0".to_owned();
        loop {
            let begun_at = Instant::now();
            let page = store::scan(server, cursor, self.policy.batch).await?;
            self.pause(begun_at).await?;
            // Redis may give more than it was asked for.
            for (keyspace, ours) in self.sort(database, page.keys) {
                for step in ours.chunks(self.policy.batch) {
                    self.step(keyspace, step).await?;
                }
            }
            if page.next == "0" {
                return Ok(());
            }
            cursor = page.next;
        }
    }

    /// The keys that are ours by their place, with family and name; the others are noted.
    fn sort(
        &mut self,
        database: Option<Database>,
        keys: Vec<Option<String>>,
    ) -> Vec<(Keyspace<'a>, Vec<Named>)> {
        let number = database.map_or(0, |it| it as u8);
        let mut ours: BTreeMap<Partition, Vec<Named>> = BTreeMap::new();
        for key in keys {
            let key = key.unwrap_or_else(|| "(a key that is no text)".to_owned());
            let parsed = self.redis.layout().parse(&key);
            let found =
                parsed.and_then(|(at, name)| Some((at, KeyKind::find(database, name)?, name)));
            match found {
                Some((at, family, name)) => {
                    ours.entry(at).or_default().push((family, name.to_owned()));
                }
                None => self.report.count_unknown(number, &key),
            }
        }
        let database = database.unwrap_or(Database::Jobs);
        ours.into_iter().map(|(at, it)| (self.redis.keyspace(database, at), it)).collect()
    }

    async fn step(&mut self, keyspace: Keyspace<'_>, keys: &[Named]) -> Done {
        let mut by_family: BTreeMap<&str, (&'static KeyKind, Vec<String>)> = BTreeMap::new();
        for (family, key) in keys {
            by_family
                .entry(family.name)
                .or_insert_with(|| (family, Vec::new()))
                .1
                .push(key.clone());
        }
        let databases: BTreeMap<_, _> =
            by_family.iter().map(|(name, it)| (*name, it.0.database as u8)).collect();
        let families = by_family.into_values().collect();
        let begun_at = Instant::now();
        let (counts, old_jobs) =
            store::judge(self.redis, keyspace, self.policy, families, self.report.dry_run).await?;
        for it in counts {
            let number = databases.get(it.family.as_str()).copied().unwrap_or(0);
            self.report.count(&it.family, number, &it.what, it.n);
        }
        self.pause(begun_at).await?;
        for jobs in old_jobs.chunks(AT_ONCE) {
            self.remove(jobs).await?;
        }
        let numbered = self.redis.layout().is_multi_database();
        let collections: Vec<_> = keys
            .iter()
            .filter(|(family, _)| {
                let members = if numbered { family.members } else { family.local_members() };
                members.is_some()
            })
            .collect();
        for chunk in collections.chunks(AT_ONCE) {
            self.prune(keyspace, chunk).await?;
        }
        Ok(())
    }

    async fn remove(&mut self, jobs: &[OldJob]) -> Done {
        let begun_at = Instant::now();
        let removals = jobs
            .iter()
            .map(|it| store::remove_job(self.redis, self.policy, it, self.report.dry_run));
        for (database, it) in try_join_all(removals).await?.into_iter().flatten() {
            self.report.count(&it.family, database, &it.what, it.n);
        }
        self.pause(begun_at).await
    }

    /// Takes out of collections, piece by piece, what names something that is gone.
    async fn prune(&mut self, keyspace: Keyspace<'_>, keys: &[&Named]) -> Done {
        let mut open: Vec<_> =
            keys.iter().map(|(family, key)| (*family, key.as_str(), "0".to_owned())).collect();
        while !open.is_empty() {
            let begun_at = Instant::now();
            let how = (self.policy.batch, self.report.dry_run);
            let pieces = open.iter().map(|(family, key, cursor)| {
                store::prune(self.redis, keyspace, (family, key), cursor, how)
            });
            let pruned = try_join_all(pieces).await?;
            let mut later = Vec::new();
            for ((family, key, _), it) in open.into_iter().zip(pruned) {
                self.report.count(family.name, family.database as u8, "pruned", it.n_members);
                self.report.count(family.name, family.database as u8, "removed", it.n_keys);
                if it.next != "0" {
                    later.push((family, key, it.next));
                }
            }
            open = later;
            self.pause(begun_at).await?;
        }
        Ok(())
    }

    /// After a step: rests as long as the pace wants it, and notes now and then how far it is.
    async fn pause(&mut self, begun_at: Instant) -> Done {
        const SAVE_EVERY: Duration = Duration::from_secs(1);
        let took = begun_at.elapsed();
        self.report.count_step(took);
        let rest = sleep(rest_after(took, self.policy.pace));
        if self.stop.run_until_cancelled(rest).await.is_none() {
            return Err(Stopped::ByShutdown);
        }
        if self.saved_at.elapsed() > SAVE_EVERY {
            store::save(self.redis, self.report).await?;
            self.saved_at = Instant::now();
        }
        Ok(())
    }
}
