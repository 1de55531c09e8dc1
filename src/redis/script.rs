//! Lua scripts: run by their hash, and loaded again after Redis lost them.

use std::sync::OnceLock;

use fred::types::{FromValue, Key, Value, scripts::Script as LoadedScript};

use super::{
    call::{ReplicatedRoute, Route, call_with_retry, run_replicated},
    call_error::Idempotency,
    replicas::Replicas,
};
use crate::error::{Error, Result};

/// A script that is compiled into the program.
pub(crate) struct LuaScript {
    parts: [&'static str; 4],
    idempotency: Idempotency,
    loaded: OnceLock<LoadedScript>,
}

impl LuaScript {
    /// The script that consists of these parts. Until [`LuaScript::set_idempotent`] it is sent again only if Redis has
    /// certainly not executed it.
    pub(crate) const fn concat(parts: [&'static str; 4]) -> Self {
        Self { parts, idempotency: Idempotency::NonIdempotent, loaded: OnceLock::new() }
    }

    /// Declares that running the script twice has the same effect as running it once.
    pub(crate) const fn set_idempotent(&mut self) {
        self.idempotency = Idempotency::Idempotent;
    }

    fn loaded(&self) -> &LoadedScript {
        self.loaded.get_or_init(|| LoadedScript::from_lua(self.parts.concat()))
    }

    /// Runs the script: one round trip, or three after Redis lost its scripts.
    ///
    /// # Errors
    ///
    /// [`Error::RedisUnavailable`]; [`Error::CorruptData`] for a reply that is not a `T`.
    pub(crate) async fn run<T: FromValue>(
        &self,
        route: Route<'_>,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        let script = self.loaded();
        let run = |client| {
            let (keys, args) = (keys.clone(), args.clone());
            async move { script.evalsha_with_reload::<Value, _, _>(&client, keys, args).await }
        };
        parse(call_with_retry(route, self.idempotency, run).await?)
    }

    /// [`LuaScript::run`] until as many replicas as the settings require have its writes.
    ///
    /// # Errors
    ///
    /// See [`LuaScript::run`], and [`Error::NotReplicated`].
    pub(crate) async fn run_replicated<T: FromValue>(
        &self,
        route: ReplicatedRoute<'_>,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<T> {
        parse(run_replicated(route, self.idempotency, self.loaded(), (keys, args)).await?)
    }

    /// Runs the script on a replica that is fresh enough. `None` without such a replica, if it does not answer in time, or if the
    /// script tries to write.
    pub(crate) async fn run_on_replica<T: FromValue>(
        &self,
        replicas: &Replicas,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Option<T> {
        let script = self.loaded();
        let run = |client| async move {
            script.evalsha_with_reload::<Value, _, _>(&client, keys, args).await
        };
        parse(replicas.call(run).await?).ok()
    }
}

fn parse<T: FromValue>(reply: Value) -> Result<T> {
    T::from_value(reply).map_err(|error| Error::CorruptData {
        what: "reply of a script",
        reason: error.to_string(),
    })
}
