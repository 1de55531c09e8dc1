//! The stored job. Parsing is lenient, because other programs write these keys too.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    create::ValidatedJob,
    status::{FileStatus, Status},
};
use crate::ids::{FileId, JobId, Sha256Hex, StreamId};

/// A job and its files at one point in time.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    /// The value of `session:{id}`.
    pub(crate) owner: Option<Sha256Hex>,
    pub(crate) status: Status,
    pub(crate) total_files: u32,
    pub(crate) completed_files: u32,
    pub(crate) failed_files: u32,
    /// Percent of the whole job. Does not decrease within an attempt.
    pub(crate) progress: u8,
    pub(crate) created_at: Option<DateTime<Utc>>,
    pub(crate) updated_at: Option<DateTime<Utc>>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
    /// The first attempt is 1; a retry begins the next one.
    pub(crate) attempt: u32,
    pub(crate) error: Option<String>,
    pub(crate) params: Option<Map<String, Value>>,
    pub(crate) files: Vec<JobFile>,
    /// The terminal entry of the progress stream, once it is written.
    pub(crate) terminal_id: Option<StreamId>,
}

impl Job {
    /// A new job without its times.
    pub(super) fn new(id: JobId, owner: &Sha256Hex, new: &ValidatedJob) -> Self {
        let files = new.files.iter().enumerate();
        let files: Vec<_> = files
            .map(|(index, json)| JobFile::from_stored(index, Some(json), None, None))
            .collect();
        Self {
            id,
            owner: Some(owner.clone()),
            status: Status::Pending,
            total_files: u32::try_from(files.len()).unwrap_or(u32::MAX),
            completed_files: 0,
            failed_files: 0,
            progress: 0,
            created_at: None,
            updated_at: None,
            started_at: None,
            ended_at: None,
            attempt: 1,
            error: None,
            params: serde_json::from_str(&new.params).ok(),
            files,
            terminal_id: None,
        }
    }
}

/// A file of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct JobFile {
    pub(crate) file_id: FileId,
    #[schema(example = "chair.png")]
    pub(crate) filename: String,
    /// Size in bytes.
    #[schema(example = 204_800)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[schema(example = "image/png")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    pub(crate) status: FileStatus,
    /// Percent.
    #[schema(maximum = 100, example = 40)]
    pub(crate) progress: u8,
    pub(crate) attempt: u32,
    /// The last message of the worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
}

impl JobFile {
    /// Creates a file from its entry in `job:{id}:files`, its state and its percent. The seed's code writes neither
    /// `file_id` nor state, and arbitrary numbers as percent.
    pub(super) fn from_stored(
        index: usize,
        json: Option<&str>,
        state: Option<&str>,
        percent: Option<&str>,
    ) -> Self {
        let file = json.map(StoredFile::parse).unwrap_or_default();
        let file_id = FileId::from_index(index);
        let stored_percent = percent.map_or(0, parse_percent);
        let (status, attempt, note) = match state.and_then(parse_state) {
            Some(state) => state,
            None if stored_percent > 0 => (FileStatus::Processing, 1, None),
            None => (FileStatus::Pending, 1, None),
        };
        Self {
            file_id,
            filename: file.filename.unwrap_or_else(|| file_id.to_string()),
            size: file.size,
            content_type: file.content_type,
            status,
            progress: if status == FileStatus::Completed { 100 } else { stored_percent },
            attempt,
            message: note.clone().filter(|_| status == FileStatus::Processing),
            error: note.filter(|_| status == FileStatus::Failed),
            url: file.url,
            metadata: file.metadata,
        }
    }

    /// The file as part of a task for a worker, without its progress.
    pub(super) fn to_task_payload(&self) -> Value {
        let mut file = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(fields) = &mut file {
            for name in ["status", "progress", "attempt", "message", "error"] {
                fields.remove(name);
            }
        }
        file
    }

    /// The percent that the file contributes to the progress of its job: 100 if it is finished, even if it failed.
    pub(super) fn progress_contribution(&self) -> u8 {
        if self.status.is_finished() { 100 } else { self.progress }
    }
}

/// An entry of `job:{id}:files`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredFile {
    filename: Option<String>,
    size: Option<u64>,
    content_type: Option<String>,
    url: Option<String>,
    metadata: Map<String, Value>,
}

impl StoredFile {
    /// A field of an unexpected type counts as absent.
    fn parse(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_else(|_| Self::parse_foreign(json))
    }

    fn parse_foreign(json: &str) -> Self {
        let file: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
        let text = |name: &str| file.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            filename: text("filename"),
            size: file.get("size").and_then(Value::as_u64),
            content_type: text("content_type"),
            url: text("url"),
            metadata: file.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default(),
        }
    }
}

/// `status:attempt:note`, as `shared/lifecycle.lua` writes it.
fn parse_state(text: &str) -> Option<(FileStatus, u32, Option<String>)> {
    let mut parts = text.splitn(3, ':');
    let status = FileStatus::from_stored(parts.next()?)?;
    let attempt = parts.next()?.parse().ok()?;
    let note = parts.next().filter(|note| !note.is_empty()).map(str::to_owned);
    Some((status, attempt, note))
}

/// Parses a percent of any program, such as `40`, `40.5` or `-5`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is clamped to 0..=100"
)]
pub(crate) fn parse_percent(text: &str) -> u8 {
    text.trim().parse::<f64>().map_or(0, |percent| percent.clamp(0.0, 100.0) as u8)
}

/// Parses a time of any program: the seed's naive UTC, with or without fraction, or RFC 3339.
pub(crate) fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    text.parse::<NaiveDateTime>()
        .map(|time| time.and_utc())
        .or_else(|_| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()))
        .ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("40", 40)]
    #[case("40.5", 40)]
    #[case("-5", 0)]
    #[case("250", 100)]
    #[case("NaN", 0)]
    #[case("", 0)]
    fn a_percent_is_clamped(#[case] text: &str, #[case] percent: u8) {
        assert_eq!(parse_percent(text), percent);
    }

    #[rstest]
    #[case("2026-11-23T00:58:58.252605", "2026-11-23T00:58:58.252605Z")]
    #[case("2026-01-01T00:00:00", "2026-01-01T00:00:00Z")]
    #[case("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z")]
    fn a_stored_time_is_converted_to_utc(#[case] stored: &str, #[case] shown: &str) {
        let time = parse_time(stored).unwrap();
        assert_eq!(serde_json::to_value(time).unwrap(), shown);
    }
}
