//! Celery result messages, parsed leniently: any task of any version may have written one.
//!
//! Source: Celery `backends/base.py`, `_get_result_meta`; the tests contain messages of real workers.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{ids::FileId, jobs::FileResult, progress::ProgressUpdate};

/// The state of a task that a message reports.
#[derive(Debug)]
pub(super) enum TaskUpdate {
    Started,
    Progress(TaskReport),
    Succeeded(TaskReport),
    Failed {
        error: String,
        report: TaskReport,
    },
    Revoked,
    /// Only shows that the task is alive.
    Heartbeat,
}

/// The state of the job and its files that a message reports.
#[derive(Debug, Default)]
pub(super) struct TaskReport {
    /// Progress of files that are being processed.
    pub(super) file_progress: Vec<ProgressUpdate>,
    /// Results of finished files; an error for a result that could not be parsed.
    pub(super) results: Vec<(FileId, Result<FileResult, String>)>,
    /// Percentage of the whole job and a message, from tasks that do not report per file.
    pub(super) overall: Option<(u8, Option<String>)>,
    /// A task can succeed in Celery and still report that its work failed.
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    status: String,
    #[serde(default)]
    result: Value,
}

/// The part of a message that is parsed if the message is too large.
#[derive(Deserialize)]
struct Header {
    status: String,
}

/// The result of a larger message is not parsed.
const MAX_BYTES: usize = 1 << 20;

impl TaskUpdate {
    /// # Errors
    ///
    /// The reason why the payload is not a Celery result message.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, String> {
        let message = if payload.len() > MAX_BYTES {
            let header: Header =
                serde_json::from_slice(payload).map_err(|error| error.to_string())?;
            Message { status: header.status, result: Value::Null }
        } else {
            serde_json::from_slice(payload).map_err(|error| error.to_string())?
        };
        Ok(match message.status.as_str() {
            "PENDING" | "RECEIVED" | "RETRY" => Self::Heartbeat,
            "STARTED" => Self::Started,
            "SUCCESS" => Self::Succeeded(TaskReport::parse(&message.result)),
            "FAILURE" => Self::Failed {
                error: error_text(&message.result),
                report: TaskReport::parse(&message.result),
            },
            "REVOKED" => Self::Revoked,
            // PROGRESS, or a custom state of the task.
            _ => Self::Progress(TaskReport::parse(&message.result)),
        })
    }
}

impl TaskReport {
    fn parse(result: &Value) -> Self {
        let Value::Object(fields) = result else { return Self::default() };
        let mut report = Self { error: reported_error(fields), ..Self::default() };
        match fields.get("files") {
            Some(Value::Object(files)) => {
                for (file, state) in files {
                    if let Ok(file) = file.parse() {
                        report.parse_file(file, state);
                    }
                }
            }
            _ => report.overall = parse_overall(fields),
        }
        report
    }

    fn parse_file(&mut self, file: FileId, state: &Value) {
        let status = state.get("status").and_then(Value::as_str).unwrap_or_default();
        if matches!(status, "completed" | "failed") {
            let result = serde_json::from_value(state.clone()).map_err(|error| error.to_string());
            self.results.push((file, result));
            return;
        }
        let Some(percent) = state.get("progress").and_then(parse_percent) else { return };
        let message = state.get("message").and_then(Value::as_str).map(str::to_owned);
        let attempt = state.get("attempt").and_then(Value::as_u64);
        let attempt = attempt.and_then(|attempt| u32::try_from(attempt).ok());
        if let Ok(progress) = ProgressUpdate::new(file, percent, message, attempt) {
            self.file_progress.push(progress);
        }
    }
}

