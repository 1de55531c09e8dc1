//! Celery's message format: protocol 2 over kombu's Redis transport.
//!
//! Source: Celery, “Message Protocol”; kombu `transport/virtual` and `transport/redis`. Malformed messages harm
//! workers: a worker exits on a message that has no content type or whose body does not have three elements, requeues a
//! message without id forever, and silently drops a message without `delivery_tag`, `delivery_info` or properties.
//! Therefore every message is serialized from these structs.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    ids::{FileId, JobId},
};

/// The call of a task by a worker.
pub(super) struct TaskCall<'a> {
    pub(super) task: &'a str,
    pub(super) queue: &'a str,
    pub(super) priority: u8,
    pub(super) id: Uuid,
    pub(super) args: Value,
    pub(super) kwargs: Value,
    pub(super) job: JobId,
    /// All files of the job's attempt.
    pub(super) files: &'a [FileId],
    /// The file of the task, if tasks are sent per file.
    pub(super) file: Option<FileId>,
    /// W3C Trace Context, sent as a message header.
    pub(super) traceparent: Option<&'a str>,
}

#[derive(Serialize)]
struct Message<H> {
    body: String,
    #[serde(rename = "content-encoding")]
    content_encoding: &'static str,
    #[serde(rename = "content-type")]
    content_type: &'static str,
    headers: H,
    properties: Properties,
}

#[derive(Serialize)]
struct TaskHeaders<'a> {
    lang: &'static str,
    task: &'a str,
    id: Uuid,
    root_id: Uuid,
    parent_id: Option<Uuid>,
    group: Option<Uuid>,
    retries: u32,
    eta: Option<&'a str>,
    expires: Option<&'a str>,
    timelimit: [Option<u32>; 2],
    argsrepr: String,
    kwargsrepr: String,
    origin: &'static str,
    ignore_result: bool,
    job_id: JobId,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<FileId>,
    /// Files of the task, in the order of its arguments; only if the task is for a whole job.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_ids: Option<&'a [FileId]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

#[derive(Serialize)]
struct Properties {
    correlation_id: Uuid,
    reply_to: &'static str,
    delivery_mode: u8,
    delivery_info: DeliveryInfo,
    priority: u8,
    body_encoding: &'static str,
    delivery_tag: Uuid,
}

#[derive(Serialize)]
struct DeliveryInfo {
    exchange: String,
    routing_key: String,
}

impl Properties {
    fn new(id: Uuid, exchange: &str, routing_key: &str, priority: u8) -> Self {
        Self {
            correlation_id: id,
            reply_to: "",
            delivery_mode: 2,
            delivery_info: DeliveryInfo {
                exchange: exchange.to_owned(),
                routing_key: routing_key.to_owned(),
            },
            priority,
            body_encoding: "base64",
            delivery_tag: Uuid::new_v4(),
        }
    }
}

impl TaskCall<'_> {
    /// The text to push to the queue's list.
    pub(super) fn to_message(&self) -> Result<String> {
        let embed = json!({"callbacks": null, "errbacks": null, "chain": null, "chord": null});
        let message = Message {
            body: encode_body(&json!([self.args, self.kwargs, embed])),
            content_encoding: "utf-8",
            content_type: "application/json",
            headers: TaskHeaders {
                lang: "rs",
                task: self.task,
                id: self.id,
                root_id: self.id,
                parent_id: None,
                group: None,
                retries: 0,
                eta: None,
                expires: None,
                timelimit: [None, None],
                argsrepr: truncate(&self.args),
                kwargsrepr: truncate(&self.kwargs),
                origin: env!("CARGO_PKG_NAME"),
                ignore_result: false,
                job_id: self.job,
                file_id: self.file,
                file_ids: self.file.is_none().then_some(self.files),
                traceparent: self.traceparent,
            },
            properties: Properties::new(self.id, "", self.queue, self.priority),
        };
        encode(&message)
    }
}

/// The message that makes every listening worker drop a task and terminate the process that runs it.
pub(super) fn revoke(task: Uuid) -> Result<String> {
    let method = json!({
        "method": "revoke",
        "arguments": {"task_id": task, "terminate": true, "signal": "SIGTERM"},
        "destination": null, "pattern": null, "matcher": null,
    });
    let headers: Map<String, Value> =
        [("clock".to_owned(), json!(1)), ("expires".to_owned(), Value::Null)].into_iter().collect();
    encode(&Message {
        body: encode_body(&method),
        content_encoding: "utf-8",
        content_type: "application/json",
        headers,
        properties: Properties::new(Uuid::new_v4(), "celery.pidbox", "", 0),
    })
}

/// The channel on which workers of `database` listen for [`revoke`].
pub(super) fn pidbox_channel(database: u8) -> String {
    format!("/{database}.celery.pidbox")
}

/// The channel on which workers of `database` publish heartbeats.
pub(crate) fn heartbeat_channel(database: u8) -> String {
    format!("/{database}.celeryev/worker.heartbeat")
}

/// The key of the list of `queue` for a priority. kombu has the priority steps 0, 3, 6 and 9; 0 is served first.
pub(super) fn queue_key(queue: &str, priority: u8) -> String {
    match priority / 3 * 3 {
        0 => queue.to_owned(),
        step => format!("{queue}\u{6}\u{16}{}", step.min(9)),
    }
}

/// The keys of all lists of `queue`, in the order in which they are served.
pub(super) fn queue_keys(queue: &str) -> [String; 4] {
    [0, 3, 6, 9].map(|priority| queue_key(queue, priority))
}

/// The job of a message; `None` if the service did not build the message.
pub(super) fn parse_job_id(message: &[u8]) -> Option<JobId> {
    let message: Value = serde_json::from_slice(message).ok()?;
    message["headers"]["job_id"].as_str()?.parse().ok()
}

fn encode_body(body: &Value) -> String {
    STANDARD.encode(body.to_string())
}

fn encode(message: &impl Serialize) -> Result<String> {
    serde_json::to_string(message)
        .map_err(|error| Error::CorruptData { what: "Celery message", reason: error.to_string() })
}

/// The text of arguments that Flower and the worker logs show.
fn truncate(value: &Value) -> String {
    const MAX_CHARS: usize = 200;
    value.to_string().chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "q")]
    #[case(2, "q")]
    #[case(3, "q\u{6}\u{16}3")]
    #[case(8, "q\u{6}\u{16}6")]
    #[case(9, "q\u{6}\u{16}9")]
    fn each_priority_step_has_its_own_list(#[case] priority: u8, #[case] key: &str) {
        assert_eq!(queue_key("q", priority), key);
    }

    #[test]
    fn a_message_has_the_fields_that_a_worker_needs() {
        let (id, job) = (Uuid::new_v4(), JobId::random());
        let call = TaskCall {
            task: "app.work",
            queue: "q",
            priority: 0,
            id,
            args: json!([job, ["a.png"]]),
            kwargs: json!({}),
            job,
            files: &[],
            file: None,
            traceparent: None,
        };
        let message: Value = serde_json::from_str(&call.to_message().unwrap()).unwrap();
        assert_eq!(message["content-type"], "application/json");
        assert_eq!(message["headers"]["id"], id.to_string());
        assert_eq!(
            message["properties"]["delivery_info"],
            json!({"exchange": "", "routing_key": "q"})
        );
        assert!(message["properties"]["delivery_tag"].is_string());
        let body = STANDARD.decode(message["body"].as_str().unwrap()).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body.as_array().unwrap().len(), 3);
        assert_eq!(body[0], json!([job, ["a.png"]]));
    }
}
