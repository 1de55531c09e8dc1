//! What a cleanup did: counts by family of keys and by database.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A cleanup, running or over. Kept in Redis, so that every process can show the last one.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = CleanupReport)]
pub(crate) struct Report {
    /// Names the run; it stands in the lock while the run goes on.
    pub(crate) id: Uuid,
    pub(crate) state: State,
    pub(crate) dry_run: bool,
    pub(crate) started_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_at: Option<DateTime<Utc>>,
    /// Why it did not finish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Calls to Redis, how long they took together, and the longest.
    pub(crate) steps: u64,
    pub(crate) work_ms: f64,
    pub(crate) longest_step_ms: f64,
    pub(crate) totals: Counts,
    pub(crate) families: BTreeMap<String, BTreeMap<u8, Counts>>,
    /// Keys that are not ours, by database. They are left alone.
    pub(crate) unknown: BTreeMap<u8, u64>,
    pub(crate) unknown_examples: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[schema(as = CleanupState)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Running,
    Finished,
    /// Its process died or was stopped; the next cleanup begins anew.
    Interrupted,
    Failed,
}

/// What happened to keys, and to members of sets.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[schema(as = CleanupCounts)]
pub(crate) struct Counts {
    /// Keys that were looked at.
    pub(crate) scanned: u64,
    /// Keys that had no TTL and got one.
    pub(crate) adopted: u64,
    /// Keys that are gone.
    pub(crate) removed: u64,
    /// Members that are gone from sets and sorted sets.
    pub(crate) pruned: u64,
}

impl Report {
    pub(super) fn end(&mut self, state: State, error: Option<String>, ended_at: DateTime<Utc>) {
        (self.state, self.error, self.ended_at) = (state, error, Some(ended_at));
    }

    pub(super) fn begin(id: Uuid, dry_run: bool, started_at: DateTime<Utc>) -> Self {
        Self {
            id,
            state: State::Running,
            dry_run,
            started_at,
            ended_at: None,
            error: None,
            steps: 0,
            work_ms: 0.0,
            longest_step_ms: 0.0,
            totals: Counts::default(),
            families: BTreeMap::new(),
            unknown: BTreeMap::new(),
            unknown_examples: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, family: &str, database: u8, what: &str, n: u64) {
        if what == "wrong_type" {
            *self.unknown.entry(database).or_default() += n;
            return;
        }
        if !self.families.contains_key(family) {
            self.families.insert(family.to_owned(), BTreeMap::new());
        }
        if let Some(databases) = self.families.get_mut(family) {
            databases.entry(database).or_default().add(what, n);
        }
        self.totals.add(what, n);
    }

    /// Notes a key that is not ours, and the names of the first few.
    pub(super) fn count_unknown(&mut self, database: u8, key: &str) {
        const EXAMPLES: usize = 20;
        const MAX_CHARS: usize = 100;
        *self.unknown.entry(database).or_default() += 1;
        if self.unknown_examples.len() < EXAMPLES {
            let key: String = key.chars().take(MAX_CHARS).collect();
            self.unknown_examples.push(format!("{database} {key}"));
        }
    }

    pub(super) fn count_step(&mut self, took: Duration) {
        let took_ms = took.as_secs_f64() * 1000.0;
        self.steps += 1;
        self.work_ms += took_ms;
        self.longest_step_ms = self.longest_step_ms.max(took_ms);
    }
}

impl Counts {
    fn add(&mut self, what: &str, n: u64) {
        match what {
            "scanned" => self.scanned += n,
            "adopted" => self.adopted += n,
            "removed" => self.removed += n,
            "pruned" => self.pruned += n,
            _ => (),
        }
    }
}