/// The percentage from `progress`, or from `current` and `total`, with the text of `message` or `status`.
fn parse_overall(fields: &Map<String, Value>) -> Option<(u8, Option<String>)> {
    let number = |name: &str| fields.get(name).and_then(Value::as_f64);
    let share_of_total =
        || Some(number("current")? / number("total").filter(|total| *total > 0.0)? * 100.0);
    let value = number("progress").or_else(share_of_total)?;
    let text = ["message", "status"].iter().find_map(|name| fields.get(*name)?.as_str());
    Some((parse_percent(&Value::from(value))?, text.map(str::to_owned)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is clamped to 0..=100"
)]
fn parse_percent(value: &Value) -> Option<u8> {
    value.as_f64().map(|percent| percent.clamp(0.0, 100.0) as u8)
}

/// The error in the result of a task: `error`, or a default text if `status` is `failed`.
fn reported_error(fields: &Map<String, Value>) -> Option<String> {
    let status = fields.get("status").and_then(Value::as_str);
    let error = fields.get("error").and_then(Value::as_str).filter(|error| !error.is_empty());
    match (status, error) {
        (_, Some(error)) => Some(truncate(error)),
        (Some("failed"), None) => Some("the task reported a failure".to_owned()),
        (_, None) => None,
    }
}

/// The error of a failed task: `ValueError: boom` for an exception, otherwise the text that the result contains.
fn error_text(result: &Value) -> String {
    let text = match result {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let exception = fields.get("exc_type").and_then(Value::as_str);
            let message = ["exc_message", "error", "message", "detail"]
                .iter()
                .find_map(|name| fields.get(*name))
                .map(message_text);
            match (exception, message) {
                (Some(exception), Some(message)) => format!("{exception}: {message}"),
                (Some(text), None) => text.to_owned(),
                (None, Some(message)) => message,
                (None, None) => String::new(),
            }
        }
        _ => String::new(),
    };
    if text.is_empty() { "the task failed".to_owned() } else { truncate(&text) }
}

/// Celery stores the arguments of an exception as a list.
fn message_text(message: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match message {
        Value::Array(parts) => parts.iter().map(text).collect::<Vec<_>>().join(", "),
        other => text(other),
    }
}

fn truncate(text: &str) -> String {
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
    fn a_failure_has_an_error_text(#[case] result: Value, #[case] expected: &str) {
        let message = json!({"status": "FAILURE", "result": result, "task_id": "x"}).to_string();
        match TaskUpdate::parse(message.as_bytes()).unwrap() {
            TaskUpdate::Failed { error, .. } => assert_eq!(error, expected),
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[case(json!({"current": 1, "total": 4, "status": "meshing"}), Some((25, Some("meshing".to_owned()))))]
    #[case(json!({"progress": 70.9}), Some((70, None)))]
    #[case(json!({"current": 1, "total": 0}), None)]
    #[case(json!({"progress": 1e300}), Some((100, None)))]
    #[case(json!("text"), None)]
    fn overall_progress_is_parsed(
        #[case] result: Value,
        #[case] expected: Option<(u8, Option<String>)>,
    ) {
        let message = json!({"status": "PROGRESS", "result": result}).to_string();
        match TaskUpdate::parse(message.as_bytes()).unwrap() {
            TaskUpdate::Progress(report) => assert_eq!(report.overall, expected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_invalid_file_does_not_affect_the_others() {
        let message = json!({"status": "PROGRESS", "result": {"job_id": "j", "files": {
            "file_000": {"progress": 40, "message": "meshing"},
            "file_001": {"status": "failed", "error": "no mesh"},
            "file_002": {"status": "completed", "result": {"url": "missing the rest"}},
            "../etc": {"progress": 1},
        }}});
        let TaskUpdate::Progress(report) =
            TaskUpdate::parse(message.to_string().as_bytes()).unwrap()
        else {
            panic!()
        };
        assert_eq!((report.file_progress.len(), report.results.len()), (1, 2));
        assert!(report.results.iter().any(|(_, result)| result.is_err()));
    }

    #[test]
    fn the_result_of_a_huge_message_is_not_parsed() {
        let message =
            json!({"status": "SUCCESS", "result": {"error": "x".repeat(10 << 20)}}).to_string();
        assert!(
            matches!(TaskUpdate::parse(message.as_bytes()).unwrap(), TaskUpdate::Succeeded(report) if report.error.is_none())
        );
    }

    #[rstest]
    #[case(b"")]
    #[case(b"not json")]
    #[case(b"[]")]
    #[case(b"{\"status\": 1}")]
    #[case(b"\xff\xfe")]
    fn other_payloads_are_rejected(#[case] payload: &[u8]) {
        assert!(TaskUpdate::parse(payload).is_err());
    }
}
