//! Lua scripts: compiled in from `migrations-lua`, run by their hash, loaded again when Redis forgot them.

use std::{pin::Pin, sync::OnceLock};

use fred::{
    clients::Client,
    types::{FromValue, Key, Value, scripts::Script as Loaded},
};

use super::{
    Database, Partition, Place, Redis, Server,
    keys::{CACHE_PREFIXES, N_JOB_KEYS, N_JOB_KEYS_TO_READ, job_keys},
    server::{Failure, Twice},
};
use crate::{
    error::{Error, Result},
    ids::JobId,
};

/// What `shared/job.lua` gives every script about a job, and to those that change it `shared/lifecycle.lua`.
const ABOUT_JOB: &str = include_str!("../../migrations-lua/shared/job.lua");
const LIFECYCLE: &str = include_str!("../../migrations-lua/shared/lifecycle.lua");
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
    concat!("\nend\n", include_str!("../../migrations-lua/shared/migrations.lua"));

/// A script, compiled in.
///
/// One that is not [`Script::repeatable`] is repeated only when Redis has certainly not run it.
pub(crate) struct Script {
    parts: [&'static str; 4],
    /// How many keys of the job it is about it takes.
    n_job_keys: usize,
    twice: Twice,
    loaded: OnceLock<Loaded>,
}

impl Script {
    /// `text` is a file below `migrations-lua`.
    pub(crate) const fn new(text: &'static str) -> Self {
        Self::of(["", "", text, ""], 0)
    }

    /// `text` is a file below `migrations-lua` that stands on `shared/job.lua` and reads what that names.
    pub(crate) const fn reads_job(text: &'static str) -> Self {
        Self::of([ABOUT_JOB, "", text, ""], N_JOB_KEYS_TO_READ)
    }

    /// `text` is a file below `migrations-lua` that stands on `shared/job.lua` and `shared/lifecycle.lua`.
    pub(crate) const fn about_job(text: &'static str) -> Self {
        Self::of([ABOUT_JOB, LIFECYCLE, text, ""], N_JOB_KEYS)
    }

    /// `text` is a file below `migrations-lua` that stands on `shared/cache.lua`.
    pub(crate) const fn about_cache(text: &'static str) -> Self {
        Self::of([ABOUT_CACHE, "", text, ""], 0)
    }

    /// `text` is a file below `migrations-lua/migrations`, run piece by piece by `shared/migrations.lua`.
    pub(crate) const fn of_schema(text: &'static str) -> Self {
        // A piece and where the next begins are written together.
        Self::of([BEFORE_SCHEMA, "", text, AFTER_SCHEMA], 0).repeatable()
    }

    const fn of(parts: [&'static str; 4], n_job_keys: usize) -> Self {
        Self { parts, n_job_keys, twice: Twice::Differs, loaded: OnceLock::new() }
    }

    /// The same, declared to have no other effect when it is run twice than when it is run once.
    pub(crate) const fn repeatable(mut self) -> Self {
        self.twice = Twice::IsOnce;
        self
    }

    fn loaded(&self) -> Loaded {
        self.loaded.get_or_init(|| Loaded::from_lua(self.parts.concat())).clone()
    }

    /// Runs the script on the keys with these names: one round trip, or three after Redis lost its scripts.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; [`Error::Corrupt`] for an answer of another shape than `T`.
    pub(crate) async fn run<T: FromValue>(
        &self,
        place: Place<'_>,
        names: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        let call = self.call(place.keys(names), args);
        parse(place.repeat(self.twice, call).await?)
    }

    /// Runs the script on a server that is not ours to lay out, such as a broker.
    ///
    /// # Errors
    ///
    /// As [`Script::run`].
    pub(crate) async fn run_on_server<T: FromValue>(
        &self,
        server: &Server,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        parse(server.repeat(self.twice, self.call(keys, args)).await?)
    }

    fn call(
        &self,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> impl Fn(Client) -> Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>> + use<>
    {
        let script = self.loaded();
        move |client| {
            let (script, keys, args) = (script.clone(), keys.clone(), args.clone());
            Box::pin(async move { Ok(script.evalsha_with_reload(&client, keys, args).await?) })
        }
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
        let keys = job_keys(target.job, self.n_job_keys);
        self.run_on_replica(target.redis, keys, target.args(args).ok()?).await
    }

    /// Runs a script of [`Script::reads_job`] or [`Script::about_job`] on the keys of `job`; what all of these take first is added to
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
        let target = Target { redis, job, retention };
        self.run(target.place(), job_keys(job, self.n_job_keys), target.args(args)?).await
    }

    /// Runs a script of [`Script::about_cache`]; what all of these take first is added to `args` here.
    ///
    /// # Errors
    ///
    /// As [`Script::run`].
    pub(crate) async fn run_on_cache<T: FromValue>(
        &self,
        place: Place<'_>,
        names: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        let prefixes = CACHE_PREFIXES.iter().map(|it| Value::from(place.key(it)));
        let all = prefixes.chain(args).collect();
        self.run(place, names, all).await
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
        let mut names = job_keys(target.job, self.n_job_keys);
        names.extend(one_more);
        let (place, args) = (target.place(), target.args(args)?);
        if !target.redis.is_durable() {
            return self.run(place, names, args).await;
        }
        let keys = place.keys(names);
        parse(place.run_durably(self.twice, &self.loaded(), keys, args).await?)
    }
}

impl<'a> Target<'a> {
    fn place(&self) -> Place<'a> {
        self.redis.at(Database::Jobs, Partition::of_job(self.job))
    }

    /// The script's own arguments behind those that all scripts about a job take.
    fn args(&self, own: Vec<Value>) -> Result<Vec<Value>> {
        let mut all = Vec::with_capacity(own.len() + 4);
        all.push(Value::from_static_str(self.redis.layout().as_str()));
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
