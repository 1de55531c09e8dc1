//! Celery in Redis: the outbox and the assignments beside the jobs, queues and results at the broker.
//!
//! In the jobs database, all ours: `i2m:outbox`, `i2m:active`, `i2m:task:{task_id}`, `job:{id}:tasks`; see
//! `migrations-lua/shared/lifecycle.lua`. At the broker, beside Celery's own keys:
//!
//! * `i2m:sent:{task_id}` string: the task was put into its queue, or must not be any more
//! * `i2m:cancelled:{task_id}` string: the tombstone that a worker can look for

use std::collections::HashMap;

use fred::{
    interfaces::{HashesInterface as _, KeysInterface as _, SortedSetsInterface as _},
    types::{ClusterHash, CustomCommand, Key, Value},
};
use uuid::Uuid;

use super::protocol;
use crate::{
    error::{Error, Result},
    ids::{FileId, JobId},
    redis::{
        ACTIVE_TASKS, Database, OUTBOX, Partition, Place, Redis, Script, Server, TASK_PREFIX,
        job_tasks_key, oldest,
    },
};

static SEND: Script =
    Script::new(include_str!("../../migrations-lua/celery/send.lua")).repeatable();
// The second time it may find no task that it took back; then workers are waited for in vain, for a while.
static WITHDRAW: Script =
    Script::new(include_str!("../../migrations-lua/celery/revoke.lua")).repeatable();

/// How long the broker remembers that it had a task: longer than anybody tries to send it.
const MARK_SECS: i64 = 7 * 24 * 3600;

/// A task's message, and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) task: Uuid,
    pub(crate) file: Option<FileId>,
    pub(crate) queue_key: String,
    /// Byte for byte what stands in the queue.
    pub(crate) message: String,
}

impl Parcel {
    /// The arguments of `add_tasks` in `shared/lifecycle.lua`.
    pub(crate) fn script_args(&self) -> [Value; 3] {
        [
            Value::from(self.task.to_string()),
            Value::from(self.file.map(|it| it.to_string()).unwrap_or_default()),
            Value::from(format!("{}\n{}", self.queue_key, self.message)),
        ]
    }

    /// From `job:{id}:tasks`.
    pub(crate) fn from_stored(task: &str, stored: &str) -> Option<Self> {
        let (queue_key, message) = stored.split_once('\n')?;
        let task = Uuid::try_parse(task).ok()?;
        Some(Self {
            task,
            file: None,
            queue_key: queue_key.to_owned(),
            message: message.to_owned(),
        })
    }
}

/// Which job, attempt and file a task works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) job: JobId,
    pub(crate) file: Option<FileId>,
}

/// Where a task stands beside its job.
fn place_of(redis: &Redis, task: Uuid) -> Place<'_> {
    redis.at(Database::Jobs, Partition::of_task(task))
}

fn sent_key(task: Uuid) -> Key {
    Key::from(format!("i2m:sent:{task}"))
}

fn cancelled_key(task: Uuid) -> Key {
    Key::from(format!("i2m:cancelled:{task}"))
}

/// Puts tasks into their queues, each once however often this is called.
pub(super) async fn send(broker: &Server, parcels: &[Parcel]) -> Result<()> {
    let keys = parcels.iter().flat_map(|it| [sent_key(it.task), Key::from(it.queue_key.as_str())]);
    let mut args = vec![Value::from(MARK_SECS)];
    args.extend(parcels.iter().map(|it| Value::from(it.message.as_str())));
    SEND.run_on_server::<Value>(broker, keys.collect(), args).await.map(|_| ())
}

/// Takes tasks out of their queues, and tells workers to drop the others. Returns how many no worker has.
pub(super) async fn withdraw(broker: &Server, pidbox: &str, parcels: &[Parcel]) -> Result<usize> {
    let keys = parcels.iter().flat_map(|it| {
        [sent_key(it.task), cancelled_key(it.task), Key::from(it.queue_key.as_str())]
    });
    let mut args = vec![Value::from(MARK_SECS), Value::from(pidbox)];
    for parcel in parcels {
        args.push(Value::from(parcel.message.as_str()));
        args.push(Value::from(protocol::revoke(parcel.task)?));
    }
    let answer: Vec<Value> = WITHDRAW.run_on_server(broker, keys.collect(), args).await?;
    Ok(answer.get(1).and_then(Value::as_usize).unwrap_or(0))
}

/// The broker forgets that it had a task, so that it can be sent again.
pub(super) async fn unmark(broker: &Server, task: Uuid) -> Result<()> {
    broker.call(|client| async move { client.del(sent_key(task)).await }).await
}

/// Puts a task into the outbox, as one that is due.
pub(super) async fn back_to_outbox(redis: &Redis, task: Uuid) -> Result<()> {
    let place = place_of(redis, task);
    place
        .read(|client| async move {
            let member = (0.0, task.to_string());
            client.zadd(place.key(OUTBOX), None, None, false, false, member).await
        })
        .await
}

pub(super) async fn forget(redis: &Redis, task: Uuid) -> Result<()> {
    let place = place_of(redis, task);
    place
        .read(|client| async move { client.zrem(place.key(ACTIVE_TASKS), task.to_string()).await })
        .await
}

