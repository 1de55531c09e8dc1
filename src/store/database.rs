//! The databases of the seed.

use crate::redis::DatabaseId;

/// A database of the seed; the value is its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// Celery's broker.
    Queue = 0,
    /// Sessions, jobs, locks.
    Jobs = 1,
    /// Progress.
    Progress = 2,
    /// Rate limits.
    RateLimits = 3,
    /// Cached values and metrics.
    Cache = 4,
}

impl Database {
    pub(crate) const ALL: [Self; 5] =
        [Self::Queue, Self::Jobs, Self::Progress, Self::RateLimits, Self::Cache];

    /// All databases for the Redis layer, in the order of their numbers.
    pub(super) const IDS: [DatabaseId; 5] = [
        Self::Queue.id(),
        Self::Jobs.id(),
        Self::Progress.id(),
        Self::RateLimits.id(),
        Self::Cache.id(),
    ];

    /// Its name in metrics and reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Jobs => "jobs",
            Self::Progress => "progress",
            Self::RateLimits => "rate_limits",
            Self::Cache => "cache",
        }
    }

    const fn id(self) -> DatabaseId {
        DatabaseId { number: self as u8, name: self.as_str() }
    }
}
