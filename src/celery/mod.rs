//! Celery tasks: building them, sending each to the broker exactly once, and revoking them.
//!
//! The script that creates a job writes its tasks to an outbox in the same step. Sending them is a second step that any
//! process may repeat until it succeeds: a marker per task at the broker (`i2m:sent:{task_id}`) prevents duplicates.

mod config;
mod protocol;
mod queues;
mod store;

use std::sync::Arc;

use anyhow::{Context as _, Result as AnyResult};
use serde_json::{Map, Value, json};
use tracing::warn;
use uuid::Uuid;

pub(crate) use self::config::{Config, OnStalled, TaskGranularity};
pub(crate) use self::{
    protocol::heartbeat_channel,
    queues::QueueReport,
    store::{Assignment, TaskMessage},
};
use crate::{
    error::Result,
    ids::{FileId, JobId},
    redis::{Config as RedisConfig, DatabaseId, Pool, Subscriber},
    store::{Database, Redis},
    tasks::TaskSupervisor,
};

/// Client of the Celery broker and its result backend. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Celery(Arc<Inner>);

struct Inner {
    config: Config,
    redis: Redis,
    broker: Pool,
    broker_database: u8,
    results: Pool,
    args: Value,
    kwargs: Value,
    /// Published results, and heartbeats of workers.
    messages: Subscriber,
}

/// The work of one attempt of a job, from which its tasks are built.
pub(crate) struct TaskRequest<'a> {
    pub(crate) job: JobId,
    /// Attempt of the job; the first is 1.
    pub(crate) attempt: u32,
    /// Each file with its stored record.
    pub(crate) files: Vec<(FileId, Value)>,
    pub(crate) params: &'a Map<String, Value>,
    /// W3C Trace Context of the request that created or retried the job.
    pub(crate) traceparent: Option<&'a str>,
}

