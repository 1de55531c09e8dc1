//! Celery tasks in Redis: the outbox and the assignments in the jobs database, queues and results at the broker.
//!
//! In the jobs database: `i2m:outbox`, `i2m:active`, `i2m:task:{task_id}` and `job:{id}:tasks`;
//! `migrations-lua/shared/lifecycle.lua` describes them. At the broker, beside Celery's own keys:
//!
//! * `i2m:sent:{task_id}` string: the task was put into its queue, or must not be sent any more
//! * `i2m:cancelled:{task_id}` string: the tombstone that a worker can check

use std::collections::HashMap;

use uuid::Uuid;

use super::protocol;
use crate::{
    error::Result,
    ids::{FileId, JobId},
    redis::Pool,
    store::{
        ACTIVE_TASKS, Database, Keyspace, OUTBOX, Partition, Redis, Script, TASK_PREFIX,
        client::{
            ClusterHash, CustomCommand, HashesInterface as _, Key, KeysInterface as _,
            SortedSetsInterface as _, Value,
        },
        job_tasks_key, members_older_than,
    },
};

static SEND: Script =
    Script::new(include_str!("../../migrations-lua/celery/send.lua")).idempotent();
// A repeated call no longer finds the tasks that the first call removed from the queue and reports them as taken. The
// cancellation then waits up to `celery.cancel_grace` for workers that do not exist.
static REVOKE: Script =
    Script::new(include_str!("../../migrations-lua/celery/revoke.lua")).idempotent();

/// TTL of the markers and tombstones: longer than any process tries to send a task.
const MARKER_TTL_SECS: i64 = 7 * 24 * 3600;

/// An encoded task message and its queue.
#[derive(Clone, Debug)]
pub(crate) struct TaskMessage {
    pub(crate) task: Uuid,
    pub(crate) file: Option<FileId>,
    pub(crate) queue_key: String,
    /// The exact bytes of the queue's list element: `LREM` and `LPOS` compare them.
    pub(crate) message: String,
}

impl TaskMessage {
    /// The arguments that `add_tasks` in `migrations-lua/shared/lifecycle.lua` takes.
    pub(crate) fn script_args(&self) -> [Value; 3] {
        [
            Value::from(self.task.to_string()),
            Value::from(self.file.map(|file| file.to_string()).unwrap_or_default()),
            Value::from(format!("{}\n{}", self.queue_key, self.message)),
        ]
    }

    /// Parses a field of `job:{id}:tasks`. The file is not stored there.
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

/// The job and file that a task works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) job: JobId,
    pub(crate) file: Option<FileId>,
}

/// The keyspace of a task, which is that of its job.
fn task_place(redis: &Redis, task: Uuid) -> Keyspace<'_> {
    redis.keyspace(Database::Jobs, Partition::for_task(task))
}

fn sent_marker_key(task: Uuid) -> Key {
    Key::from(format!("i2m:sent:{task}"))
}

fn cancelled_key(task: Uuid) -> Key {
    Key::from(format!("i2m:cancelled:{task}"))
}

/// Puts tasks into their queues. Repeated calls do not send a task twice.
pub(super) async fn send(broker: &Pool, parcels: &[TaskMessage]) -> Result<()> {
    let keys = parcels
        .iter()
        .flat_map(|parcel| [sent_marker_key(parcel.task), Key::from(parcel.queue_key.as_str())]);
    let mut args = vec![Value::from(MARKER_TTL_SECS)];
    args.extend(parcels.iter().map(|parcel| Value::from(parcel.message.as_str())));
    SEND.run_on_pool::<Value>(broker, keys.collect(), args).await.map(|_| ())
}

/// Removes tasks from their queues and asks workers to drop the others. Returns the number of tasks that no worker has
/// taken.
pub(super) async fn revoke(broker: &Pool, pidbox: &str, parcels: &[TaskMessage]) -> Result<usize> {
    let keys = parcels.iter().flat_map(|parcel| {
        let queue_key = Key::from(parcel.queue_key.as_str());
        [sent_marker_key(parcel.task), cancelled_key(parcel.task), queue_key]
    });
    let mut args = vec![Value::from(MARKER_TTL_SECS), Value::from(pidbox)];
    for parcel in parcels {
        args.push(Value::from(parcel.message.as_str()));
        args.push(Value::from(protocol::revoke(parcel.task)?));
    }
    let (_, untaken): (String, usize) = REVOKE.run_on_pool(broker, keys.collect(), args).await?;
    Ok(untaken)
}

/// Deletes the marker of a task at the broker, so that the task can be sent again.
pub(super) async fn clear_sent_marker(broker: &Pool, task: Uuid) -> Result<()> {
    broker.call_once(|client| async move { client.del(sent_marker_key(task)).await }).await
}

/// Puts a task into the outbox with the oldest possible time, so that it is sent next.
pub(super) async fn requeue(redis: &Redis, task: Uuid) -> Result<()> {
    let keyspace = task_place(redis, task);
    keyspace
        .call_idempotent(|client| async move {
            let member = (0.0, task.to_string());
            client.zadd(keyspace.key(OUTBOX), None, None, false, false, member).await
        })
        .await
}

/// Removes a task from the unfinished tasks.
pub(super) async fn untrack(redis: &Redis, task: Uuid) -> Result<()> {
    let keyspace = task_place(redis, task);
    keyspace
        .call_idempotent(|client| async move {
            client.zrem(keyspace.key(ACTIVE_TASKS), task.to_string()).await
        })
        .await
}

