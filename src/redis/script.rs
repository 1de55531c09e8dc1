//! Lua scripts: compiled in from `migrations-lua`, run by their hash, loaded again when Redis forgot them.

use std::sync::OnceLock;

use fred::types::{FromValue, Value, scripts::Script as Loaded};

use super::{Database, Redis, keys::job_keys};
use crate::{
    error::{Error, Result},
    ids::JobId,
};

/// What `shared/job.lua` gives every script about a job.
const SHARED: &str = include_str!("../../migrations-lua/shared/job.lua");

/// How long a job's keys live, and how long its stream is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) ttl_secs: u64,
    pub(crate) stream_length: u64,
}

/// A script about one job; its text stands behind `shared/job.lua`.
pub(crate) struct Script {
    text: &'static str,
    loaded: OnceLock<Loaded>,
}

impl Script {
    /// `text` is the file below `migrations-lua`.
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, loaded: OnceLock::new() }
    }

    fn loaded(&self) -> Loaded {
        self.loaded.get_or_init(|| Loaded::from_lua(format!("{SHARED}{}", self.text))).clone()
    }

    /// Runs the script on the keys of one job: one round trip, or three after Redis lost its scripts.
    ///
    /// What every script takes first is added to `args` here.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; [`Error::Corrupt`] for an answer of another shape than `T`.
    pub(crate) async fn run<T: FromValue>(
        &self,
        redis: &Redis,
        job: JobId,
        retention: Retention,
        args: Vec<Value>,
    ) -> Result<T> {
        let mut argv = Vec::with_capacity(args.len() + 4);
        argv.push(Value::from_static_str("numbered"));
        argv.push(Value::from(job.to_string()));
        argv.push(Value::try_from(retention.ttl_secs)?);
        argv.push(Value::try_from(retention.stream_length)?);
        argv.extend(args);
        let (script, keys) = (self.loaded(), job_keys(job));
        let answer: Value = redis
            .call(Database::Jobs, |client| async move {
                script.evalsha_with_reload(&client, keys, argv).await
            })
            .await?;
        T::from_value(answer).map_err(|error| Error::Corrupt {
            what: "answer of a script",
            reason: error.to_string(),
        })
    }
}
