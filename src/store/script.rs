//! The service's Lua scripts: compiled in from `migrations-lua`, with the shared files, keys and arguments that their kind
//! requires.

use fred::types::{FromValue, Key, Value};

use super::{
    database::Database,
    handle::Redis,
    keys::{CACHE_PREFIXES, JOB_KEY_COUNT, JOB_READ_KEY_COUNT, job_keys},
    keyspace::Keyspace,
    layout::Partition,
};
use crate::{
    error::Result,
    ids::JobId,
    redis::{LuaScript, Pool, Route},
};

/// Shared by all scripts about a job.
const JOB: &str = include_str!("../../migrations-lua/shared/job.lua");
/// Shared by the scripts that change a job.
const LIFECYCLE: &str = include_str!("../../migrations-lua/shared/lifecycle.lua");
/// Shared by the scripts about cached values.
const CACHE: &str = include_str!("../../migrations-lua/shared/cache.lua");
/// Shared by the scripts that read timestamps.
const PARSE_TIMESTAMP: &str = include_str!("../../migrations-lua/shared/parse_timestamp.lua");
/// A migration becomes the body of a function, which `shared/migrations.lua` runs step by step.
const MIGRATION_BEGIN: &str = "local function migrate(...)\n";
const MIGRATION_END: &str =
    concat!("\nend\n", include_str!("../../migrations-lua/shared/migrations.lua"));

/// How long a job's keys live, and how long its stream may become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobRetention {
    pub(crate) ttl_secs: u64,
    pub(crate) stream_length: u64,
}

/// The job that a script runs for.
pub(crate) struct JobScriptContext<'a> {
    pub(crate) redis: &'a Redis,
    pub(crate) job: JobId,
    pub(crate) retention: JobRetention,
}

/// A script that is compiled into the program. Unless it is declared [`Script::idempotent`], it is sent again only if
/// Redis has certainly not executed it.
pub(crate) struct Script {
    lua: LuaScript,
    /// How many keys of its job it takes.
    job_key_count: usize,
}

impl Script {
    /// `text` is a file below `migrations-lua`.
    pub(crate) const fn new(text: &'static str) -> Self {
        Self::concat(["", "", text, ""], 0)
    }

    /// `text` is a file below `migrations-lua` that uses `shared/job.lua` and reads the keys of one job.
    pub(crate) const fn job_read(text: &'static str) -> Self {
        Self::concat([JOB, "", text, ""], JOB_READ_KEY_COUNT)
    }

    /// `text` is a file below `migrations-lua` that uses `shared/job.lua` and `shared/lifecycle.lua` and changes one job.
    pub(crate) const fn job_write(text: &'static str) -> Self {
        Self::concat([JOB, LIFECYCLE, text, ""], JOB_KEY_COUNT)
    }

    /// `text` is a file below `migrations-lua` that uses `shared/parse_timestamp.lua`.
    pub(crate) const fn with_timestamps(text: &'static str) -> Self {
        Self::concat([PARSE_TIMESTAMP, "", text, ""], 0)
    }

    /// `text` is a file below `migrations-lua` that uses `shared/cache.lua`.
    pub(crate) const fn cache(text: &'static str) -> Self {
        Self::concat([CACHE, "", text, ""], 0)
    }

    /// `text` is a migration below `migrations-lua`, which `shared/migrations.lua` runs step by step.
    pub(crate) const fn migration(text: &'static str) -> Self {
        // A step and the start of the next one are written together.
        Self::concat([MIGRATION_BEGIN, "", text, MIGRATION_END], 0).idempotent()
    }

