//! The composition root: builds each component once, runs all of them, and shuts them down in order.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    api::{
        router::{Router, router},
        state::{AppState, StateFields},
    },
    auth::{self, ApiKeys, StreamTickets},
    cache::Cache,
    celery::Celery,
    cleanup::{Cleanup, Lifetimes},
    config::Config,
    counters::Counters,
    health::Health,
    http::{Server, Tls},
    jobs::Jobs,
    locks::Locks,
    migrations::Migrator,
    models::Models,
    progress::Progress,
    rate_limit::RateLimiter,
    settings::Environment,
    sse::Hub,
    store::{JobRetention, Redis},
    tasks::TaskSupervisor,
    webhooks::Webhooks,
    workers::Workers,
};

/// The service, bound to its port but not yet serving requests.
pub struct App {
    server: Server,
    router: Router,
    state: AppState,
    tasks: TaskSupervisor,
    shutdown_delay: Duration,
    shutdown_timeout: Duration,
}

/// Reloads the settings that can change without a restart: keys, ticket secrets and the TLS certificate.
pub struct ReloadHandle {
    keys: ApiKeys,
    tickets: StreamTickets,
    tls: Option<Tls>,
}

impl ReloadHandle {
    /// Replaces the keys, ticket secrets and certificate with those of `config`. Open connections are kept.
    ///
    /// # Errors
    ///
    /// If the certificate or its key is invalid; nothing changes in that case.
    pub fn reload(&self, config: &Config) -> Result<()> {
        if let Some(tls) = &self.tls {
            tls.reload(&config.server)?;
        }
        self.keys.reload(&config.auth);
        self.tickets.reload(&config.auth);
        Ok(())
    }
}

impl App {
    /// Binds the port, starts to connect to Redis, and builds the other components.
    ///
    /// # Errors
    ///
    /// If the port is in use, the embedded Redis does not start, or a setting is invalid.
    pub async fn bind(config: Config) -> Result<Self> {
        let proxies = config.rate_limit.trusted_proxies.iter().map(|proxy| proxy.net()).collect();
        let server = Server::bind(&config.server, proxies)?;
        let tasks = TaskSupervisor::default();
        let redis = Redis::start(&config.redis, &tasks).await?;
        let rejected = redis.metrics().refused_connections.clone();
        let server = server.on_connection_rejected(move || _ = rejected.inc());
        let state = Self::build(&config, &redis, &tasks)?;
        if config.auth.mode == auth::Mode::Open {
            warn!("auth.mode is \"open\": every key is accepted, with all roles");
        }
        if config.environment == Environment::Production
            && config.cors.origins.iter().any(|origin| origin == "*")
        {
            warn!("cors.origins is \"*\": every origin is allowed");
        }
        Ok(Self {
            router: router(state.clone(), &config)?,
            server,
            state,
            tasks,
            shutdown_delay: config.server.shutdown_delay,
            shutdown_timeout: config.server.shutdown_timeout,
        })
    }

    /// The router with all middleware, for benchmarks that send requests without a socket.
    #[cfg(feature = "bench-internals")]
    #[doc(hidden)]
    pub fn into_router(self) -> Router {
        self.router
    }

