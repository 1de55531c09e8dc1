//! The report of a cleanup: counts by kind of key and by database.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A cleanup, running or ended. Stored in Redis, so that every process can show the last cleanup.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct CleanupReport {
    /// Id of the run, which is also the token of its lock.
    pub(crate) id: Uuid,
    pub(crate) state: State,
    pub(crate) dry_run: bool,
    pub(crate) started_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_at: Option<DateTime<Utc>>,
    /// Why the cleanup did not finish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Number of calls to Redis.
    pub(crate) steps: u64,
    /// Total duration of the calls in milliseconds.
    pub(crate) work_ms: f64,
    pub(crate) longest_step_ms: f64,
    pub(crate) totals: Counts,
    /// Counts by kind of key and database number.
    pub(crate) families: BTreeMap<String, BTreeMap<u8, Counts>>,
    /// Number of keys that do not belong to the service, by database number. They are left alone.
    pub(crate) unknown: BTreeMap<u8, u64>,
    pub(crate) unknown_examples: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[schema(as = CleanupState)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Running,
    Finished,
    /// The process crashed or was stopped. The next cleanup starts from the beginning.
    Interrupted,
    Failed,
}

/// Changes of keys and of set members.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[schema(as = CleanupCounts)]
pub(crate) struct Counts {
    /// Keys that were checked.
    pub(crate) scanned: u64,
    /// Keys without a TTL that got one.
    pub(crate) adopted: u64,
    /// Keys that were removed.
    pub(crate) removed: u64,
    /// Members that were removed from sets and sorted sets.
    pub(crate) pruned: u64,
}

/// The result of a cleanup step for a key or member, as reported by the scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Scanned,
    Adopted,
    Removed,
    Pruned,
    /// The key has a known name and an unexpected type, so the service did not write it.
    Foreign,
}

impl Change {
    /// `None` for an unknown word.
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "scanned" => Self::Scanned,
            "adopted" => Self::Adopted,
            "removed" => Self::Removed,
            "pruned" => Self::Pruned,
            "wrong_type" => Self::Foreign,
            _ => return None,
        })
    }
}

impl CleanupReport {
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

    pub(super) fn count(&mut self, family: &str, database: u8, change: Change, count: u64) {
        if change == Change::Foreign {
            *self.unknown.entry(database).or_default() += count;
            return;
        }
        if !self.families.contains_key(family) {
            self.families.insert(family.to_owned(), BTreeMap::new());
        }
        if let Some(databases) = self.families.get_mut(family) {
            databases.entry(database).or_default().add(change, count);
        }
        self.totals.add(change, count);
    }

    /// Counts a key that does not belong to the service. Keeps the names of the first keys as examples.
    pub(super) fn count_unknown(&mut self, database: u8, key: &str) {
        const MAX_EXAMPLES: usize = 20;
        const MAX_CHARS: usize = 100;
        *self.unknown.entry(database).or_default() += 1;
        if self.unknown_examples.len() < MAX_EXAMPLES {
            let key: String = key.chars().take(MAX_CHARS).collect();
            self.unknown_examples.push(format!("{database} {key}"));
        }
    }

    pub(super) fn count_step(&mut self, duration: Duration) {
        let duration_ms = duration.as_secs_f64() * 1000.0;
        self.steps += 1;
        self.work_ms += duration_ms;
        self.longest_step_ms = self.longest_step_ms.max(duration_ms);
    }
}

impl Counts {
    fn add(&mut self, change: Change, count: u64) {
        match change {
            Change::Scanned => self.scanned += count,
            Change::Adopted => self.adopted += count,
            Change::Removed => self.removed += count,
            Change::Pruned => self.pruned += count,
            Change::Foreign => (),
        }
    }
}
