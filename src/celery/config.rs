//! Settings of Celery.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::settings::{HumanDuration, Secret, validate_range};

/// Sending jobs to Celery workers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Send jobs to Celery workers. If false, workers get jobs by other means and report over HTTP.
    pub enabled: bool,
    /// Broker URL: `redis://[user:password@]host:port/database` or `redis+socket:///path?virtual_host=database`. If
    /// empty, the broker is database 0 of `redis`.
    pub broker_url: Secret,
    /// URL of Celery's result backend, in the same form. If empty, the broker stores the results.
    pub result_url: Secret,
    /// Name of the Celery task.
    pub task: String,
    /// Name of the Celery queue.
    pub queue: String,
    /// Priority of the tasks, 0 to 9 in steps of three; priority 0 is served first.
    pub priority: u8,
    /// Send one task per job or one task per file.
    pub task_granularity: TaskGranularity,
    /// Positional arguments of a task: a JSON array. The placeholders `$job_id`, `$files`, `$filenames`, `$file_ids`
    /// and `$params` are replaced by values of the job and, with `task_granularity = "file"`, `$file`, `$file_id` and `$filename` by
    /// values of the file.
    pub args: String,
    /// Keyword arguments of a task: a JSON object with the same placeholders.
    pub kwargs: String,
    /// Time that workers have to stop running tasks of a cancelled job. After that the job is cancelled without them.
    #[serde(with = "HumanDuration")]
    pub cancel_grace: Duration,
    /// Interval at which the leader sends tasks left in the outbox, ends overdue cancellations, reads missed results
    /// and checks for stalled tasks.
    #[schemars(extend("x-tuning" = true))]
    #[serde(with = "HumanDuration")]
    pub poll_interval: Duration,
    /// A task that a worker took is stalled after this time without a heartbeat or result message.
    #[serde(with = "HumanDuration")]
    pub stalled_after: Duration,
    /// Action on stalled tasks.
    pub on_stalled: OnStalled,
}

/// Granularity of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskGranularity {
    /// One task per job.
    Job,
    /// One task per file.
    File,
}

/// Action on stalled tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnStalled {
    /// Log the task and list it under `/api/v1/admin/queues`.
    Show,
    /// Fail the task's job or, with `task_granularity = "file"`, its file.
    Fail,
    /// Send the task again each time it stalls.
    Resend,
}

/// Strings in `args` and `kwargs` that are replaced by values of the job or file.
pub(super) const PLACEHOLDERS: [&str; 8] =
    ["$job_id", "$files", "$filenames", "$file_ids", "$params", "$file", "$file_id", "$filename"];

impl Config {
    pub(crate) fn validate(&self) -> Result<()> {
        let ms = Duration::from_millis;
        validate_range("cancel_grace", self.cancel_grace, ms(0), Duration::from_hours(24))?;
        validate_range("poll_interval", self.poll_interval, ms(10), Duration::from_hours(1))?;
        if self.priority > 9 {
            bail!("priority is {}; it has to be between 0 and 9", self.priority);
        }
        if self.task.is_empty() || self.queue.is_empty() {
            bail!("task and queue must not be empty");
        }
        if !self.parse_template("args", &self.args)?.is_array() {
            bail!("args is not a JSON array: {}", self.args);
        }
        if !self.parse_template("kwargs", &self.kwargs)?.is_object() {
            bail!("kwargs is not a JSON object: {}", self.kwargs);
        }
        Ok(())
    }

    fn parse_template(&self, name: &str, text: &str) -> Result<Value> {
        let template: Value = serde_json::from_str(text)
            .with_context(|| format!("{name} is not valid JSON: {text}"))?;
        let only_for_files = ["$file", "$file_id", "$filename"];
        for word in placeholders(&template) {
            if !PLACEHOLDERS.contains(&word) {
                bail!("{name} contains {word}; known placeholders are {}", PLACEHOLDERS.join(", "));
            }
            if self.task_granularity == TaskGranularity::Job && only_for_files.contains(&word) {
                bail!("{name} contains {word}, which needs per = \"file\"");
            }
        }
        Ok(template)
    }
}

/// All strings in `template` that begin with a dollar sign, known or not.
fn placeholders(template: &Value) -> Vec<&str> {
    match template {
        Value::String(text) if text.starts_with('$') => vec![text],
        Value::Array(items) => items.iter().flat_map(placeholders).collect(),
        Value::Object(fields) => fields.values().flat_map(placeholders).collect(),
        _ => Vec::new(),
    }
}
