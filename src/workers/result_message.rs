//! A Celery result message, read tolerantly: any task of any version may have written it.
//!
//! Source: Celery `backends/base.py`, `_get_result_meta`; measured shapes are in this file's tests.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{ids::FileId, jobs::FileResult, progress::Report};

/// What a message says of its task.
#[derive(Debug)]
pub(super) enum Update {
    Started,
    Progress(Said),
    Succeeded(Said),
    Failed {
        error: String,
        said: Said,
    },
    Revoked,
    /// A sign of life, and nothing else.
    Alive,
}

/// What a message says of the job and its files.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Files that are being worked on.
    pub(super) reports: Vec<Report>,
    /// Files that are done, or why a worker's word on one was not understood.
    pub(super) results: Vec<(FileId, Result<FileResult, String>)>,
    /// Percent of the whole job and what is being done, of a task that says nothing of files.
    pub(super) overall: Option<(u8, Option<String>)>,
    /// A task that ended well may say that its work did not.
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    status: String,
    #[serde(default)]
    result: Value,
}

/// The part of a message that is read when the whole of it is too large.
#[derive(Deserialize)]
struct Heading {
    status: String,
}

/// Messages larger than this are read without what they carry.
const MAX_BYTES: usize = 1 << 20;

impl Update {
    /// # Errors
    ///
    /// What is wrong with a message that is none of Celery's.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, String> {
        let message = if payload.len() > MAX_BYTES {
            let heading: Heading = serde_json::from_slice(payload).map_err(|it| it.to_string())?;
            Message { status: heading.status, result: Value::Null }
        } else {
            serde_json::from_slice(payload).map_err(|it| it.to_string())?
        };
        Ok(match message.status.as_str() {
            "PENDING" | "RECEIVED" | "RETRY" => Self::Alive,
            "STARTED" => Self::Started,
            "SUCCESS" => Self::Succeeded(Said::parse(&message.result)),
            "FAILURE" => Self::Failed {
                error: error_text(&message.result),
                said: Said::parse(&message.result),
            },
            "REVOKED" => Self::Revoked,
            // PROGRESS, or a state of the task's own.
            _ => Self::Progress(Said::parse(&message.result)),
        })
    }
}

impl Said {
    fn parse(result: &Value) -> Self {
        let Value::Object(fields) = result else { return Self::default() };
        let mut said = Self { error: reported_error(fields), ..Self::default() };
        match fields.get("files") {
            Some(Value::Object(files)) => {
                for (file, state) in files {
                    if let Ok(file) = file.parse() {
                        said.take_file(file, state);
                    }
                }
            }
            _ => said.overall = overall(fields),
        }
        said
    }

    fn take_file(&mut self, file: FileId, state: &Value) {
        let status = state.get("status").and_then(Value::as_str).unwrap_or_default();
        if matches!(status, "completed" | "failed") {
            let result = serde_json::from_value(state.clone()).map_err(|it| it.to_string());
            self.results.push((file, result));
            return;
        }
        let Some(percent) = state.get("progress").and_then(percent) else { return };
        let message = state.get("message").and_then(Value::as_str).map(str::to_owned);
        let attempt =
            state.get("attempt").and_then(Value::as_u64).and_then(|it| u32::try_from(it).ok());
        if let Ok(report) = Report::checked(file, percent, message, attempt) {
            self.reports.push(report);
        }
    }
}