pub(super) async fn clear_outbox(redis: &Redis, tasks: impl Iterator<Item = Uuid>) -> Result<()> {
    for (keyspace, tasks) in
        redis.group_by_keyspace(Database::Jobs, tasks, |task| Partition::for_task(*task))
    {
        let tasks: Vec<String> = tasks.iter().map(Uuid::to_string).collect();
        let tasks = &tasks;
        keyspace
            .call_idempotent(|client| async move {
                client.zrem::<(), _, _>(keyspace.key(OUTBOX), tasks.clone()).await
            })
            .await?;
    }
    Ok(())
}

/// Tasks that have been in the outbox for longer than `older_than_ms`. Entries whose job no longer exists are removed.
pub(super) async fn pending_outbox(
    redis: &Redis,
    older_than_ms: u64,
    limit: usize,
) -> Result<Vec<TaskMessage>> {
    let mut parcels = Vec::new();
    for task in tasks_older_than(redis, OUTBOX, older_than_ms, limit).await? {
        let stored = match assignment(redis, task).await? {
            Some(assignment) => {
                let (keyspace, name) = (task_place(redis, task), job_tasks_key(assignment.job));
                let name = &name;
                keyspace
                    .call_idempotent(|client| async move {
                        let field = task.to_string();
                        client.hget::<Option<String>, _, _>(keyspace.key(name), field).await
                    })
                    .await?
            }
            None => None,
        };
        match stored.and_then(|stored| TaskMessage::from_stored(&task.to_string(), &stored)) {
            Some(parcel) => parcels.push(parcel),
            None => clear_outbox(redis, std::iter::once(task)).await?,
        }
    }
    Ok(parcels)
}

/// Tasks of a sorted set by time that are older than `age_ms` by the clock of Redis, the oldest first.
async fn tasks_older_than(
    redis: &Redis,
    key: &'static str,
    age_ms: u64,
    limit: usize,
) -> Result<Vec<Uuid>> {
    let members = members_older_than(redis, Database::Jobs, key, age_ms, limit).await?;
    Ok(members.iter().filter_map(|member| Uuid::try_parse(member).ok()).collect())
}

pub(super) async fn active(redis: &Redis, silent_for_ms: u64, limit: usize) -> Result<Vec<Uuid>> {
    tasks_older_than(redis, ACTIVE_TASKS, silent_for_ms, limit).await
}

/// Sets the last heartbeat of an unfinished task to the time of Redis. Reading the time and writing it are two round
/// trips; `XX` keeps a task that ended in between from being added again.
pub(super) async fn record_heartbeat(redis: &Redis, task: Uuid) -> Result<()> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds are exact in an f64 for 285 000 years"
    )]
    let now = task_place(redis, task).now_ms().await? as f64;
    let keyspace = task_place(redis, task);
    keyspace
        .call_idempotent(|client| async move {
            use crate::store::client::SetOptions::XX;

            let (key, member) = (keyspace.key(ACTIVE_TASKS), (now, task.to_string()));
            client.zadd(key, Some(XX), None, false, false, member).await
        })
        .await
}

pub(super) async fn assignment(redis: &Redis, task: Uuid) -> Result<Option<Assignment>> {
    let keyspace = task_place(redis, task);
    let key = keyspace.key(&format!("{TASK_PREFIX}{task}"));
    let key = &key;
    let stored: Option<String> =
        keyspace.call_idempotent(|client| async move { client.get(key.clone()).await }).await?;
    Ok(stored.and_then(|stored| {
        // `job attempt file`, with an empty file for a whole job.
        let mut words = stored.split(' ');
        let job = words.next()?.parse().ok()?;
        let file = words.nth(1).and_then(|file| file.parse().ok());
        Some(Assignment { job, file })
    }))
}

/// The tasks of a job's current attempt.
pub(super) async fn job_tasks(redis: &Redis, job: JobId) -> Result<Vec<TaskMessage>> {
    let keyspace = redis.keyspace(Database::Jobs, Partition::for_job(job));
    let stored: HashMap<String, String> = keyspace
        .call_idempotent(
            |client| async move { client.hgetall(keyspace.key(&job_tasks_key(job))).await },
        )
        .await?;
    Ok(stored.iter().filter_map(|(task, stored)| TaskMessage::from_stored(task, stored)).collect())
}

/// Number of messages that are served before this one; `None` if it is not among the first thousand.
pub(super) async fn position(broker: &Pool, parcel: &TaskMessage) -> Result<Option<u64>> {
    const MAX_SCANNED: &str = "1000";
    let (key, message) = (&parcel.queue_key, &parcel.message);
    broker
        .call_idempotent(|client| async move {
            use crate::store::client::{ClientLike as _, ListInterface as _};

            let lpos = CustomCommand::new_static("LPOS", ClusterHash::FirstKey, false);
            // Workers pop from the right end.
            let args = vec![
                key.clone(),
                message.clone(),
                "RANK".into(),
                "-1".into(),
                "MAXLEN".into(),
                MAX_SCANNED.into(),
            ];
            let index: Option<u64> = client.custom(lpos, args).await?;
            let length: u64 = client.llen(key).await?;
            Ok(index.map(|index| length.saturating_sub(index + 1)))
        })
        .await
}

/// The stored results of tasks that have one.
pub(super) async fn stored_results(results: &Pool, tasks: &[Uuid]) -> Result<Vec<(Uuid, Vec<u8>)>> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<String> = tasks.iter().map(|task| format!("celery-task-meta-{task}")).collect();
    let stored: Vec<Value> = results
        .call_idempotent(|client| {
            let keys = keys.clone();
            async move { client.mget(keys).await }
        })
        .await?;
    let found = tasks.iter().zip(stored);
    Ok(found.filter_map(|(task, result)| Some((*task, result.as_bytes()?.to_vec()))).collect())
}
