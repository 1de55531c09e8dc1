//! Settings of the way to Celery workers.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::settings::{Secret, Time, check_between};

/// How jobs reach Celery workers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whether jobs are handed to Celery workers. Without, workers report over HTTP what they take elsewhere.
    pub enabled: bool,
    /// The broker: `redis://[user:password@]host:port/database` or `redis+socket:///path?virtual_host=database`; empty for
    /// database 0 of `redis`.
    pub broker_url: Secret,
    /// Where workers store results; empty for the broker.
    pub result_url: Secret,
    /// The task's name.
    pub task: String,
    /// The queue.
    pub queue: String,
    /// 0 to 9, in steps of three; 0 is served first.
    pub priority: u8,
    /// What one task is given.
    pub per: Per,
    /// Positional arguments: a JSON array, in which `$job_id`, `$files`, `$filenames`, `$file_ids` and `$params` stand for
    /// the job's, and with `per = "file"` `$file`, `$file_id` and `$filename` for the file's.
    pub args: String,
    /// Keyword arguments: a JSON object with the same.
    pub kwargs: String,
    /// How long running work may take to stop when its job is cancelled; then the job is cancelled without it.
    #[serde(with = "Time")]
    pub cancel_grace: Duration,
    /// Time between looks for what was left undone: tasks not handed over, cancellations, results not heard.
    #[serde(with = "Time")]
    pub tick: Duration,
    /// Work without a sign of life for this long is stalled.
    #[serde(with = "Time")]
    pub stalled_after: Duration,
    /// What is done about stalled work.
    pub on_stalled: OnStalled,
}

/// What one task is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// A whole job.
    Job,
    /// One file.
    File,
}

/// What is done about stalled work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnStalled {
    /// Nothing: it is logged and shown to operators.
    Show,
    /// Its job, or its file, fails.
    Fail,
    /// It is sent again, once more each time.
    Resend,
}

/// What stands in `args` and `kwargs` for a part of the job.
pub(super) const PLACEHOLDERS: [&str; 8] =
    ["$job_id", "$files", "$filenames", "$file_ids", "$params", "$file", "$file_id", "$filename"];

impl Config {
    pub(crate) fn check(&self) -> Result<()> {
        let ms = Duration::from_millis;
        check_between("cancel_grace", self.cancel_grace, ms(0), Duration::from_hours(24))?;
        check_between("tick", self.tick, ms(10), Duration::from_hours(1))?;
        if self.priority > 9 {
            bail!("priority is {}; it has to be between 0 and 9", self.priority);
        }
        if self.task.is_empty() || self.queue.is_empty() {
            bail!("task and queue must not be empty");
        }
        if !self.template("args", &self.args)?.is_array() {
            bail!("args is no JSON array: {}", self.args);
        }
        if !self.template("kwargs", &self.kwargs)?.is_object() {
            bail!("kwargs is no JSON object: {}", self.kwargs);
        }
        Ok(())
    }

    fn template(&self, name: &str, text: &str) -> Result<Value> {
        let value: Value =
            serde_json::from_str(text).with_context(|| format!("{name} is no JSON: {text}"))?;
        let only_for_files = ["$file", "$file_id", "$filename"];
        for word in words(&value) {
            if !PLACEHOLDERS.contains(&word) {
                bail!("{name} holds {word}; known are {}", PLACEHOLDERS.join(", "));
            }
            if self.per == Per::Job && only_for_files.contains(&word) {
                bail!("{name} holds {word}, which needs per = \"file\"");
            }
        }
        Ok(value)
    }
}

/// The texts in `value` that begin with a dollar sign.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) if text.starts_with('$') => vec![text],
        Value::Array(items) => items.iter().flat_map(words).collect(),
        Value::Object(map) => map.values().flat_map(words).collect(),
        _ => Vec::new(),
    }
}