/// `progress`, or `current` of `total`, in percent, with what stands beside it as text.
fn overall(fields: &Map<String, Value>) -> Option<(u8, Option<String>)> {
    let number = |name: &str| fields.get(name).and_then(Value::as_f64);
    let of_total = || Some(number("current")? / number("total").filter(|it| *it > 0.0)? * 100.0);
    let value = number("progress").or_else(of_total)?;
    let text = ["message", "status"].iter().find_map(|it| fields.get(*it)?.as_str());
    Some((percent(&Value::from(value))?, text.map(str::to_owned)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is clamped to 0..=100"
)]
fn percent(value: &Value) -> Option<u8> {
    value.as_f64().map(|it| it.clamp(0.0, 100.0) as u8)
}

/// What a task that ended well says of work that did not.
fn reported_error(fields: &Map<String, Value>) -> Option<String> {
    let failed = fields.get("status").and_then(Value::as_str).is_some_and(|it| it == "failed");
    let error = fields.get("error").and_then(Value::as_str).filter(|it| !it.is_empty());
    match (failed, error) {
        (_, Some(error)) => Some(shortened(error)),
        (true, None) => Some("the task reported a failure".to_owned()),
        (false, None) => None,
    }
}

/// What a failure says: `ValueError: boom` from an exception, else the text that is there.
fn error_text(result: &Value) -> String {
    let text = match result {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let kind = fields.get("exc_type").and_then(Value::as_str);
            let said =
                ["exc_message", "error", "message", "detail"].iter().find_map(|it| fields.get(*it));
            let said = said.map(|it| match it {
                Value::String(text) => text.clone(),
                Value::Array(parts) => {
                    let part =
                        |it: &Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
                    parts.iter().map(part).collect::<Vec<_>>().join(", ")
                }
                other => other.to_string(),
            });
            match (kind, said) {
                (Some(kind), Some(said)) => format!("{kind}: {said}"),
                (Some(text), None) => text.to_owned(),
                (None, Some(said)) => said,
                (None, None) => String::new(),
            }
        }
        _ => String::new(),
    };
    if text.is_empty() { "the task failed".to_owned() } else { shortened(&text) }
}

fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 1000;
    text.chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::exception(json!({"exc_type": "ValueError", "exc_message": ["boom"], "exc_module": "builtins"}), "ValueError: boom")]
    #[case::time_limit(json!({"exc_type": "TimeLimitExceeded", "exc_message": ["TimeLimitExceeded(1,)"]}), "TimeLimitExceeded: TimeLimitExceeded(1,)")]
    #[case::plain(json!({"error": "no mesh"}), "no mesh")]
    #[case::text(json!("no mesh"), "no mesh")]
    #[case::nothing(json!(null), "the task failed")]
    #[case::numbers(json!({"exc_type": "OSError", "exc_message": [28, "No space left"]}), "OSError: 28, No space left")]
    fn a_failure_says_why(#[case] result: Value, #[case] expected: &str) {
        let message = json!({"status": "FAILURE", "result": result, "task_id": "x"}).to_string();
        match Update::parse(message.as_bytes()).unwrap() {
            Update::Failed { error, .. } => assert_eq!(error, expected),
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[case(json!({"current": 1, "total": 4, "status": "meshing"}), Some((25, Some("meshing".to_owned()))))]
    #[case(json!({"progress": 70.9}), Some((70, None)))]
    #[case(json!({"current": 1, "total": 0}), None)]
    #[case(json!({"progress": 1e300}), Some((100, None)))]
    #[case(json!("text"), None)]
    fn progress_of_the_whole(
        #[case] result: Value,
        #[case] expected: Option<(u8, Option<String>)>,
    ) {
        let message = json!({"status": "PROGRESS", "result": result}).to_string();
        match Update::parse(message.as_bytes()).unwrap() {
            Update::Progress(said) => assert_eq!(said.overall, expected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_are_read_one_by_one() {
        let message = json!({"status": "PROGRESS", "result": {"job_id": "j", "files": {
            "file_000": {"progress": 40, "message": "meshing"},
            "file_001": {"status": "failed", "error": "no mesh"},
            "file_002": {"status": "completed", "result": {"url": "missing the rest"}},
            "../etc": {"progress": 1},
        }}});
        let Update::Progress(said) = Update::parse(message.to_string().as_bytes()).unwrap() else {
            panic!()
        };
        assert_eq!((said.reports.len(), said.results.len()), (1, 2));
        assert!(said.results.iter().any(|it| it.1.is_err()));
    }

    #[test]
    fn a_huge_message_is_read_without_what_it_carries() {
        let message =
            json!({"status": "SUCCESS", "result": {"error": "x".repeat(10 << 20)}}).to_string();
        assert!(
            matches!(Update::parse(message.as_bytes()).unwrap(), Update::Succeeded(said) if said.error.is_none())
        );
    }

    #[rstest]
    #[case(b"")]
    #[case(b"not json")]
    #[case(b"[]")]
    #[case(b"{\"status\": 1}")]
    #[case(b"\xff\xfe")]
    fn anything_else_is_refused(#[case] payload: &[u8]) {
        assert!(Update::parse(payload).is_err());
    }
}
