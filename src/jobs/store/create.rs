//! Making a job.

use fred::types::{Key, Value};

use super::cluster::{self, Reservation};
use crate::{
    celery::TaskMessage,
    error::{Error, Result},
    ids::{JobId, Sha256Hex},
    jobs::{
        create::ValidatedJob,
        model::{Job, parse_time},
    },
    store::{JobRetention, JobScriptContext, Redis, Script, idempotency_key},
};

static CREATE: Script =
    Script::job_write(include_str!("../../../migrations-lua/jobs/create.lua")).idempotent();

/// A job to be created.
pub(in crate::jobs) struct CreateArgs<'a> {
    pub(in crate::jobs) id: JobId,
    pub(in crate::jobs) owner: &'a Sha256Hex,
    pub(in crate::jobs) checked: &'a ValidatedJob,
    /// The hash of the request's `Idempotency-Key`.
    pub(in crate::jobs) idempotency: Option<&'a Sha256Hex>,
    pub(in crate::jobs) tasks: &'a [TaskMessage],
}

/// What came of creating a job.
pub(in crate::jobs) enum Created {
    Job(Box<Job>),
    /// The same request came before, and made this job; or this one did, and its answer was lost.
    Replayed(JobId),
}

/// Which job a request is about, if that has to be known before it is made: where one script makes a job and uses its
/// `Idempotency-Key`, a new one.
///
/// # Errors
///
/// As [`cluster::reserve_idempotency_key`].
pub(in crate::jobs) async fn reserve_job(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    checked: &ValidatedJob,
    idempotency: Option<&Sha256Hex>,
) -> Result<Reservation> {
    let id = JobId::random();
    match idempotency {
        Some(hash) if !redis.layout().is_multi_database() => {
            let fingerprint = checked.request_hash();
            cluster::reserve_idempotency_key(
                redis,
                retention,
                (owner, hash),
                (id, fingerprint.as_str()),
            )
            .await
        }
        _ => Ok(Reservation::New(id)),
    }
}

/// Creates a job, pending, with its tasks in the outbox.
///
/// # Errors
///
/// [`Error::IdempotencyConflict`] if the key came with another request before; [`Error::NotReplicated`] if it is
/// created, and not yet as safe as the settings ask.
pub(in crate::jobs) async fn create(
    redis: &Redis,
    retention: JobRetention,
    new: CreateArgs<'_>,
) -> Result<Created> {
    // Nobody asks for it without a key, and it is a hash of all that is stored.
    let fingerprint = new.idempotency.map(|_| new.checked.request_hash());
    let mut args = vec![
        Value::from(new.owner.as_str()),
        Value::from(new.checked.params.as_str()),
        Value::from(fingerprint.as_ref().map_or("", |it| it.as_str())),
        Value::from(new.checked.webhook_url.as_str()),
        Value::from(new.checked.files.len().to_string()),
    ];
    args.extend(new.checked.files.iter().map(|it| Value::from(it.as_str())));
    args.extend(new.tasks.iter().flat_map(TaskMessage::script_args));
    let idempotency = new.idempotency.map(|it| Key::from(idempotency_key(new.owner, it)));
    if !redis.layout().is_multi_database() {
        cluster::add_to_owner_index(redis, retention, new.owner, new.id).await?;
    }
    let answer: Vec<String> = CREATE
        .run_for_job_replicated(
            &JobScriptContext { redis, job: new.id, retention },
            idempotency,
            args,
        )
        .await?;
    match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["created", created_at] => {
            redis.metrics().jobs.created.inc();
            let mut job = Job::new(new.id, new.owner, new.checked);
            job.created_at = parse_time(created_at);
            job.updated_at = job.created_at;
            Ok(Created::Job(Box::new(job)))
        }
        ["replay", job] => Ok(Created::Replayed(job.parse()?)),
        ["conflict"] => Err(Error::IdempotencyConflict),
        // Ids are random: this is the job itself, made by an attempt whose answer was lost.
        ["exists", _] => Ok(Created::Replayed(new.id)),
        _ => Err(Error::JobExists(new.id)),
    }
}
