//! Creates jobs.

use super::{
    cluster::{self, Reservation},
    unknown_outcome,
};
use crate::{
    celery::TaskMessage,
    error::{Error, Result},
    ids::{JobId, Sha256Hex},
    jobs::{
        create::ValidatedJob,
        model::{Job, parse_time},
    },
    store::{
        JobRetention, JobScriptContext, Redis, Script,
        client::{Key, Value},
        idempotency_key,
    },
};

static CREATE: Script =
    Script::job_write(include_str!("../../../migrations-lua/jobs/create.lua")).idempotent();

/// A job to create.
pub(in crate::jobs) struct CreateArgs<'a> {
    pub(in crate::jobs) id: JobId,
    pub(in crate::jobs) owner: &'a Sha256Hex,
    pub(in crate::jobs) validated: &'a ValidatedJob,
    /// Hash of the request's `Idempotency-Key`.
    pub(in crate::jobs) idempotency: Option<&'a Sha256Hex>,
    pub(in crate::jobs) tasks: &'a [TaskMessage],
}

/// The reply of `jobs/create.lua`.
pub(in crate::jobs) enum Created {
    Job(Box<Job>),
    /// This job exists already. An earlier identical request created it, or a call of this request whose reply was
    /// lost.
    Replayed(JobId),
}

/// Reserves the id of the job that a request creates. Only a cluster needs a reservation; elsewhere, one script creates
/// the job and stores its `Idempotency-Key`, so the id is always new.
///
/// # Errors
///
/// The errors of [`cluster::reserve_idempotency_key`].
pub(in crate::jobs) async fn reserve_job(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    validated: &ValidatedJob,
    idempotency: Option<&Sha256Hex>,
) -> Result<Reservation> {
    let id = JobId::random();
    match idempotency {
        Some(key_hash) if !redis.layout().is_multi_database() => {
            let request_hash = validated.request_hash();
            let key = (owner, key_hash);
            cluster::reserve_idempotency_key(redis, retention, key, (id, request_hash.as_str()))
                .await
        }
        _ => Ok(Reservation::New(id)),
    }
}

/// Creates a pending job, with its tasks in the outbox.
///
/// # Errors
///
/// [`Error::IdempotencyConflict`] if the key was used for a different request; [`Error::NotReplicated`] if the job is
/// created, but on fewer replicas than configured.
pub(in crate::jobs) async fn create(
    redis: &Redis,
    retention: JobRetention,
    new: CreateArgs<'_>,
) -> Result<Created> {
    // Only an Idempotency-Key needs the hash, which takes time proportional to the request.
    let request_hash = new.idempotency.map(|_| new.validated.request_hash());
    let mut args = vec![
        Value::from(new.owner.as_str()),
        Value::from(new.validated.params.as_str()),
        Value::from(request_hash.as_ref().map_or("", |hash| hash.as_str())),
        Value::from(new.validated.webhook_url.as_str()),
        Value::from(new.validated.files.len().to_string()),
    ];
    args.extend(new.validated.files.iter().map(|json| Value::from(json.as_str())));
    args.extend(new.tasks.iter().flat_map(TaskMessage::script_args));
    let idempotency =
        new.idempotency.map(|key_hash| Key::from(idempotency_key(new.owner, key_hash)));
    if !redis.layout().is_multi_database() {
        cluster::add_to_owner_index(redis, retention, new.owner, new.id).await?;
    }
    let reply: Vec<String> = CREATE
        .run_for_job_replicated(
            &JobScriptContext { redis, job: new.id, retention },
            idempotency,
            args,
        )
        .await?;
    match reply.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["created", created_at] => {
            redis.metrics().jobs.created.inc();
            let mut job = Job::new(new.id, new.owner, new.validated);
            job.created_at = parse_time(created_at);
            job.updated_at = job.created_at;
            Ok(Created::Job(Box::new(job)))
        }
        ["replay", job] => Ok(Created::Replayed(job.parse()?)),
        ["conflict"] => Err(Error::IdempotencyConflict),
        // Ids are random, so a call of this request created the job, and its reply was lost.
        ["exists", _] => Ok(Created::Replayed(new.id)),
        // A record without a status is from another program.
        ["exists"] => Err(Error::JobExists(new.id)),
        ref other => Err(unknown_outcome("jobs/create reply", &other.join(" "))),
    }
}