pub(super) async fn clear_outbox(redis: &Redis, tasks: impl Iterator<Item = Uuid>) -> Result<()> {
    for (place, tasks) in redis.by_place(Database::Jobs, tasks, |it| Partition::of_task(*it)) {
        let tasks: Vec<String> = tasks.iter().map(Uuid::to_string).collect();
        let tasks = &tasks;
        place
            .read(|client| async move {
                client.zrem::<(), _, _>(place.key(OUTBOX), tasks.clone()).await
            })
            .await?;
    }
    Ok(())
}

/// Tasks that have waited in the outbox for longer than `older_than_ms`. Of those whose job is gone, the entry
/// is dropped.
pub(super) async fn left_in_outbox(
    redis: &Redis,
    older_than_ms: u64,
    limit: usize,
) -> Result<Vec<Parcel>> {
    let mut parcels = Vec::new();
    for task in aged(redis, OUTBOX, older_than_ms, limit).await? {
        let stored = match assignment(redis, task).await? {
            Some(it) => {
                let (place, name) = (place_of(redis, task), job_tasks_key(it.job));
                let name = &name;
                place
                    .read(|client| async move {
                        let field = task.to_string();
                        client.hget::<Option<String>, _, _>(place.key(name), field).await
                    })
                    .await?
            }
            None => None,
        };
        match stored.and_then(|it| Parcel::from_stored(&task.to_string(), &it)) {
            Some(parcel) => parcels.push(parcel),
            None => clear_outbox(redis, std::iter::once(task)).await?,
        }
    }
    Ok(parcels)
}

/// Members of a sorted set by time, the oldest first, that are older than `age_ms` by Redis' clock.
async fn aged(redis: &Redis, key: &'static str, age_ms: u64, limit: usize) -> Result<Vec<Uuid>> {
    let members = oldest(redis, Database::Jobs, key, age_ms, limit).await?;
    Ok(members.iter().filter_map(|it| Uuid::try_parse(it).ok()).collect())
}

pub(super) async fn active(redis: &Redis, silent_for_ms: u64, limit: usize) -> Result<Vec<Uuid>> {
    aged(redis, ACTIVE_TASKS, silent_for_ms, limit).await
}

/// Notes a sign of life of a task that has not ended.
pub(super) async fn touch(redis: &Redis, task: Uuid) -> Result<()> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds are exact in an f64 for 285 000 years"
    )]
    let now = place_of(redis, task).now_ms().await? as f64;
    let place = place_of(redis, task);
    place
        .read(|client| async move {
            use fred::types::SetOptions::XX;

            let (key, member) = (place.key(ACTIVE_TASKS), (now, task.to_string()));
            client.zadd(key, Some(XX), None, false, false, member).await
        })
        .await
}

pub(super) async fn assignment(redis: &Redis, task: Uuid) -> Result<Option<Assignment>> {
    let place = place_of(redis, task);
    let key = place.key(&format!("{TASK_PREFIX}{task}"));
    let key = &key;
    let stored: Option<String> =
        place.read(|client| async move { client.get(key.clone()).await }).await?;
    Ok(stored.and_then(|it| {
        let mut words = it.split(' ');
        let job = words.next()?.parse().ok()?;
        let file = words.nth(1).and_then(|it| it.parse().ok());
        Some(Assignment { job, file })
    }))
}

/// The present tasks of a job.
pub(super) async fn parcels_of(redis: &Redis, job: JobId) -> Result<Vec<Parcel>> {
    let place = redis.at(Database::Jobs, Partition::of_job(job));
    let stored: HashMap<String, String> = place
        .read(|client| async move { client.hgetall(place.key(&job_tasks_key(job))).await })
        .await?;
    Ok(stored.iter().filter_map(|(task, it)| Parcel::from_stored(task, it)).collect())
}

/// How many messages are served before this one, counted up to a thousand.
pub(super) async fn position(broker: &Server, parcel: &Parcel) -> Result<Option<u64>> {
    const LOOK_AT: &str = "1000";
    let (key, message) = (parcel.queue_key.clone(), parcel.message.clone());
    broker
        .call(|client| async move {
            use fred::interfaces::{ClientLike as _, ListInterface as _};

            let lpos = CustomCommand::new_static("LPOS", ClusterHash::FirstKey, false);
            // Workers take from the right.
            let args = vec![
                key.clone(),
                message,
                "RANK".into(),
                "-1".into(),
                "MAXLEN".into(),
                LOOK_AT.into(),
            ];
            let index: Option<u64> = client.custom(lpos, args).await?;
            let length: u64 = client.llen(key).await?;
            Ok(index.map(|it| length.saturating_sub(it + 1)))
        })
        .await
}

/// The stored results of tasks that have one.
pub(super) async fn stored_results(
    results: &Server,
    tasks: &[Uuid],
) -> Result<Vec<(Uuid, Vec<u8>)>> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<String> = tasks.iter().map(|it| format!("celery-task-meta-{it}")).collect();
    let stored: Vec<Value> = results.call(|client| async move { client.mget(keys).await }).await?;
    let found =
        tasks.iter().zip(stored).filter_map(|(task, it)| Some((*task, it.as_bytes()?.to_vec())));
    Ok(found.collect())
}

/// A number that a command answered.
pub(super) fn corrupt(what: &'static str, error: &fred::error::Error) -> Error {
    Error::Corrupt { what, reason: error.to_string() }
}
