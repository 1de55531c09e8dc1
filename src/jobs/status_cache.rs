//! The small status of a job: what pollers ask for, cached in `cache:status:{job_id}` and dropped by every change.

use bytes::Bytes;
use fred::types::Value;

use super::Jobs;
use crate::{
    auth::Caller,
    error::{Error, Result},
    ids::{JobId, Sha256Hex},
    store::{JobScriptContext, Script},
};

static STATUS: Script =
    Script::job_read(include_str!("../../migrations-lua/jobs/status.lua")).idempotent();

/// A status as JSON text.
#[derive(Clone)]
pub(crate) struct CachedStatus {
    pub(crate) json: Bytes,
    owner: Option<Sha256Hex>,
    pub(crate) is_hit: bool,
}

impl Jobs {
    /// The small status of a job as far as it is `caller`'s business: at most one round trip.
    pub(crate) async fn cached_status(&self, caller: &Caller, id: JobId) -> Result<CachedStatus> {
        let found = self.statuses.read(id, async || self.read_status(id).await).await?;
        let found = found.filter(|it| caller.can_view(it.owner.as_ref()));
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
        let outcome = next();
        let is_hit = outcome.as_str().as_deref() == Some("hit");
        if !is_hit && outcome.as_str().as_deref() != Some("miss") {
            return Ok(None);
        }
        let json = next().into_bytes().unwrap_or_default();
        let owner = next().into_array().first().and_then(Value::as_string);
        let owner = owner.and_then(|it| Sha256Hex::try_from(it).ok());
        Ok(Some(CachedStatus { json, owner, is_hit }))
    }

    /// What the script says: on a replica if one has the status cached, else on the primary.
    async fn run_status_script(&self, job: JobId, args: Vec<Value>) -> Result<Vec<Value>> {
        let target = JobScriptContext { redis: &self.redis, job, retention: self.retention };
        if let Some(answer) = STATUS.run_for_job_on_replica::<Value>(&target, args.clone()).await {
            let parts = answer.into_array();
            // What a replica does not have may be new.
            if parts.first().and_then(Value::as_str).is_some_and(|it| it == "hit") {
                return Ok(parts);
            }
        }
        let answer: Value = STATUS.run_for_job(&self.redis, job, self.retention, args).await?;
        Ok(answer.into_array())
    }
}
