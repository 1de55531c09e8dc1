//! The small status document of a job for polling clients, cached in `cache:status:{job_id}`. Every change of the job
//! deletes it.

use bytes::Bytes;

use super::{Jobs, store::unknown_outcome};
use crate::{
    auth::Caller,
    error::{Error, Result},
    ids::{JobId, Sha256Hex},
    store::{JobScriptContext, Script, client::Value},
};

static STATUS: Script =
    Script::job_read(include_str!("../../migrations-lua/jobs/status.lua")).idempotent();

/// A status document.
#[derive(Clone)]
pub(crate) struct CachedStatus {
    /// JSON text.
    pub(crate) json: Bytes,
    owner: Option<Sha256Hex>,
    pub(crate) is_hit: bool,
}

impl Jobs {
    /// The small status document of a job that `caller` may see, in one round trip to the primary or one to a replica
    /// and, on a miss there, one to the primary. Concurrent reads are coalesced.
    ///
    /// # Errors
    ///
    /// [`Error::JobNotFound`], also for a job of another owner.
    pub(crate) async fn cached_status(&self, caller: &Caller, id: JobId) -> Result<CachedStatus> {
        let found = self.statuses.read(id, async || self.read_status(id).await).await?;
        let found = found.filter(|status| caller.can_view(status.owner.as_ref()));
        let found = found.ok_or(Error::JobNotFound(id))?;
        let cache = &self.redis.metrics().cache;
        if found.is_hit {
            cache.hit.inc()
        } else {
            cache.miss.inc()
        };
        Ok(found)
    }

    async fn read_status(&self, id: JobId) -> Result<Option<CachedStatus>> {
        let ttl_secs = self.config.status_cache_ttl.as_secs().max(1);
        let args = vec![Value::from(ttl_secs.to_string())];
        let mut parts = self.run_status_script(id, args).await?.into_iter();
        let mut next = || parts.next().unwrap_or(Value::Null);
        let is_hit = match next().as_str().as_deref().unwrap_or_default() {
            "hit" => true,
            "miss" => false,
            "missing" => return Ok(None),
            other => return Err(unknown_outcome("jobs/status reply", other)),
        };
        let json = next().into_bytes().unwrap_or_default();
        let owner = next().into_array().first().and_then(Value::as_string);
        let owner = owner.and_then(|hash| Sha256Hex::try_from(hash).ok());
        Ok(Some(CachedStatus { json, owner, is_hit }))
    }

    /// Runs the script on a replica, and on the primary if the replica has no cached status.
    async fn run_status_script(&self, job: JobId, args: Vec<Value>) -> Result<Vec<Value>> {
        let context = JobScriptContext { redis: &self.redis, job, retention: self.retention };
        if let Some(reply) = STATUS.run_for_job_on_replica::<Value>(&context, args.clone()).await {
            let parts = reply.into_array();
            // A replica may not have a new job yet.
            if parts.first().and_then(Value::as_str).is_some_and(|outcome| outcome == "hit") {
                return Ok(parts);
            }
        }
        let reply: Value = STATUS.run_for_job(&self.redis, job, self.retention, args).await?;
        Ok(reply.into_array())
    }
}
