//! The statuses of jobs and files, and the allowed transitions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The status of a job. `Pending` is the seed's word for queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(example = "processing")]
pub(crate) enum Status {
    Pending,
    Processing,
    Completed,
    /// All files are finished and some of them failed.
    Partial,
    Failed,
    Cancelling,
    Cancelled,
    Expired,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Parses a stored status. The seed's code writes arbitrary words; an unknown word means `Processing`.
    pub(crate) fn from_stored(text: &str) -> Self {
        match text {
            "pending" | "queued" => Self::Pending,
            "completed" => Self::Completed,
            "partial" => Self::Partial,
            "failed" => Self::Failed,
            "cancelling" => Self::Cancelling,
            "cancelled" => Self::Cancelled,
            "expired" => Self::Expired,
            _ => Self::Processing,
        }
    }

    /// Whether no status may follow.
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Completed | Self::Partial | Self::Failed | Self::Cancelled | Self::Expired => {
                true
            }
            Self::Pending | Self::Processing | Self::Cancelling => false,
        }
    }

    /// Whether at least one file has a result.
    pub(crate) fn has_results(self) -> bool {
        matches!(self, Self::Completed | Self::Partial)
    }

    /// The statuses that this one may follow.
    pub(crate) fn allowed_from(self) -> &'static [Self] {
        match self {
            Self::Pending => &[],
            Self::Processing => &[Self::Pending],
            Self::Completed | Self::Partial | Self::Failed | Self::Cancelled => {
                &[Self::Pending, Self::Processing, Self::Cancelling]
            }
            Self::Cancelling | Self::Expired => &[Self::Pending, Self::Processing],
        }
    }
}

/// The status of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(example = "processing")]
pub(crate) enum FileStatus {
    Pending,
    Processing,
    /// A new attempt waits for a worker.
    Retrying,
    Completed,
    Failed,
    Cancelled,
}

impl FileStatus {
    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        match text {
            "pending" => Some(Self::Pending),
            "processing" => Some(Self::Processing),
            "retrying" => Some(Self::Retrying),
            "completed" => Some(Self::Completed),
            "failed" => Some(Self::Failed),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// Whether the file is finished in this attempt.
    pub(crate) fn is_finished(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Pending | Self::Processing | Self::Retrying => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{FileStatus, Status, Status::*};

    #[rstest]
    #[case(Pending, &[Processing, Completed, Partial, Failed, Cancelling, Cancelled, Expired])]
    #[case(Processing, &[Completed, Partial, Failed, Cancelling, Cancelled, Expired])]
    #[case(Cancelling, &[Completed, Partial, Failed, Cancelled])]
    #[case(Completed, &[])]
    #[case(Partial, &[])]
    #[case(Failed, &[])]
    #[case(Cancelled, &[])]
    #[case(Expired, &[])]
    fn only_allowed_statuses_may_follow(#[case] from: Status, #[case] to: &[Status]) {
        let all = [Pending, Processing, Completed, Partial, Failed, Cancelling, Cancelled, Expired];
        for next in all {
            assert_eq!(
                next.allowed_from().contains(&from),
                to.contains(&next),
                "{from:?} to {next:?}"
            );
        }
        assert_eq!(from.is_terminal(), to.is_empty());
    }

    /// The scripts have one table for jobs and files.
    #[test]
    fn scripts_know_the_same_terminal_statuses() {
        let lua = include_str!("../../migrations-lua/shared/job.lua");
        let (_, table) = lua.split_once("local TERMINAL = {").unwrap();
        let (table, _) = table.split_once('}').unwrap();
        let in_lua: Vec<&str> =
            table.split(',').map(|entry| entry.trim().strip_suffix(" = true").unwrap()).collect();

        let all = [Pending, Processing, Completed, Partial, Failed, Cancelling, Cancelled, Expired];
        let terminal = all.into_iter().filter(|status| status.is_terminal());
        assert_eq!(in_lua, terminal.map(Status::as_str).collect::<Vec<_>>());
        for status in ["pending", "processing", "retrying", "completed", "failed", "cancelled"] {
            let is_finished = FileStatus::from_stored(status).unwrap().is_finished();
            assert_eq!(is_finished, in_lua.contains(&status), "{status}");
        }
    }

    #[test]
    fn a_stored_status_reads_back() {
        for status in
            [Pending, Processing, Completed, Partial, Failed, Cancelling, Cancelled, Expired]
        {
            assert_eq!(Status::from_stored(status.as_str()), status);
        }
        assert_eq!(Status::from_stored("banana"), Processing);
    }
}