impl Celery {
    /// Connects to the broker. Returns `None` if `celery.enabled` is false.
    ///
    /// # Errors
    ///
    /// If a URL is invalid, or if Redis is a cluster and `celery.broker_url` is empty.
    pub(crate) fn start(
        config: &Config,
        redis_config: &RedisConfig,
        redis: &Redis,
        tasks: &TaskSupervisor,
    ) -> AnyResult<Option<Self>> {
        if !config.enabled {
            return Ok(None);
        }
        let connect = |url: &str, name| -> AnyResult<_> {
            let (address, database) = redis_config.endpoint_and_database(url)?;
            let id = DatabaseId { number: database, name };
            let metrics = &redis.metrics().redis;
            let server = Pool::start(redis_config, &address, id, tasks, metrics)?;
            Ok((server, address, database))
        };
        let (broker, address, broker_database) = if config.broker_url.is_empty() {
            let (server, address) = redis.broker().context(
                "celery.broker_url: a Redis Cluster cannot be a Celery broker; set the URL of another Redis",
            )?;
            (server.clone(), address.clone(), Database::Queue as u8)
        } else {
            connect(config.broker_url.expose(), "broker").context("celery.broker_url")?
        };
        let (results, result_address) = if config.result_url.is_empty() {
            (broker.clone(), address)
        } else {
            let (server, address, _) =
                connect(config.result_url.expose(), "results").context("celery.result_url")?;
            (server, address)
        };
        let patterns = vec!["celery-task-meta-*".to_owned(), heartbeat_channel(broker_database)];
        Ok(Some(Self(Arc::new(Inner {
            redis: redis.clone(),
            broker,
            broker_database,
            results,
            args: serde_json::from_str(&config.args)?,
            kwargs: serde_json::from_str(&config.kwargs)?,
            messages: Subscriber::start(
                redis_config,
                &result_address,
                patterns,
                tasks,
                redis.metrics().redis.subscriber_gaps.clone(),
            )?,
            config: config.clone(),
        }))))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn messages(&self) -> &Subscriber {
        &self.0.messages
    }

    /// Builds the tasks of `order`: one per job or one per file, as configured.
    pub(crate) fn build_messages(&self, order: &TaskRequest<'_>) -> Result<Vec<TaskMessage>> {
        match self.0.config.task_granularity {
            TaskGranularity::Job => {
                // The deployed front-end assumes that the task id is the job id.
                let id =
                    if order.attempt == 1 { order.job.as_uuid() } else { new_task_id(order.job) };
                Ok(vec![self.build_message(order, id, None)?])
            }
            TaskGranularity::File => {
                let files = order.files.iter();
                files
                    .map(|file| self.build_message(order, new_task_id(order.job), Some(file)))
                    .collect()
            }
        }
    }

    fn build_message(
        &self,
        order: &TaskRequest<'_>,
        id: Uuid,
        file: Option<&(FileId, Value)>,
    ) -> Result<TaskMessage> {
        let config = &self.0.config;
        let files: Vec<FileId> = order.files.iter().map(|(file, _)| *file).collect();
        let call = protocol::TaskCall {
            task: &config.task,
            queue: &config.queue,
            priority: config.priority,
            id,
            args: fill_template(&self.0.args, order, file),
            kwargs: fill_template(&self.0.kwargs, order, file),
            job: order.job,
            files: &files,
            file: file.map(|(file, _)| *file),
            traceparent: order.traceparent,
        };
        Ok(TaskMessage {
            task: id,
            file: file.map(|(file, _)| *file),
            queue_key: protocol::queue_key(&config.queue, config.priority),
            message: call.to_message()?,
        })
    }

    /// Sends tasks that a script has written to the outbox. If this fails, [`Celery::send_outbox`] sends them later.
    pub(crate) async fn send(&self, parcels: &[TaskMessage]) {
        if let Err(error) = self.try_send(parcels).await {
            self.0.redis.metrics().celery.send_failures.inc();
            warn!(%error, tasks = parcels.len(), "could not send tasks; they stay in the outbox and are retried");
        }
    }

    async fn try_send(&self, parcels: &[TaskMessage]) -> Result<()> {
        if parcels.is_empty() {
            return Ok(());
        }
        store::send(&self.0.broker, parcels).await?;
        self.0.redis.metrics().celery.sent.inc_by(parcels.len() as u64);
        store::clear_outbox(&self.0.redis, parcels.iter().map(|parcel| parcel.task)).await
    }

    /// Sends tasks that have been in the outbox for longer than `older_than_ms`. Returns their number.
    pub(crate) async fn send_outbox(&self, older_than_ms: u64) -> Result<usize> {
        const BATCH_SIZE: usize = 100;
        let pending = store::pending_outbox(&self.0.redis, older_than_ms, BATCH_SIZE).await?;
        self.try_send(&pending).await?;
        Ok(pending.len())
    }

    /// Revokes tasks. Returns whether none of them had been taken by a worker.
    pub(crate) async fn revoke(&self, parcels: &[TaskMessage]) -> Result<bool> {
        let pidbox = protocol::pidbox_channel(self.0.broker_database);
        Ok(store::revoke(&self.0.broker, &pidbox, parcels).await? == parcels.len())
    }

    /// Looks up the job and file of a task; `None` if the service did not send the task.
    pub(crate) async fn assignment(&self, task: Uuid) -> Result<Option<Assignment>> {
        store::assignment(&self.0.redis, task).await
    }

    /// Records that a worker reported about a task.
    pub(crate) async fn record_heartbeat(&self, task: Uuid) -> Result<()> {
        store::record_heartbeat(&self.0.redis, task).await
    }

    /// Unfinished tasks whose last heartbeat is older than `silent_for_ms`, the oldest heartbeat first, at most
    /// `limit`.
    pub(crate) async fn active(&self, silent_for_ms: u64, limit: usize) -> Result<Vec<Uuid>> {
        store::active(&self.0.redis, silent_for_ms, limit).await
    }

    /// The stored results of tasks, as JSON text.
    pub(crate) async fn stored_results(&self, tasks: &[Uuid]) -> Result<Vec<(Uuid, Vec<u8>)>> {
        store::stored_results(&self.0.results, tasks).await
    }

    /// Whether a task is still in its queue, so that no worker has taken it.
    pub(crate) async fn is_queued(&self, task: Uuid) -> Result<bool> {
        let Some(assignment) = self.assignment(task).await? else { return Ok(false) };
        let parcels = store::job_tasks(&self.0.redis, assignment.job).await?;
        match parcels.iter().find(|parcel| parcel.task == task) {
            Some(parcel) => Ok(store::position(&self.0.broker, parcel).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Schedules a task to be sent again: clears its marker at the broker and puts it back into the outbox.
    pub(crate) async fn resend(&self, task: Uuid) -> Result<()> {
        store::clear_sent_marker(&self.0.broker, task).await?;
        store::requeue(&self.0.redis, task).await?;
        self.record_heartbeat(task).await
    }

    /// Removes a task from the unfinished tasks, for example because its job was deleted.
    pub(crate) async fn untrack(&self, task: Uuid) -> Result<()> {
        store::untrack(&self.0.redis, task).await
    }

    /// Number of messages that are served before the job's first task; `None` if the task is not in the queue.
    pub(crate) async fn queue_position(&self, job: JobId) -> Result<Option<u64>> {
        let parcels = store::job_tasks(&self.0.redis, job).await?;
        match parcels.first() {
            Some(parcel) => store::position(&self.0.broker, parcel).await,
            None => Ok(None),
        }
    }

    /// The depth, age and messages in flight of the queue.
    pub(crate) async fn queue_report(&self) -> Result<QueueReport> {
        queues::report(&self.0.broker, &self.0.config.queue).await
    }
}

/// A random id with the last byte of the job's id. In a cluster this byte selects the partition, so the keys of a task
/// are in the partition of its job.
fn new_task_id(job: JobId) -> Uuid {
    let mut bytes = Uuid::new_v4().into_bytes();
    bytes[15] = job.as_uuid().as_bytes()[15];
    Uuid::from_bytes(bytes)
}

/// Replaces the placeholders of a template; see `config::PLACEHOLDERS`.
fn fill_template(
    template: &Value,
    order: &TaskRequest<'_>,
    file: Option<&(FileId, Value)>,
) -> Value {
    let records = || order.files.iter().map(|(_, record)| record);
    match template {
        Value::String(text) => match text.as_str() {
            "$job_id" => json!(order.job),
            "$files" => records().cloned().collect(),
            "$filenames" => records().map(|record| record["filename"].clone()).collect(),
            "$file_ids" => order.files.iter().map(|(file, _)| json!(file)).collect(),
            "$params" => Value::Object(order.params.clone()),
            "$file" => file.map_or(Value::Null, |(_, record)| record.clone()),
            "$file_id" => json!(file.map(|(file, _)| file)),
            "$filename" => file.map_or(Value::Null, |(_, record)| record["filename"].clone()),
            _ => template.clone(),
        },
        Value::Array(items) => items.iter().map(|item| fill_template(item, order, file)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), fill_template(value, order, file)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}
