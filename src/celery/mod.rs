//! Tasks for Celery workers: made, handed to the broker exactly once, and taken back.
//!
//! Creating a job notes its tasks in the same script (the outbox); handing them over is a second step that may
//! be repeated by anybody until it is done. The broker's own mark of each task makes the repetition harmless.

mod config;
mod protocol;
mod queues;
mod store;

use std::sync::Arc;

use anyhow::{Context as _, Result as AnyResult};
use serde_json::{Map, Value, json};
use tracing::warn;
use uuid::Uuid;

pub(crate) use self::config::{Config, OnStalled, Per};
pub(crate) use self::{
    protocol::heartbeat_channel,
    queues::QueueReport,
    store::{Assignment, Parcel},
};
use crate::{
    error::Result,
    ids::{FileId, JobId},
    redis::{Config as RedisConfig, DatabaseId, Pool, Subscriber},
    store::{Database, Redis},
    tasks::Tasks,
};

/// The way to Celery workers. Cheap to clone.
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
    /// Results as they come, and signs of life.
    messages: Subscriber,
}

/// What workers shall do.
pub(crate) struct Order<'a> {
    pub(crate) job: JobId,
    /// Which attempt of the job this is; the first is 1.
    pub(crate) attempt: u32,
    /// Each file with what is stored of it.
    pub(crate) files: Vec<(FileId, Value)>,
    pub(crate) params: &'a Map<String, Value>,
    /// W3C Trace Context of the request behind it.
    pub(crate) traceparent: Option<&'a str>,
}

