//! Lua scripts: compiled in from `migrations-lua`, run by their hash, loaded again when Redis forgot them.

use std::sync::OnceLock;

use fred::types::{FromValue, Key, Value, scripts::Script as Loaded};

use super::{
    Database, Redis, Server,
    keys::{CACHE_PREFIXES, job_keys},
    server::Twice,
};
use crate::{
    error::{Error, Result},
    ids::JobId,
};

/// What `shared/job.lua` gives every script about a job.
const ABOUT_JOB: &str = include_str!("../../migrations-lua/shared/job.lua");
/// What `shared/cache.lua` gives every script about cached values.
const ABOUT_CACHE: &str = include_str!("../../migrations-lua/shared/cache.lua");

/// How long a job's keys live, and how long its stream is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) ttl_secs: u64,
    pub(crate) stream_length: u64,
}

/// The job that a script is about.
pub(crate) struct Target<'a> {
    pub(crate) redis: &'a Redis,
    pub(crate) job: JobId,
    pub(crate) retention: Retention,
}

/// What stands around a change of stored data: it becomes a function, of which each run is a piece.
const BEFORE_SCHEMA: &str = "local function migrate(...)\n";
const AFTER_SCHEMA: &str =
    concat!("\nend\n", include_str!("../../migrations-lua/shared/schema.lua"));

/// A script, compiled in.
///
/// One that is not [`Script::repeatable`] is repeated only when Redis has certainly not run it.
pub(crate) struct Script {
    shared: &'static str,
    text: &'static str,
    after: &'static str,
    twice: Twice,
    loaded: OnceLock<Loaded>,
}

impl Script {
    /// `text` is a file below `migrations-lua`.
    pub(crate) const fn new(text: &'static str) -> Self {
        Self::between("", text, "")
    }

    /// `text` is a file below `migrations-lua` that stands on `shared/job.lua`.
    pub(crate) const fn about_job(text: &'static str) -> Self {
        Self::between(ABOUT_JOB, text, "")
    }

    /// `text` is a file below `migrations-lua` that stands on `shared/cache.lua`.
    pub(crate) const fn about_cache(text: &'static str) -> Self {
        Self::between(ABOUT_CACHE, text, "")
    }

    /// `text` is a file below `migrations-lua/schema`, run piece by piece by `shared/schema.lua`.
    pub(crate) const fn of_schema(text: &'static str) -> Self {
        // A piece and where the next begins are written together.
        Self::between(BEFORE_SCHEMA, text, AFTER_SCHEMA).repeatable()
    }

    const fn between(shared: &'static str, text: &'static str, after: &'static str) -> Self {
        Self { shared, text, after, twice: Twice::Differs, loaded: OnceLock::new() }
    }

    /// The same, declared to have no other effect when it is run twice than when it is run once.
    pub(crate) const fn repeatable(mut self) -> Self {
        self.twice = Twice::IsOnce;
        self
    }

    fn loaded(&self) -> Loaded {
        self.loaded
            .get_or_init(|| Loaded::from_lua(format!("{}{}{}", self.shared, self.text, self.after)))
            .clone()
    }

    /// Runs the script: one round trip, or three after Redis lost its scripts.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; [`Error::Corrupt`] for an answer of another shape than `T`.
    pub(crate) async fn run<T: FromValue>(
        &self,
        server: &Server,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        let script = self.loaded();
        let answer: Value = server
            .repeat(self.twice, |client| {
                let (script, keys, args) = (script.clone(), keys.clone(), args.clone());
                async move { Ok(script.evalsha_with_reload(&client, keys, args).await?) }
            })
            .await?;
        parse(answer)
    }

    /// [`Script::run`] in the jobs database of a replica, whose answer may be as old as the settings allow. `None` if no
    /// replica is fresh, or the script wants to write.
    pub(crate) async fn run_on_replica<T: FromValue>(
        &self,
        redis: &Redis,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Option<T> {
        let script = self.loaded();
        let replicas = redis.replicas()?;
        let answer = replicas.read(|client| async move {
            script.evalsha_with_reload::<Value, _, _>(&client, keys, args).await
        });
        parse(answer.await?).ok()
    }

    /// [`Script::run_on_job`] on a replica; see [`Script::run_on_replica`].
    pub(crate) async fn run_on_job_on_replica<T: FromValue>(
        &self,
        target: &Target<'_>,
        args: Vec<Value>,
    ) -> Option<T> {
        self.run_on_replica(target.redis, job_keys(target.job), target.args(args).ok()?).await
    }

    /// Runs a script of [`Script::about_job`] on the keys of `job`; what all of these take first is added to
    /// `args` here.
    ///
    /// # Errors
    ///
    /// As [`Script::run`].
    pub(crate) async fn run_on_job<T: FromValue>(
        &self,
        redis: &Redis,
        job: JobId,
        retention: Retention,
        args: Vec<Value>,
    ) -> Result<T> {
        let args = Target { redis, job, retention }.args(args)?;
        self.run(redis.database(Database::Jobs), job_keys(job), args).await
    }

    /// Runs a script of [`Script::about_cache`]; what all of these take first is added to `args` here.
    ///
    /// # Errors
    ///
    /// As [`Script::run`].
    pub(crate) async fn run_on_cache<T: FromValue>(
        &self,
        redis: &Redis,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        let mut all: Vec<Value> =
            CACHE_PREFIXES.iter().map(|it| Value::from_static_str(it)).collect();
        all.extend(args);
        self.run(redis.database(Database::Cache), keys, all).await
    }

    /// [`Script::run_on_job`] with one key more, until as many replicas as the settings ask for have what it wrote.
    ///
    /// # Errors
    ///
    /// As [`Script::run`], and [`Error::NotReplicated`].
    pub(crate) async fn run_durably<T: FromValue>(
        &self,
        target: &Target<'_>,
        one_more: Option<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        let mut keys = job_keys(target.job);
        keys.extend(one_more);
        let args = target.args(args)?;
        match target.redis.durable() {
            None => self.run(target.redis.database(Database::Jobs), keys, args).await,
            Some(it) => parse(it.run(self.twice, &self.loaded(), (keys, args)).await?),
        }
    }
}

impl Target<'_> {
    /// The script's own arguments behind those that all scripts about a job take.
    fn args(&self, own: Vec<Value>) -> Result<Vec<Value>> {
        let mut all = Vec::with_capacity(own.len() + 4);
        all.push(Value::from_static_str("numbered"));
        all.push(Value::from(self.job.to_string()));
        all.push(Value::try_from(self.retention.ttl_secs)?);
        all.push(Value::try_from(self.retention.stream_length)?);
        all.extend(own);
        Ok(all)
    }
}

fn parse<T: FromValue>(answer: Value) -> Result<T> {
    T::from_value(answer)
        .map_err(|error| Error::Corrupt { what: "answer of a script", reason: error.to_string() })
}