    fn build(config: &Config, redis: &Redis, tasks: &TaskSupervisor) -> Result<AppState> {
        let retention = JobRetention {
            ttl_secs: config.jobs.ttl.as_secs(),
            stream_length: config.progress.stream_length,
        };
        let celery = Celery::start(&config.celery, &config.redis, redis, tasks)?;
        let jobs = Jobs::new(redis.clone(), config.jobs.clone(), retention, celery.clone());
        jobs.spawn_owner_index_refresher(tasks);
        let progress = Progress::new(redis.clone(), retention, config.jobs.max_files);
        let cache = Cache::new(redis.clone(), config.cache.clone(), tasks.clone());
        let locks = Self::locks(config, redis, tasks);
        let workers = celery.map(|celery| {
            Workers::start(celery, jobs.clone(), progress.clone(), locks.clone(), tasks)
        });
        let schema =
            Migrator::new(redis.clone(), locks.clone(), retention, config.cleanup.duty_cycle);
        schema.start(tasks);
        let maintenance = Self::maintenance(config, redis, &locks, retention, tasks);
        maintenance.start();
        let drain_spread = config.server.drain_spread;
        let keys = ApiKeys::new(&config.auth, redis.clone());
        let tickets = StreamTickets::new(&config.auth, redis.clone());
        let refresher = auth::run_refresher(
            keys.clone(),
            tickets.clone(),
            redis.subscriber().clone(),
            tasks.shutdown_token(),
        );
        tasks.spawn_critical("keys", refresher);
        Ok(AppState::new(StateFields {
            keys,
            tickets,
            progress,
            workers,
            hub: Hub::start(redis.clone(), jobs.clone(), config.sse.clone(), drain_spread, tasks)?,
            webhooks: Webhooks::start(redis.clone(), config.webhooks.clone(), retention, tasks)?,
            counters: Counters::start(redis.clone(), config.shared_metrics.clone(), tasks),
            metrics: redis.metrics().clone(),
            health: Health::new(redis.clone(), config.health.clone()),
            limiter: RateLimiter::new(
                &config.rate_limit,
                config.jobs.max_files,
                config.sse.retry,
                redis.clone(),
            ),
            schema,
            maintenance,
            jobs,
            locks,
            models: Models::new(cache.clone(), config.models.clone())?,
            cache,
        }))
    }

    fn maintenance(
        config: &Config,
        redis: &Redis,
        locks: &Locks,
        retention: JobRetention,
        tasks: &TaskSupervisor,
    ) -> Cleanup {
        let lifetimes = Lifetimes {
            jobs: retention,
            cached_status: config.jobs.status_cache_ttl,
            metrics: config.shared_metrics.ttl,
        };
        Cleanup::new((redis.clone(), locks.clone()), &config.cleanup, lifetimes, tasks)
    }

    fn locks(config: &Config, redis: &Redis, tasks: &TaskSupervisor) -> Locks {
        let mut lock_config = config.locks.clone();
        // A request that waits for a lock must get its response before the request times out.
        let max_wait = config.server.request_timeout.saturating_sub(config.redis.command_timeout);
        lock_config.max_wait = lock_config.max_wait.min(max_wait);
        Locks::new(redis.clone(), lock_config, tasks.clone())
    }

    /// The handle that applies changed settings while the service runs.
    pub fn reload_handle(&self) -> ReloadHandle {
        ReloadHandle {
            keys: self.state.keys.clone(),
            tickets: self.state.tickets.clone(),
            tls: self.server.tls(),
        }
    }

    /// The address on which the service listens. Port 0 is replaced by the assigned port.
    ///
    /// # Errors
    ///
    /// If the operating system does not report it.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.server.local_addr()?)
    }

    /// Serves until `stop` completes or a critical task ends. Then shuts down: fails the readiness probe, closes
    /// streams, finishes requests, and stops all tasks. Each step has a time limit.
    ///
    /// # Errors
    ///
    /// If a critical task ended early, or the data migrations failed.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let Self { server, router, state, tasks, shutdown_delay, shutdown_timeout } = self;
        let stop_accepting = CancellationToken::new();
        let serving = server.run(router, &tasks, stop_accepting.clone(), shutdown_timeout);
        tokio::pin!(serving);

        let tasks_stopped = tasks.shutdown_token();
        let task_failed = tokio::select! {
            () = stop => false,
            () = tasks_stopped.cancelled() => true,
            _ = &mut serving => true,
        };
        info!("stopping");
        state.health.drain();
        let drain = async {
            tokio::time::sleep(shutdown_delay).await;
            // Releasing locks needs Redis, so this precedes the end of the connections.
            state.locks.drain().await;
            state.hub.drain();
            stop_accepting.cancel();
        };
        let (all_finished, ()) = tokio::join!(serving, drain);
        if let Err(error) = state.counters.flush().await {
            warn!(%error, "cannot write the last shared metrics; they are lost");
        }
        let all_ended = tasks.shutdown(shutdown_timeout).await;
        if let Some(failure) = state.schema.failure() {
            bail!("{failure}");
        }
        if task_failed {
            bail!("a part of the service ended unexpectedly; see the log");
        }
        if !all_finished || !all_ended {
            warn!("shutdown timed out; some requests or tasks were aborted");
        }
        info!("stopped");
        Ok(())
    }
}