    const fn concat(parts: [&'static str; 4], job_key_count: usize) -> Self {
        Self { lua: LuaScript::concat(parts), job_key_count }
    }

    /// Declares that running the script twice has the same effect as running it once.
    pub(crate) const fn idempotent(mut self) -> Self {
        self.lua.set_idempotent();
        self
    }

    /// Runs the script on the keys with these names: one round trip, or three after Redis lost its scripts.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::RedisUnavailable`]; [`crate::error::Error::CorruptData`] for a reply that is not a `T`.
    pub(crate) async fn run<T: FromValue>(
        &self,
        keyspace: Keyspace<'_>,
        names: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        self.lua.run(keyspace.route(), keyspace.keys(names), args).await
    }

    /// Runs the script on a server that does not use this service's key layout, such as a broker.
    ///
    /// # Errors
    ///
    /// See [`Script::run`].
    pub(crate) async fn run_on_pool<T: FromValue>(
        &self,
        pool: &Pool,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        self.lua.run(Route::Pool(pool), keys, args).await
    }

    /// Runs the script in the jobs database of a replica whose data is not older than the settings permit. `None` if no
    /// replica is fresh enough, or if the script tries to write.
    pub(crate) async fn run_on_replica<T: FromValue>(
        &self,
        redis: &Redis,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Option<T> {
        self.lua.run_on_replica(redis.backend().replicas()?, keys, args).await
    }

    /// Runs a script about a job; the keys of the job and the arguments of all such scripts are added here.
    ///
    /// # Errors
    ///
    /// See [`Script::run`].
    pub(crate) async fn run_for_job<T: FromValue>(
        &self,
        redis: &Redis,
        job: JobId,
        retention: JobRetention,
        args: Vec<Value>,
    ) -> Result<T> {
        let context = JobScriptContext { redis, job, retention };
        let names = job_keys(job, self.job_key_count);
        self.run(context.keyspace(), names, context.args(args)?).await
    }

    /// [`Script::run_for_job`] on a replica; see [`Script::run_on_replica`].
    pub(crate) async fn run_for_job_on_replica<T: FromValue>(
        &self,
        context: &JobScriptContext<'_>,
        args: Vec<Value>,
    ) -> Option<T> {
        let keys = job_keys(context.job, self.job_key_count);
        self.run_on_replica(context.redis, keys, context.args(args).ok()?).await
    }

    /// [`Script::run_for_job`] with one more key, until as many replicas as the settings require have its writes.
    ///
    /// # Errors
    ///
    /// See [`Script::run`], and [`crate::error::Error::NotReplicated`].
    pub(crate) async fn run_for_job_replicated<T: FromValue>(
        &self,
        context: &JobScriptContext<'_>,
        extra_key: Option<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        let (keyspace, args) = (context.keyspace(), context.args(args)?);
        let mut names = job_keys(context.job, self.job_key_count);
        names.extend(extra_key);
        match keyspace.replicated_route() {
            Some(route) => self.lua.run_replicated(route, keyspace.keys(names), args).await,
            None => self.run(keyspace, names, args).await,
        }
    }

    /// Runs a script about cached values; the arguments of all such scripts are added here.
    ///
    /// # Errors
    ///
    /// See [`Script::run`].
    pub(crate) async fn run_for_cache<T: FromValue>(
        &self,
        keyspace: Keyspace<'_>,
        names: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        let prefixes = CACHE_PREFIXES.iter().map(|prefix| Value::from(keyspace.key(prefix)));
        let args = prefixes.chain(args).collect();
        self.run(keyspace, names, args).await
    }
}

impl<'a> JobScriptContext<'a> {
    fn keyspace(&self) -> Keyspace<'a> {
        self.redis.keyspace(Database::Jobs, Partition::for_job(self.job))
    }

    /// The arguments of all scripts about a job, followed by the script's own.
    fn args(&self, own: Vec<Value>) -> Result<Vec<Value>> {
        let mut args = Vec::with_capacity(own.len() + 4);
        args.push(Value::from_static_str(self.redis.layout().as_str()));
        args.push(Value::from(self.job.to_string()));
        args.push(Value::try_from(self.retention.ttl_secs)?);
        args.push(Value::try_from(self.retention.stream_length)?);
        args.extend(own);
        Ok(args)
    }
}