impl Celery {
    /// `None` if jobs are not handed to Celery.
    pub(crate) fn start(
        config: &Config,
        redis_config: &RedisConfig,
        redis: &Redis,
        tasks: &Tasks,
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
                "celery.broker_url: a Redis Cluster cannot be a broker of Celery, so name another Redis",
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

    /// The tasks of an order: one, or one a file.
    pub(crate) fn parcels(&self, order: &Order<'_>) -> Result<Vec<Parcel>> {
        match self.0.config.per {
            Per::Job => {
                // The deployed front-end takes the job's id for the task's.
                let id = if order.attempt == 1 { order.job.as_uuid() } else { task_id(order.job) };
                Ok(vec![self.parcel(order, id, None)?])
            }
            Per::File => {
                let files = order.files.iter();
                files.map(|it| self.parcel(order, task_id(order.job), Some(it))).collect()
            }
        }
    }

    fn parcel(
        &self,
        order: &Order<'_>,
        id: Uuid,
        file: Option<&(FileId, Value)>,
    ) -> Result<Parcel> {
        let config = &self.0.config;
        let files: Vec<FileId> = order.files.iter().map(|it| it.0).collect();
        let call = protocol::Call {
            task: &config.task,
            queue: &config.queue,
            priority: config.priority,
            id,
            args: fill(&self.0.args, order, file),
            kwargs: fill(&self.0.kwargs, order, file),
            job: order.job,
            files: &files,
            file: file.map(|it| it.0),
            traceparent: order.traceparent,
        };
        Ok(Parcel {
            task: id,
            file: file.map(|it| it.0),
            queue_key: protocol::queue_key(&config.queue, config.priority),
            message: call.to_message()?,
        })
    }

    /// Hands over what a script has noted in the outbox. What fails now is done by [`Celery::send_outbox`].
    pub(crate) async fn send(&self, parcels: &[Parcel]) {
        if let Err(error) = self.try_send(parcels).await {
            self.0.redis.metrics().celery.send_failures.inc();
            warn!(%error, n_tasks = parcels.len(), "could not hand over tasks yet; trying again soon");
        }
    }

    async fn try_send(&self, parcels: &[Parcel]) -> Result<()> {
        if parcels.is_empty() {
            return Ok(());
        }
        store::send(&self.0.broker, parcels).await?;
        self.0.redis.metrics().celery.sent.inc_by(parcels.len() as u64);
        store::clear_outbox(&self.0.redis, parcels.iter().map(|it| it.task)).await
    }

    /// Hands over what was left in the outbox for longer than `older_than_ms`. Returns how many tasks.
    pub(crate) async fn send_outbox(&self, older_than_ms: u64) -> Result<usize> {
        const AT_ONCE: usize = 100;
        let left = store::left_in_outbox(&self.0.redis, older_than_ms, AT_ONCE).await?;
        self.try_send(&left).await?;
        Ok(left.len())
    }

    /// Takes tasks back. Returns whether no worker has any of them.
    pub(crate) async fn withdraw(&self, parcels: &[Parcel]) -> Result<bool> {
        let pidbox = protocol::pidbox_channel(self.0.broker_database);
        Ok(store::withdraw(&self.0.broker, &pidbox, parcels).await? == parcels.len())
    }

    /// Which job a task works on, if it is one of ours.
    pub(crate) async fn assignment(&self, task: Uuid) -> Result<Option<Assignment>> {
        store::assignment(&self.0.redis, task).await
    }

    /// A task has shown a sign of life.
    pub(crate) async fn touch(&self, task: Uuid) -> Result<()> {
        store::touch(&self.0.redis, task).await
    }

    /// Tasks that have not ended, at most `limit`, those silent the longest first; with `silent_for_ms`, only those
    /// silent for longer.
    pub(crate) async fn active(&self, silent_for_ms: u64, limit: usize) -> Result<Vec<Uuid>> {
        store::active(&self.0.redis, silent_for_ms, limit).await
    }

    /// The stored results of tasks, as JSON text.
    pub(crate) async fn stored_results(&self, tasks: &[Uuid]) -> Result<Vec<(Uuid, Vec<u8>)>> {
        store::stored_results(&self.0.results, tasks).await
    }

    /// Whether a task still stands in its queue, or in the outbox.
    pub(crate) async fn still_waits(&self, task: Uuid) -> Result<bool> {
        let Some(of) = self.assignment(task).await? else { return Ok(false) };
        let parcels = store::parcels_of(&self.0.redis, of.job).await?;
        match parcels.iter().find(|it| it.task == task) {
            Some(parcel) => Ok(store::position(&self.0.broker, parcel).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Sends a task again: the broker forgets that it had it.
    pub(crate) async fn resend(&self, task: Uuid) -> Result<()> {
        store::unmark(&self.0.broker, task).await?;
        store::back_to_outbox(&self.0.redis, task).await?;
        self.touch(task).await
    }

    /// Nothing more is expected of a task whose job is gone.
    pub(crate) async fn forget(&self, task: Uuid) -> Result<()> {
        store::forget(&self.0.redis, task).await
    }

    /// How many messages are served before a job's first task, if it still waits in the queue.
    pub(crate) async fn queue_position(&self, job: JobId) -> Result<Option<u64>> {
        let parcels = store::parcels_of(&self.0.redis, job).await?;
        match parcels.first() {
            Some(parcel) => store::position(&self.0.broker, parcel).await,
            None => Ok(None),
        }
    }

    /// What operators ask of the queue.
    pub(crate) async fn queue_report(&self) -> Result<QueueReport> {
        queues::report(&self.0.broker, &self.0.config.queue).await
    }
}

/// A random id that ends as the job's does: so what is kept of a task stands beside what is kept of its job, in a
/// cluster too.
fn task_id(job: JobId) -> Uuid {
    let mut bytes = Uuid::new_v4().into_bytes();
    bytes[15] = job.as_uuid().as_bytes()[15];
    Uuid::from_bytes(bytes)
}

/// Fills the placeholders of a template; see `config::PLACEHOLDERS`.
fn fill(template: &Value, order: &Order<'_>, file: Option<&(FileId, Value)>) -> Value {
    let names = || order.files.iter().map(|it| it.1["filename"].clone()).collect();
    match template {
        Value::String(word) => match word.as_str() {
            "$job_id" => json!(order.job),
            "$files" => order.files.iter().map(|it| it.1.clone()).collect(),
            "$filenames" => names(),
            "$file_ids" => order.files.iter().map(|it| json!(it.0)).collect(),
            "$params" => Value::Object(order.params.clone()),
            "$file" => file.map_or(Value::Null, |it| it.1.clone()),
            "$file_id" => json!(file.map(|it| it.0)),
            "$filename" => file.map_or(Value::Null, |it| it.1["filename"].clone()),
            _ => template.clone(),
        },
        Value::Array(items) => items.iter().map(|it| fill(it, order, file)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(name, it)| (name.clone(), fill(it, order, file)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}
